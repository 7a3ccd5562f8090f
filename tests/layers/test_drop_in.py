"""PyTorch's own checks of its dropout modules and functions, run on dropkit's.

Written from their description: errors to the letter, memory formats with permuted and sliced strides, a p so small that
no value changes, unbatched input equal to batched input under a frozen generator, gradients and expectations.
"""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit
import dropkit.functional as D

NAMES = ["Dropout", "Dropout1d", "Dropout2d", "Dropout3d"]
BATCHED = {"Dropout": (3, 5, 7), "Dropout1d": (3, 5, 7), "Dropout2d": (3, 5, 7, 11), "Dropout3d": (3, 5, 7, 11, 2)}
each_layer = pytest.mark.parametrize("name", NAMES)


@each_layer
@pytest.mark.parametrize("inplace", [False, True])
def test_module(name, inplace):
    """Mean, gradient and idempotence of repr, as torch's `_test_dropout` has them."""
    p, x = 0.2, torch.full((1009, *BATCHED[name][1:]), 0.8)
    layer = getattr(dropkit, name)(p, inplace)
    torch.manual_seed(3)
    leaf = x.clone().requires_grad_()
    y = layer(leaf + 0)
    assert abs(float(y.detach().mean()) - 0.8) < 0.05
    y.backward(x)
    assert abs(float(leaf.grad.mean()) - 0.8) < 0.05
    assert torch.equal(leaf.grad, y.detach())
    assert str(layer) == repr(layer) == repr(getattr(nn, name)(p, inplace))
    assert layer.eval()(x) is x


@each_layer
@pytest.mark.parametrize("laid_out", ["contiguous", "channels-last", "permuted", "sliced"])
@pytest.mark.parametrize("training", [False, True])
def test_a_rate_too_small_to_drop_leaves_values_and_layout(name, laid_out, training):
    if name not in ("Dropout", "Dropout2d"):
        shape = BATCHED[name]
        x = torch.randn(shape)
        if laid_out == "permuted":
            x = torch.randn(shape[::-1]).permute(*reversed(range(len(shape))))
        elif laid_out == "sliced":
            x = torch.randn(*shape[:-1], 2 * shape[-1])[..., ::2]
    else:
        x = torch.randn(3, 5, 7, 11)
        if laid_out == "channels-last":
            x = x.to(memory_format=torch.channels_last)
        elif laid_out == "permuted":
            x = x.permute(1, 3, 0, 2).contiguous().permute(2, 0, 3, 1)
        elif laid_out == "sliced":
            x = torch.randn(3, 5, 14, 11)[:, :, ::2]
    y = getattr(dropkit, name)(1e-10).train(training)(x)
    assert torch.equal(y, x)
    assert y.stride() == getattr(nn, name)(1e-10).train(training)(x).stride()
    if laid_out == "channels-last":
        assert y.is_contiguous(memory_format=torch.channels_last) or x.dim() != 4


@pytest.mark.parametrize("p", [1e-10, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("name", ["Dropout", "Dropout2d"])
def test_every_order_of_dimensions_sliced_or_not(name, p):
    """The output lies densely in the input's order of dimensions, with the mask of contiguous memory."""
    layer, x = getattr(dropkit, name)(p), torch.randn(3, 5, 7, 2)
    for order in itertools.permutations(range(4)):
        back = sorted(range(4), key=order.__getitem__)
        for first, second in ((0, 0), (1, 0), (0, 1), (1, 1)):
            given = x.permute(order).contiguous().permute(back)[first:, second:]
            torch.manual_seed(5)
            y = layer(given)
            assert y.permute(order).is_contiguous()
            torch.manual_seed(5)
            assert torch.equal(y, layer(given.contiguous()))
            if p == 1e-10:
                assert torch.equal(y, given)
            else:
                assert ((y == 0) | torch.isclose(y, given / (1 - p), rtol=1e-4)).all()


@each_layer
def test_invalid_p_says_what_torch_says(name):
    for p in (-0.1, 1.1):
        for inplace in (False, True):
            with pytest.raises(ValueError, match=f"^dropout probability has to be between 0 and 1, but got {p}$"):
                getattr(dropkit, name)(p, inplace)
            functional = name.replace("D", "d")
            with pytest.raises(ValueError, match=f"^dropout probability has to be between 0 and 1, but got {p}$"):
                getattr(D, functional)(torch.ones(BATCHED[name]), p, inplace=inplace)


@pytest.mark.parametrize("name", ["Dropout1d", "Dropout3d"])
@pytest.mark.parametrize("inplace", [False, True])
def test_unbatched_input_is_a_batch_of_one(name, inplace):
    layer, x = getattr(dropkit, name)(0.5, inplace), torch.rand(BATCHED[name][1:])
    torch.manual_seed(7)
    batched = layer(x.clone().unsqueeze(0)).squeeze(0)
    torch.manual_seed(7)
    assert torch.equal(layer(x.clone()), batched)
    assert int((batched == 0).sum()) > 0


@pytest.mark.parametrize("p", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3)])
def test_no_dimensions_and_no_elements(p, shape):
    x = torch.ones(shape)
    y = D.dropout(x, p)
    assert y.shape == F.dropout(x, p).shape
    assert all(value in (0, pytest.approx(1 / max(1 - p, 1e-9), rel=1e-5)) for value in y.flatten().tolist())


def test_every_call_draws_a_mask_of_its_own():
    layer, x = dropkit.Dropout(0.5), torch.ones(1009)
    assert len({tuple(layer(x).tolist()) for _ in range(5)}) == 5


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_the_ends_take_no_random_number(p):
    torch.manual_seed(11)
    state = torch.get_rng_state()
    x = torch.randn(5, 7).requires_grad_()
    torch.manual_seed(11)
    y = D.dropout(x, p)
    y.sum().backward()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(y, x * (1 - p))
    assert torch.equal(x.grad, torch.full_like(x, 1 - p))
