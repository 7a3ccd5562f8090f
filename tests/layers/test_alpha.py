import inspect
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dropkit.layers import keyed
from dropkit.layers.alpha import AlphaDropout, FeatureAlphaDropout, alpha_dropout, feature_alpha_dropout
from dropkit.masks import Key, Rate, keep, site_of

LAYERS = [AlphaDropout, FeatureAlphaDropout]
PAIRS = [(alpha_dropout, F.alpha_dropout), (feature_alpha_dropout, F.feature_alpha_dropout)]
SELU_LIMIT = float(F.selu(torch.tensor(-1e4, dtype=torch.float64)))  # what dropped units take


def outcome(call):
    """What a call returns, or the type and text of what it raises."""
    try:
        return call()
    except Exception as raised:
        return type(raised), str(raised)


def affine(rate):
    """a and b as the paper writes them: (q + a'^2 q (1 - q))^(-1/2) and -a (1 - q) a'."""
    a = (rate.q + SELU_LIMIT**2 * rate.q * rate.p) ** -0.5
    return a, -a * rate.p * SELU_LIMIT


def expected(x, kept, rate):
    """The definition, each operation rounded in x's dtype."""
    a, b = affine(rate)
    return torch.where(kept, x, torch.tensor(SELU_LIMIT, dtype=x.dtype)) * a + b


def check(y, expected):
    """The same bits; in float64 what the last bit of a may do."""
    if y.dtype == torch.float64:
        torch.testing.assert_close(y, expected, rtol=1e-14, atol=1e-14)
    else:
        assert torch.equal(y, expected)


def random(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=dtype)


def under_key(layer, x, first=0):
    with keyed(nn.ModuleDict({"drop": layer}), seed=2**63 + 1, step=5, first_sample=first):
        return layer(x)


# The definition


@settings(max_examples=60)
@given(
    shape=st.lists(st.integers(1, 7), max_size=4),
    p=st.floats(0.002, 0.998),
    first=st.integers(0, 50),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_units(shape, p, first, dtype):
    x, rate = random(*shape, dtype=dtype), Rate.of(p)
    kept = keep(shape[0] if shape else 1, math.prod(shape[1:]), rate, Key(2**63 + 1, site_of("drop"), 5, first))
    y = under_key(AlphaDropout(p), x, first)
    assert y.shape == x.shape
    check(y, expected(x, kept.view(shape), rate))


@settings(max_examples=60)
@given(
    shape=st.lists(st.integers(1, 7), min_size=2, max_size=5),
    p=st.floats(0.002, 0.998),
    first=st.integers(0, 50),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_channels(shape, p, first, dtype):
    x, rate = random(*shape, dtype=dtype), Rate.of(p, bits=32)
    kept = keep(*shape[:2], rate, Key(2**63 + 1, site_of("drop"), 5, first)).view(*shape[:2], *[1] * (len(shape) - 2))
    y = under_key(FeatureAlphaDropout(p), x, first)
    check(y, expected(x, kept, rate))


@pytest.mark.parametrize("p", [0.25, 0.5, 0.75])
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_values_are_torch_s(p, ours, theirs):
    """Rates on the grid, finite input: there torch's kernel is right (its `_refs` have the sign of b wrong)."""
    x = torch.full((101, 103), 0.3, dtype=torch.float64)
    found, oracle = ours(x, p, training=True).unique(), theirs(x, p, training=True).unique()
    assert len(found) == 2
    torch.testing.assert_close(found, oracle)


@pytest.mark.parametrize("p", [1e-4, 0.01, 1 / 3, 0.9, 0.999])
@pytest.mark.parametrize("layer", LAYERS)
def test_mean_0_and_variance_1_stay_exactly(layer, p):
    """The moments over mask and input, from the values at 0 and 1: all that an affine map is."""
    rate = Rate.of(p, layer.bits)
    x = torch.tensor([0.0, 1.0], dtype=torch.float64).repeat(30011, 1).T.reshape(2, 30011)
    torch.manual_seed(5)
    at0, at1 = layer(p)(x)
    (dropped,) = set(at0.tolist()) & set(at1.tolist())
    (b,) = set(at0.tolist()) - {dropped}
    (a_plus_b,) = set(at1.tolist()) - {dropped}
    assert abs(rate.q * b + rate.p * dropped) < 1e-13
    assert abs(rate.q * (b**2 + (a_plus_b - b) ** 2) + rate.p * dropped**2 - 1) < 1e-12


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_normal_input_keeps_its_moments(p):
    torch.manual_seed(11)
    n, rate = 300_007, Rate.of(p)
    y = alpha_dropout(torch.randn(n, 1, dtype=torch.float64), p, training=True)
    a, b = affine(rate)
    fourth = rate.q * (b**4 + 6 * b**2 * a**2 + 3 * a**4) + rate.p * (a * SELU_LIMIT + b) ** 4
    assert abs(float(y.mean())) < 5 / n**0.5
    assert abs(float(y.square().mean()) - 1) < 5 * ((fourth - 1) / n) ** 0.5


@pytest.mark.parametrize("layer", LAYERS)
def test_gradient_is_a_where_kept_and_0_where_dropped(layer):
    x = random(5, 7, 3).sigmoid().requires_grad_()  # above SELU's limit
    y = under_key(layer(0.3), x)
    y.sum().backward()
    dropped = y == y.min()
    a, _ = affine(Rate.of(0.3, layer.bits))
    assert 0 < int(dropped.sum()) < dropped.numel()
    assert torch.equal(x.grad, torch.where(dropped, 0, torch.tensor(a)))


# Samples and channels


def test_four_dimensions_are_pictures():
    y = under_key(FeatureAlphaDropout(0.5), torch.ones(5, 7, 3, 2))
    kept = keep(5, 7, Rate.of(0.5, bits=32), Key(2**63 + 1, site_of("drop"), 5))
    assert torch.equal(y > 0.5, kept.view(5, 7, 1, 1).expand_as(y))


@pytest.mark.parametrize("shape", [(7,), (7, 3), (7, 3, 2), (7, 3, 2, 5)])
@pytest.mark.parametrize("inplace", [False, True])
def test_one_sample_without_its_dimension_is_a_batch_of_one(shape, inplace):
    x = random(*shape).sigmoid()  # above SELU's limit
    alone = under_key(FeatureAlphaDropout(0.5, inplace, batched=False), x.clone(), first=13)
    batch = under_key(FeatureAlphaDropout(0.5), x.unsqueeze(0), first=13)
    assert torch.equal(alone, batch.squeeze(0))
    values = alone.flatten(1) if len(shape) > 1 else alone.unsqueeze(1)
    dropped = (values == values.min()).all(1)
    assert 0 < int(dropped.sum()) < 7


@pytest.mark.parametrize("shape", [(), (3,), (0,), (0, 5)])
@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("training", [False, True])
def test_few_dimensions_and_no_elements_as_torch(shape, p, training):
    ours, theirs = (outcome(lambda f=f: f(torch.ones(shape), p, training)) for f in PAIRS[1])
    assert ours == theirs if isinstance(theirs, tuple) else torch.equal(ours, theirs)
    assert alpha_dropout(torch.ones(shape), p, training).shape == shape


def test_one_sample_needs_channels():
    with pytest.raises(RuntimeError, match="of one sample requires at least 1 dimension"):
        FeatureAlphaDropout(batched=False)(torch.ones(()))


# The ends


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize("inplace", [False, True])
def test_everything_dropped_is_torch_s_zero_with_no_trace_of_the_input(ours, theirs, inplace):
    x = torch.tensor([[1.0, -2.0, float("inf"), float("nan")]], requires_grad=True)
    state = torch.get_rng_state()
    given = x * 1
    y = ours(given, 1.0, True, inplace)
    assert (y is given) == inplace
    y.backward(torch.tensor([[1.0, 3.0, float("inf"), float("nan")]]))
    assert torch.equal(y, torch.zeros(1, 4))
    assert torch.equal(x.grad, torch.zeros(1, 4))
    assert torch.equal(y[:, :2], theirs(x, 1.0, True)[:, :2])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("layer", LAYERS)
def test_zero_is_the_limit(layer):
    y = layer(1 - 1e-6)(torch.ones(2, 3))
    assert 0 < -float(y.min()) < 2e-3


@pytest.mark.parametrize("layer", LAYERS)
def test_a_rate_too_small_to_drop_changes_nothing(layer):
    x = random(5, 7)
    assert torch.equal(layer(1e-10)(x), x)


# Drop-in for torch.nn


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_signatures_are_torch_s(ours, theirs):
    assert inspect.signature(ours) == inspect.signature(theirs)


@pytest.mark.parametrize("layer", LAYERS)
def test_module_is_torch_s(layer):
    theirs = getattr(nn, layer.__name__)
    for arguments in ((), (0.2,), (0.2, True)):
        assert repr(layer(*arguments)) == repr(theirs(*arguments))
    assert list(inspect.signature(layer).parameters)[:2] == list(inspect.signature(theirs).parameters)
    assert outcome(lambda: layer(1.5)) == outcome(lambda: theirs(1.5))
    assert repr(FeatureAlphaDropout(batched=False)) == "FeatureAlphaDropout(p=0.5, inplace=False, batched=False)"


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize("training", [False, True])
def test_refuses_what_torch_refuses(ours, theirs, training):
    for p in (-1, 1.5, "half", None):
        mine, oracle = (outcome(lambda f=f, p=p: f(torch.ones(3, 5), p, training)) for f in (ours, theirs))
        assert mine[0] is oracle[0]
        assert mine == oracle or not isinstance(p, (int, float))
    for x in (5, None, [1.0]):
        mine, oracle = (outcome(lambda f=f, x=x: f(x, 0.5, training)) for f in (ours, theirs))
        assert mine == oracle
    for p in (True, float("nan")):
        with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1, but got"):
            ours(torch.ones(3, 5), p, training)


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_refuse_what_torch_s_refuse(layer):
    theirs = getattr(nn, layer.__name__)
    for x in (5, torch.ones(3, 5, dtype=torch.int64)):
        assert outcome(lambda x=x: layer()(x)) == outcome(lambda x=x: theirs()(x))
    with pytest.raises(NotImplementedError, match="not defined for complex numbers"):
        layer()(torch.ones(3, 5, dtype=torch.complex64))
    assert torch.equal(layer(1.0)(torch.ones(3, 5, dtype=torch.int64)), torch.zeros(3, 5, dtype=torch.int64))


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize("p", [0.5, 1.0])
def test_functional_in_place_as_torch(ours, theirs, p):
    x = torch.ones(3, 5)
    assert ours(x, p, True, True) is x
    assert not torch.equal(x, torch.ones(3, 5))
    leaf = torch.ones(3, 5, requires_grad=True)
    assert outcome(lambda: ours(leaf, p, True, True)) == outcome(lambda: theirs(leaf, p, True, True))


# What is kept for backward


@pytest.mark.parametrize(("layer", "most"), [(AlphaDropout, 4), (FeatureAlphaDropout, 5 * 7)])
def test_no_mask_of_units_is_saved(layer, most):
    saved = []

    def pack(tensor):
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer()(random(5, 7, 11, 3).requires_grad_())
    assert max(saved) == most
