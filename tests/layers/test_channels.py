import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit.functional as D
import dropkit.layers as L
from dropkit.masks import Key, Rate, keep, site_of

NAMES = ["dropout1d", "dropout2d", "dropout3d"]
SHAPE = (2, 3, 5, 7, 11, 1)


def behaviour(call):
    """Error or shape, identity with the input, and the warnings of a call."""
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        try:
            result = call()
        except Exception as error:
            result = type(error), str(error)
    return result, [(warning.category, str(warning.message)) for warning in raised]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rank", range(7))
@pytest.mark.parametrize("p", [0.0, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
def test_ranks_errors_and_warnings_as_torch(name, rank, p, training, inplace):
    module = name.replace("d", "D", 1)

    def functional(owner):
        return tuple(getattr(owner, name)(torch.ones(SHAPE[:rank]), p, training, inplace).shape)

    def layer(owner):
        return tuple(getattr(owner, module)(p, inplace).train(training)(torch.ones(SHAPE[:rank])).shape)

    assert behaviour(lambda: functional(D)) == behaviour(lambda: functional(F))
    assert behaviour(lambda: layer(L)) == behaviour(lambda: layer(nn))


def test_warnings_point_at_the_caller():
    for call in (lambda: D.dropout2d(torch.ones(2, 3, 5)), lambda: D.dropout3d(torch.ones(2, 3))):
        with pytest.warns(UserWarning, match="Received a") as raised:
            call()
        assert {warning.filename for warning in raised} == {__file__}


# name, shape, (samples, channels) of its mask, the mask's shape beside the input
CASES = [
    ("Dropout1d", (5, 7, 11), (5, 7), (5, 7, 1)),
    ("Dropout1d", (7, 11), (1, 7), (7, 1)),
    ("Dropout2d", (5, 7, 3, 2), (5, 7), (5, 7, 1, 1)),
    ("Dropout3d", (5, 7, 3, 2, 11), (5, 7), (5, 7, 1, 1, 1)),
    ("Dropout3d", (7, 3, 2, 11), (1, 7), (7, 1, 1, 1)),
]


@pytest.mark.parametrize(("name", "shape", "size", "beside"), CASES)
@pytest.mark.parametrize("p", [0.25, 0.5])
@pytest.mark.parametrize("inplace", [False, True])
def test_the_mask_is_that_of_the_definition(name, shape, size, beside, p, inplace):
    layer = getattr(L, name)(p, inplace)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    with L.keyed(nn.ModuleDict({"drop": layer}), seed=2**63 + 1, step=5, first_sample=13):
        y = layer(x.clone())
    rate = Rate.of(p, bits=32)
    kept = keep(*size, rate, Key(2**63 + 1, site_of("drop"), 5, 13)).view(beside)
    assert 0 < int(kept.sum()) < kept.numel()
    assert torch.equal(y, torch.where(kept, x * rate.scale, 0))


def test_three_dimensions_are_batched_for_dropout2d():
    layer = L.Dropout2d(0.5)
    with L.keyed(layer, seed=1, step=1), pytest.warns(UserWarning, match=r"interpreted as shape \(N, C, L\)"):
        y = layer(torch.ones(5, 7, 3))
    kept = keep(5, 7, Rate.of(0.5, bits=32), Key(1, site_of(""), 1))
    assert torch.equal(y != 0, kept.view(5, 7, 1).expand(5, 7, 3))


def test_channels_last_gets_the_mask_of_contiguous():
    x = torch.randn(3, 5, 7, 11)
    layer = L.Dropout2d(0.4)
    with L.keyed(layer, seed=1, step=1):
        a, b = layer(x), layer(x.to(memory_format=torch.channels_last))
    assert torch.equal(a, b)
    assert b.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("p", [0.005, 0.1, 0.5, 0.9])
def test_realised_rate_and_independence(p):
    torch.manual_seed(11)
    samples, channels = 307, 211
    rate = Rate.of(p, bits=32)
    layer = L.Dropout2d(p)
    first, second = (layer(torch.ones(samples, channels, 2, 3)) for _ in range(2))
    assert torch.equal(first, first[:, :, :1, :1].expand_as(first))
    a, b = ((y[:, :, 0, 0] != 0).double() - rate.q for y in (first, second))
    n = samples * channels
    assert abs(a.mean()) < 5 * (rate.p * rate.q / n) ** 0.5
    for one, other in ((a, b), (a[1:], a[:-1]), (a[:, 1:], a[:, :-1]), (a[:, 7:], a[:, :-7])):
        assert abs((one * other).mean()) < 5 * rate.p * rate.q / one.numel() ** 0.5


@pytest.mark.parametrize("inplace", [False, True])
def test_gradient_passes_exactly_where_kept(inplace):
    torch.manual_seed(13)
    x = torch.full((5, 7, 3, 2), 1.0, requires_grad=True)
    y = D.dropout2d(x + 0, 0.5, inplace=inplace)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    assert 0 < int((x.grad == 0).sum()) < x.numel()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("inplace", [False, True])
def test_everything_dropped(name, inplace):
    x = torch.full(SHAPE[: 2 + int(name[-2])], float("inf"), requires_grad=True)
    y = getattr(D, name)(x * 1, 1.0, inplace=inplace)
    y.sum().backward()
    assert torch.equal(y, torch.zeros_like(y))
    assert torch.equal(x.grad, torch.zeros_like(x))


@pytest.mark.parametrize("shape", [(0, 3, 5, 7), (2, 0, 5, 7), (2, 3, 0, 7)])
def test_empty(shape):
    x = torch.empty(shape, requires_grad=True)
    assert D.dropout2d(x, 0.5) is x
    assert F.dropout2d(x, 0.5) is x


def test_manual_seed_reproduces():
    x = torch.ones(7, 11, 2, 3)
    torch.manual_seed(17)
    first = L.Dropout2d()(x)
    torch.manual_seed(17)
    assert torch.equal(D.dropout2d(x), first)
    assert not torch.equal(D.dropout2d(x), first)
