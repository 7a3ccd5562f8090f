import copy
import math
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from dropkit.errors import DropkitError
from dropkit.functional import dropout
from dropkit.layers import Dropout, Dropout2d, keyed
from dropkit.masks import Key, Rate, keep, site_of

N = 100_003


def outcome(call):
    """What a call returns, or the type and text of what it raises."""
    try:
        return call()
    except Exception as raised:
        return type(raised), str(raised)


# What is dropped and what is kept


@settings(max_examples=60)
@given(
    shape=st.lists(st.integers(0, 7), max_size=4),
    p=st.floats(0, 1),
    seed=st.integers(0, 2**64 - 1),
    first=st.integers(0, 50),
    inplace=st.booleans(),
)
def test_the_mask_is_that_of_the_definition(shape, p, seed, first, inplace):
    layer = Dropout(p, inplace)
    with keyed(nn.ModuleDict({"drop": layer}), seed=seed, step=5, first_sample=first):
        y = layer(torch.ones(shape))
    samples = shape[0] if shape else 1
    units = math.prod(shape[1:])
    rate = Rate.of(p)
    kept = keep(samples, units, rate, Key(seed, site_of("drop"), 5, first)).view(shape)
    assert y.shape == kept.shape
    assert torch.equal(y, kept * torch.tensor(rate.scale))


def test_channels_last_gets_the_mask_of_contiguous():
    x = torch.randn(3, 5, 7, 11)
    layer = Dropout(0.4)
    with keyed(layer, seed=1, step=1):
        a, b = layer(x), layer(x.to(memory_format=torch.channels_last))
    assert torch.equal(a, b)
    assert b.is_contiguous(memory_format=torch.channels_last)
    assert a.is_contiguous()


@pytest.mark.parametrize("p", [1e-4, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_expectation_and_realised_rate(p):
    torch.manual_seed(11)
    rate = Rate.of(p)
    y = Dropout(p)(torch.ones(7, N // 7))
    n = y.numel()
    dropped = int((y == 0).sum())
    error = (n * rate.p * rate.q) ** 0.5
    assert 0 < dropped < n
    assert abs(dropped - n * rate.p) < 5 * error
    # The mean of the output estimates the input's mean, 1.
    assert abs(float(y.double().mean()) - 1) < 5 * error * rate.scale / n + 1e-6
    assert torch.equal(y[y != 0].unique(), torch.tensor([rate.scale]))


def test_calls_are_independent():
    torch.manual_seed(13)
    layer, p, calls = Dropout(0.5), 0.5, 5
    kept = torch.stack([layer(torch.ones(N)) != 0 for _ in range(calls)]).double() - (1 - p)
    covariance = kept @ kept.T / N
    off = covariance - covariance.diag().diag()
    assert off.abs().max() < 5 * p * (1 - p) / N**0.5


# Conventions


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("inplace", [False, True])
def test_weight_scaling_has_the_same_expectation(p, inplace):
    rate = Rate.of(p)
    x = torch.linspace(1, 2, N)
    inverted, scaling = Dropout(p, inplace), Dropout(p, inplace, convention="weight-scaling")
    layers = nn.ModuleList([inverted])
    with keyed(layers, seed=1, step=1), keyed(nn.ModuleList([scaling]), seed=1, step=1):
        a, b = inverted(x.clone()), scaling(x.clone())
    # The same thinned network, but for the factor.
    torch.testing.assert_close(a * rate.q, b, rtol=3e-7, atol=0)
    assert torch.equal(b, torch.where(b != 0, x, 0.0))
    inverted.eval(), scaling.eval()
    assert torch.equal(inverted(x.clone()), x)
    assert torch.equal(scaling(x.clone()), x * rate.q)
    error = (rate.p * rate.q / N) ** 0.5 * 2
    assert abs(float(b.double().mean() - scaling(x.clone()).double().mean())) <= 5 * error


def test_weight_scaling_gradients_in_eval():
    x = torch.tensor([1.0, float("inf"), 3.0], requires_grad=True)
    Dropout(1.0, convention="weight-scaling").eval()(x).sum().backward()
    assert torch.equal(x.grad, torch.zeros(3))
    x.grad = None
    Dropout(0.25, convention="weight-scaling").eval()(x).sum().backward()
    assert torch.equal(x.grad, torch.full((3,), 0.75))


def test_unknown_convention():
    with pytest.raises(DropkitError, match=r"unknown convention 'weight-scalin'.*Did you mean 'weight-scaling'"):
        Dropout(convention="weight-scalin")


def test_repr_shows_the_convention():
    assert "convention='weight-scaling'" in repr(Dropout(convention="weight-scaling"))


# Drop-in for torch.nn


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("training", [False, True])
def test_where_torch_returns_the_input_so_do_we(p, training):
    for shape in ((), (3,), (3, 5), (0, 5)):
        x = torch.ones(shape)
        assert (dropout(x, p, training) is x) == (F.dropout(x, p, training) is x)
        assert (Dropout(p).train(training)(x) is x) == (F.dropout(x, p, training) is x)


@pytest.mark.parametrize("given", [5, None, [1.0], torch.ones(3, dtype=torch.int64)])
def test_refuses_the_input_that_torch_refuses(given):
    assert outcome(lambda: dropout(given, 0.5)) == outcome(lambda: F.dropout(given, 0.5))
    assert outcome(lambda: Dropout()(given)) == outcome(lambda: nn.Dropout()(given))


@pytest.mark.parametrize("p", [-1, 1.5, "half", None])
@pytest.mark.parametrize("training", [False, True])
def test_functional_refuses_p(p, training):
    ours, theirs = (outcome(lambda f=f: f(torch.ones(3), p, training)) for f in (dropout, F.dropout))
    if isinstance(p, (int, float)):
        assert ours == theirs
    else:
        assert ours[0] is theirs[0] is TypeError


@pytest.mark.parametrize("p", [True, float("nan")])
def test_functional_refuses_what_torch_lets_through(p):
    with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1, but got"):
        dropout(torch.ones(3), p, training=False)


@pytest.mark.parametrize("p", [0.5, 1.0])
def test_in_place(p):
    x = torch.ones(3, 5, requires_grad=True)
    assert outcome(lambda: dropout(x, p, inplace=True)) == outcome(lambda: F.dropout(x, p, inplace=True))
    y = x + 0
    assert dropout(y, p, inplace=True) is y
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_in_place_after_an_activation_that_needs_its_output():
    x = torch.ones(3, 5, requires_grad=True)
    y = dropout(torch.sigmoid(x), 0.5, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(dtype):
    x = torch.ones(3, 5, dtype=dtype)
    assert dropout(x).dtype == dtype
    assert dropout(x, 1.0).dtype == dtype


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("inplace", [False, True])
def test_the_ends_are_exact(p, inplace):
    x = torch.tensor([1.0, 0.1, float("inf"), float("nan")], requires_grad=True)
    state = torch.get_rng_state()
    y = Dropout(p, inplace)(x * 1)
    y.backward(torch.tensor([1.0, 3.0, float("inf"), float("nan")]))
    if p:
        assert torch.equal(y, torch.zeros(4))
        assert torch.equal(x.grad, torch.zeros(4))
    else:
        assert torch.equal(y[:3], x[:3])
        assert torch.equal(x.grad[:3], torch.tensor([1.0, 3.0, float("inf")]))
    assert torch.equal(torch.get_rng_state(), state)


# Randomness in the default mode


def test_manual_seed_reproduces():
    layer, x = Dropout(0.5), torch.ones(7, 11)
    torch.manual_seed(17)
    first, second = layer(x), layer(x)
    torch.manual_seed(17)
    assert torch.equal(layer(x), first)
    assert torch.equal(dropout(x), second)
    assert not torch.equal(first, second)


def test_fork_rng_hides_the_draws():
    torch.manual_seed(19)
    expected = dropout(torch.ones(7, 11))
    torch.manual_seed(19)
    with torch.random.fork_rng(devices=[]):
        dropout(torch.ones(5))
    assert torch.equal(dropout(torch.ones(7, 11)), expected)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_recomputes_the_same_mask(reentrant):
    torch.manual_seed(23)
    block = nn.Sequential(nn.Linear(7, 11), Dropout(0.5), nn.Linear(11, 3), nn.Tanh(), Dropout(0.3))
    x = torch.randn(5, 7, requires_grad=True)
    gradients = []
    for run in (lambda x: block(x), lambda x: checkpoint(block, x, use_reentrant=reentrant)):
        torch.manual_seed(29)
        y = run(x).sum()
        dropout(torch.ones(3))  # another draw between forward and the recomputation
        gradients.append(torch.autograd.grad(y, [x, *block.parameters()]) if not reentrant else backward(y, x, block))
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)
    assert all((gradient != 0).any() for gradient in gradients[0])


def backward(y, x, block):
    """Gradients through backward(), the only way with a reentrant checkpoint."""
    block.zero_grad()
    x.grad = None
    y.backward()
    return [x.grad.clone(), *(parameter.grad.clone() for parameter in block.parameters())]


def test_a_copy_draws_its_own_masks():
    layer = Dropout(0.5)
    twin, x = copy.deepcopy(layer), torch.ones(7, 11)
    assert not torch.equal(layer(x), twin(x))


class NoHostRead(TorchDispatchMode):
    """Refuses every operation that brings a tensor's value to Python and so waits for a device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("under_key", [False, True])
def test_no_value_is_read_by_the_host(under_key):
    layers = nn.Sequential(Dropout(0.5), nn.Unflatten(1, (5, 1, 1)), Dropout2d(0.001))
    x = torch.ones(7, 5, requires_grad=True)
    with keyed(layers, seed=1, step=2) if under_key else nullcontext(), NoHostRead():
        layers(x).sum().backward()
        with pytest.raises(AssertionError):
            x.sum().item()


def test_functorch_gradient():
    x = torch.ones(5, 7)
    torch.manual_seed(31)
    gradient = torch.func.grad(lambda x: dropout(x, 0.5).sum())(x)
    torch.manual_seed(31)
    assert torch.equal(gradient, dropout(x, 0.5))
