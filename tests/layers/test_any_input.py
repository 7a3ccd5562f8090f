"""Any shape, dtype, memory format and rate, for every layer: the reference's result, or an error that the docs name."""

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dropkit
from dropkit.errors import DropkitError

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64)
RATES = st.sampled_from([0.0, 1.0, 0.5, 0.1, 0.999]) | st.floats(0.0, 1.0)
LAYERS = {
    "Dropout": dropkit.Dropout,
    "Dropout, weight scaling": lambda p: dropkit.Dropout(p, convention="weight-scaling"),
    "Dropout1d": dropkit.Dropout1d,
    "Dropout2d": dropkit.Dropout2d,
    "Dropout3d": dropkit.Dropout3d,
    "AlphaDropout": dropkit.AlphaDropout,
    "FeatureAlphaDropout": dropkit.FeatureAlphaDropout,
    "GaussianDropout": dropkit.GaussianDropout,
    "DropBlock1d": lambda p: dropkit.DropBlock1d(p, 3),
    "DropBlock2d": lambda p: dropkit.DropBlock2d(p, 3),
    "DropBlock3d": lambda p: dropkit.DropBlock3d(p, 3),
    "DropPath": dropkit.DropPath,
    "ReLUDropout": dropkit.ReLUDropout,
}
SCALED = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "DropPath", "ReLUDropout")  # kept is x / (1 - p), else 0
ERRORS = (ValueError, TypeError, RuntimeError, NotImplementedError, DropkitError)


@st.composite
def inputs(draw):
    """A tensor of any shape, dtype and layout."""
    shape = draw(st.lists(st.integers(0, 5), max_size=5))
    dtype = draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    x = (3 * torch.randn(shape, generator=generator)).to(dtype)
    layout = draw(st.sampled_from(["plain", "transposed", "strided", "channels last", "expanded"]))
    if layout == "transposed" and x.dim() > 1:
        x = x.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "strided":
        x = torch.stack([x, x], -1)[..., 0]
    if layout == "channels last" and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    if layout == "expanded" and x.dim() > 0 and x.shape[0] > 0:
        x = x[:1].expand(x.shape)
    return x


def called(layer, x, step=0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's and ours, of ranks that are taken for something else
        with dropkit.keyed(layer, seed=5, step=step):
            return layer(x)


@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=60)
@given(x=inputs(), p=RATES)
def test_it_gives_the_shape_or_says_why_not(name, x, p):
    try:
        layer = LAYERS[name](p)
    except ERRORS:  # DropBlock takes no rate that blocks cannot reach
        return
    before = x.clone()
    try:
        out = called(layer, x)
    except ERRORS:
        return
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    assert torch.equal(x, before)
    assert torch.equal(called(layer, x), out) or out.isnan().any()  # keyed: the same again
    layer.eval()
    if name == "Dropout, weight scaling":
        return
    expected = x.relu() if name == "ReLUDropout" and x.is_floating_point() else x
    if name != "ReLUDropout" or x.is_floating_point():
        assert torch.equal(called(layer, x), expected)


@pytest.mark.parametrize("name", SCALED)
@settings(max_examples=60)
@given(x=inputs(), p=RATES)
def test_what_is_kept_is_scaled_and_the_rest_is_zero(name, x, p):
    """The masks are of the key and the shape alone: ones show them."""
    if not x.is_floating_point():
        return
    layer = LAYERS[name](p)
    try:
        kept = called(layer, torch.ones_like(x, dtype=torch.float64)) != 0
    except ERRORS:
        return
    out = called(layer, x)
    value = x.relu() if name == "ReLUDropout" else x
    scale = 1 / (1 - p) if p < 1 else 0.0
    expected = torch.where(kept, value.double() * scale, 0.0).to(x.dtype)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[x.dtype]
    torch.testing.assert_close(out, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", [name for name in SCALED if name != "ReLUDropout"])
@settings(max_examples=40)
@given(x=inputs(), p=st.floats(0.0, 0.9))
def test_gradients_are_those_of_the_mask(name, x, p):
    if x.dtype not in (torch.float32, torch.float64):
        return
    layer = LAYERS[name](p)
    x = x.detach().requires_grad_()
    try:
        out = called(layer, x)
    except ERRORS:
        return
    out.sum().backward()
    kept = called(layer, torch.ones_like(x, dtype=torch.float64)) != 0
    expected = torch.where(kept, 1 / (1 - p), 0.0).to(x.dtype)
    torch.testing.assert_close(x.grad, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=30)
@given(p=st.sampled_from([-0.1, 1.1, float("nan"), float("inf"), None, "0.5x", [], 2]))
def test_rates_that_are_none_are_refused(name, p):
    with pytest.raises((ValueError, TypeError)):
        LAYERS[name](p)


FORMS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.filterwarnings("ignore")  # torch's own, of ranks
@settings(max_examples=60)
@given(x=inputs(), p=RATES, training=st.booleans(), inplace=st.booleans())
def test_a_functional_form_takes_what_torchs_does(name, x, p, training, inplace):
    forms = (getattr(torch.nn.functional, name), getattr(dropkit.functional, name))
    outcomes = []
    for form in forms:
        try:
            outcomes.append(form(x.clone(), p, training, inplace))
        except ERRORS as refusal:
            outcomes.append(refusal)
    theirs, ours = outcomes
    if isinstance(theirs, torch.Tensor):
        assert isinstance(ours, torch.Tensor), f"torch takes it, and dropkit says: {ours}"
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        if not training or p == 0:
            assert torch.equal(ours, theirs)


@settings(max_examples=60)
@given(x=inputs(), p=st.floats(0.01, 0.99))
def test_a_learned_rate_gives_the_shape_or_says_why_not(x, p):
    for make in (dropkit.ConcreteDropout, dropkit.ConcreteDropout2d):
        layer = make(p)
        try:
            out = called(layer, x)
        except ERRORS:
            continue
        assert (out.shape, out.dtype) == (x.shape, x.dtype)
        assert torch.equal(called(layer, x), out) or out.isnan().any()
        assert torch.equal(called(layer.eval(), x), x)


@settings(max_examples=60)
@given(x=inputs(), p=RATES, per_sample=st.booleans())
def test_dropped_weights_are_those_of_the_key(x, p, per_sample):
    torch.manual_seed(0)
    features = x.shape[-1] if x.dim() and x.shape[-1] else 3
    linear = torch.nn.Linear(features, 4)
    layer = dropkit.DropConnect(linear, p, per_sample=per_sample)
    try:
        out = called(layer, x)
    except ERRORS:
        return
    assert out.shape == (*x.shape[:-1], 4)
    assert torch.equal(called(layer, x), out) or out.isnan().any()
    torch.testing.assert_close(called(layer.eval(), x), torch.nn.functional.linear(x, linear.weight, linear.bias))
