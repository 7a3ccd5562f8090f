"""What keyed masks do not do: each limit that docs/masks.md names, shown. Whoever lifts one changes its test."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import CheckpointError, checkpoint

from dropkit.layers import Dropout, ReLUDropout, keyed

X = torch.ones(13, 29)


@pytest.fixture(autouse=True)
def seeded():
    torch._dynamo.reset()
    torch.manual_seed(3)


@pytest.mark.parametrize("reentrant", [False, True])
def test_two_blocks_and_one_backward(reentrant):
    """The first block's recomputation meets the second's key: refused where the forward's is at hand, else wrong."""
    layer, x, other = Dropout(0.5), X.clone().requires_grad_(), X.clone().requires_grad_()
    with keyed(layer, seed=1, step=1):
        first = checkpoint(layer, x, use_reentrant=reentrant)
    with keyed(layer, seed=1, step=2):
        second = checkpoint(layer, other, use_reentrant=reentrant)
    if not reentrant:
        with pytest.raises(RuntimeError, match="had another key"):
            (first + second).sum().backward()
        return
    (first + second).sum().backward()
    assert torch.equal(other.grad, second.detach())
    assert torch.equal(x.grad, second.detach())  # of the second block's mask: the first one is forgotten
    assert not torch.equal(x.grad, first.detach())


@pytest.mark.parametrize("reentrant", [False, True])
def test_one_block_around_forward_and_backward_of_each_step_is_right(reentrant):
    layer = Dropout(0.5)
    for step in (1, 2):
        x = X.clone().requires_grad_()
        with keyed(layer, seed=1, step=step):
            y = checkpoint(layer, x, use_reentrant=reentrant)
            y.sum().backward()
        assert torch.equal(x.grad, y.detach())


@pytest.mark.parametrize("reentrant", [False, True])
def test_default_masks_when_the_generator_s_state_is_not_preserved(reentrant):
    """torch.nn.Dropout's gradient is silently wrong in both cases; ours is refused where the key is at hand."""
    layer, x = Dropout(0.5), X.clone().requires_grad_()
    y = checkpoint(layer, x, use_reentrant=reentrant, preserve_rng_state=False)
    if not reentrant:
        with pytest.raises(RuntimeError, match="preserve the state of the random generator"):
            y.sum().backward()
        return
    y.sum().backward()
    assert not torch.equal(x.grad, y.detach())


def test_an_eager_checkpoint_around_a_compiled_block_with_the_backward_outside():
    """Compiled code knows no former key: the graph of fresh keys is another, and torch's checkpoint says so."""
    layer, x = Dropout(0.5), X.clone().requires_grad_()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    with keyed(layer, seed=1, step=1):
        y = checkpoint(compiled, x, use_reentrant=False)
    with pytest.raises(CheckpointError, match="different metadata"):
        y.sum().backward()
    with keyed(layer, seed=1, step=1):
        y = checkpoint(compiled, x, use_reentrant=False)
        y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_a_layer_called_twice_in_a_step_repeats_its_mask():
    layer = Dropout(0.5)
    with keyed(layer, seed=1, step=1):
        assert torch.equal(layer(X), layer(X))
        other = layer(X.T.contiguous())
    # reuse at another shape repeats the random bits in the order of the units
    with keyed(layer, seed=1, step=1):
        assert torch.equal(other.flatten(), layer(X).flatten())


@pytest.mark.parametrize("strict", [False, True])
def test_an_export_inside_the_block_freezes_the_mask(strict):
    model = nn.Sequential(Dropout(0.5))
    with keyed(model, seed=1, step=1):
        exported = torch.export.export(model, (X,), strict=strict).module()
        inside = model(X)
    assert torch.equal(exported(X), exported(X))
    with keyed(model, seed=1, step=2):
        assert torch.equal(exported(X), inside)


def test_an_export_whose_key_is_an_input_has_every_mask():
    class Keyed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = Dropout(0.5)

        def forward(self, x, key):
            self.layer.key = key
            try:
                return self.layer(x)
            finally:
                self.layer.key = None

    model, layer = Keyed(), Dropout(0.5)
    given = []
    for step in (1, 2):
        with keyed(layer, seed=1, step=step):
            given.append((layer.key, layer(X)))
    exported = torch.export.export(model, (X, given[0][0]), strict=False).module()
    for key, expected in given:
        assert torch.equal(exported(X, key), expected)


def test_relu_dropout_keeps_no_key_to_compare():
    """It saves its output alone: a recomputation under another key goes unnoticed, in both kinds of checkpoint."""
    layer, x = ReLUDropout(0.5), X.clone().requires_grad_()
    y = checkpoint(layer, x, use_reentrant=False, preserve_rng_state=False)
    y.sum().backward()
    assert not torch.equal(x.grad, y.detach())
