"""In place and into a given output: as right for autograd as torch's own, under compilation and transforms too."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dropkit.masks import Rate, key_words, ops, rate_words
from dropkit.masks.inplace import drop_, drop_channels_, drop_into, relu_drop_

K, R = key_words(7, 3, 5, 2), rate_words(Rate.of(0.3))
PAIRS = [(drop_, ops.drop), (drop_channels_, ops.drop_channels), (relu_drop_, ops.relu_drop)]
pairs = pytest.mark.parametrize(("in_place", "operator"), PAIRS, ids=["drop", "drop_channels", "relu_drop"])


def activation(*shape):
    return torch.randn(shape or (5, 7, 2), generator=torch.Generator().manual_seed(3))


@pairs
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_the_same_numbers_in_the_same_memory(in_place, operator, p):
    rate = rate_words(Rate.of(p))
    for x in (activation(), activation(3, 5, 7, 2).to(memory_format=torch.channels_last), activation(5, 6)[:, ::2]):
        given, version, place = x.clone(), x._version, x.data_ptr()
        expected = operator(given, K, rate)
        y = in_place(x, K, rate)
        assert y is x
        assert y.data_ptr() == place
        assert torch.equal(y, expected)
        assert x._version > version


@pairs
def test_gradients_through_what_was_overwritten(in_place, operator):
    x = activation().requires_grad_()
    y = x * 3
    in_place(y, K, R)
    ours = torch.autograd.grad((y**2).sum(), x)
    theirs = torch.autograd.grad((operator(x * 3, K, R) ** 2).sum(), x)
    assert torch.equal(*ours, *theirs)


@pairs
def test_gradients_through_a_view_of_what_was_overwritten(in_place, operator):
    x = activation().requires_grad_()
    y = x * 3
    in_place(y[1:3], K, R)
    whole = x * 3
    expected = torch.cat([whole[:1], operator(whole[1:3], K, R), whole[3:]])
    assert torch.equal(y, expected)
    assert torch.equal(*torch.autograd.grad(y.sum(), x), *torch.autograd.grad(expected.sum(), x))


@pairs
def test_leaves_are_refused_and_left_alone(in_place, operator):
    x = activation().requires_grad_()
    before = x.detach().clone()
    for leaf in (x, x[1:]):
        with pytest.raises(RuntimeError, match="leaf Variable that requires grad.*in-place operation"):
            in_place(leaf, K, R)
    assert torch.equal(x, before)
    with torch.no_grad():
        in_place(x, K, R)
    assert torch.equal(x, operator(before, K, R))


@pairs
@pytest.mark.parametrize("needed", [False, True])
def test_what_backward_needs_must_not_be_overwritten(in_place, operator, needed):
    x = activation().requires_grad_()
    y = torch.sigmoid(x)
    loss = y.sum()
    if needed:
        with torch.no_grad():
            in_place(y, K, R)
    else:
        in_place(y.clone(), K, R)
    if needed:
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
    else:
        loss.backward()


@pairs
def test_overlapping_memory_is_refused(in_place, operator):
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        in_place(torch.ones(3, 1, 2).expand(3, 5, 2), K, R)


@pairs
def test_compiled_and_transformed(in_place, operator):
    torch._dynamo.reset()
    x = activation()

    def f(x):
        return in_place(x * 3, K, R).square().sum()

    expected = torch.func.grad(lambda x: operator(x * 3, K, R).square().sum())(x)
    assert torch.equal(torch.func.grad(f)(x), expected)
    assert torch.equal(torch.compile(torch.func.grad(f), fullgraph=True, backend="aot_eager")(x), expected)
    assert torch.equal(torch.func.vmap(f)(x), torch.stack([f(row) for row in x]))
    assert torch.equal(torch.compile(f, fullgraph=True, backend="aot_eager")(x), f(x))


@pairs
def test_modes_see_what_happens(in_place, operator):
    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            names.append(func.name())
            return func(*args, **(kwargs or {}))

    names: list[str] = []
    x = activation()
    with Seen():
        in_place(x, K, R)
    assert f"dropkit::{operator.__name__}" in names
    assert "aten::copy_" in names


@pytest.mark.parametrize("scaled", [False, True])
def test_into_a_given_output(scaled):
    x = activation(3, 5, 7, 11)
    other = torch.empty_like(x, memory_format=torch.channels_last)
    for out in (torch.empty_like(x), other, torch.empty(4, 5, 7, 11)[1:]):
        version = out._version
        assert drop_into(out, x, K, R, scaled) is out
        assert torch.equal(out, ops.drop(x, K, R, scaled))
        assert out._version > version


def test_a_given_output_has_no_gradient_and_must_fit():
    x = activation()
    for pair in ((torch.empty_like(x), x.clone().requires_grad_()), (torch.empty_like(x).requires_grad_(), x)):
        with pytest.raises(RuntimeError, match="does not support automatic differentiation"):
            drop_into(*pair, K, R)
    for out in (torch.empty(5, 7), torch.empty(5, 7, 2, dtype=torch.float64)):
        with pytest.raises(RuntimeError, match="the output must be .* like the input, but got"):
            drop_into(out, x, K, R)


def test_an_inference_tensor_is_written_in_inference_mode_alone():
    with torch.inference_mode():
        x = torch.ones(7, 11)
        assert torch.equal(drop_(x, K, R), x)
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor outside InferenceMode"):
        drop_(x, K, R)


def test_arrays_that_share_memory_are_seen_as_such():
    """Storages of their own over the same bytes, as numpy's views give them."""
    import numpy as np

    whole = np.arange(1.0, 1014.0, dtype=np.float32)
    x, out = torch.from_numpy(whole[1:]), torch.from_numpy(whole[:-1])
    expected = ops.drop(x.clone(), K, R)
    assert torch.equal(drop_into(out, x, K, R), expected)
