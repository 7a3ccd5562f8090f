import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit
from dropkit.functional import relu_dropout
from dropkit.layers import Dropout, ReLUDropout, keyed
from dropkit.masks import Key, Rate, keep, site_of


def activation(*shape):
    return torch.randn(shape or (5, 7, 11), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("p", [0.001, 0.3, 0.9])
@pytest.mark.parametrize("inplace", [False, True])
def test_it_is_relu_and_then_the_mask_of_the_definition(p, inplace):
    layer, x, rate = ReLUDropout(p, inplace), activation(), Rate.of(p)
    with keyed(nn.ModuleDict({"drop": layer}), seed=2**63 + 1, step=5, first_sample=13):
        y = layer(x.clone())
    kept = keep(5, 77, rate, Key(2**63 + 1, site_of("drop"), 5, 13)).view(x.shape)
    assert torch.equal(y, torch.where(kept, x.relu() * rate.scale, 0))


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
def test_it_equals_the_pair_with_gradients(p, training, inplace):
    found = []
    for call in (
        lambda x: relu_dropout(x, p, training, inplace),
        lambda x: ReLUDropout(p, inplace).train(training)(x),
        lambda x: nn.Sequential(nn.ReLU(), Dropout(p)).train(training)(x),
    ):
        torch.manual_seed(7)
        x = activation().requires_grad_()
        given = x * 1
        y = call(given)
        assert (y is given) == (inplace and len(found) < 2)
        (gradient,) = torch.autograd.grad(y.square().sum(), x)
        found.append((y, gradient, torch.get_rng_state()))
    for one, other, pair in zip(*found, strict=True):
        assert torch.equal(one, pair)
        assert torch.equal(other, pair)


@pytest.mark.parametrize(
    "laid_out", [lambda x: x, lambda x: x.to(memory_format=torch.channels_last), lambda x: x[..., ::2]]
)
def test_memory_formats(laid_out):
    x, layer = laid_out(activation(3, 5, 7, 11)), ReLUDropout(0.3)
    with keyed(layer, seed=1, step=2):
        y, expected = layer(x), layer(x.contiguous())
    assert torch.equal(y, expected)
    assert y.stride() == torch.empty_like(x).stride()


def test_its_output_is_all_that_it_keeps():
    saved = []

    def pack(tensor):
        saved.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = ReLUDropout(0.3)(activation().requires_grad_())
    assert saved == [y.numel() * 4]


def test_it_is_public_and_refuses_what_dropout_refuses():
    assert dropkit.ReLUDropout is ReLUDropout
    assert dropkit.functional.relu_dropout is relu_dropout
    assert repr(ReLUDropout(0.2)) == "ReLUDropout(p=0.2, inplace=False)"
    for call in (ReLUDropout, lambda p: relu_dropout(torch.ones(3), p, training=False)):
        with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1, but got 1.5"):
            call(1.5)
    with pytest.raises(TypeError, match="argument 'input' .* must be Tensor, not list"):
        ReLUDropout()([1.0])
    with pytest.raises(RuntimeError, match="result type Float can't be cast to the desired output type Long"):
        ReLUDropout()(torch.ones(3, dtype=torch.int64))


def test_empty_input_and_evaluation_are_relu():
    assert ReLUDropout()(torch.empty(0, 3)).shape == (0, 3)
    x = activation()
    assert torch.equal(ReLUDropout(0.9).eval()(x), F.relu(x))
    assert not copy.deepcopy(ReLUDropout().eval()).training
