"""A thinned network: its dropout keyed, all else in eval mode, and everything put back."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit
from dropkit.masks import key_words, site_of
from dropkit.uncertainty.sampling import sample
from dropkit.uncertainty.thinning import Thinning


class Of(nn.Module):
    """A network that is one function, with some modules."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.function(self, x)


def ones(n=7, units=11):
    return torch.ones(n, units)


def thinned(net, x=None, seed=3, step=2, first_sample=0):
    x = ones() if x is None else x
    with Thinning(net) as block, torch.no_grad():
        return block.forward(x, key_words(seed, 0, step, first_sample))


class Doubled(nn.Dropout):
    """A subclass that changes nothing of how it drops."""


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.Dropout(0.5, inplace=True), dropkit.Dropout(0.5)])
def test_a_layers_mask_is_that_of_its_path_and_draw(layer):
    net = Of(lambda net, x: net.drop(x + 0), drop=layer)
    expected = dropkit.Dropout(0.5)
    expected.key = key_words(3, site_of("drop"), 2, 5)
    assert torch.equal(thinned(net, first_sample=5), expected(ones()))
    assert 0 < (thinned(net) == 0).double().mean() < 1


@pytest.mark.parametrize("training", [True, False])
def test_all_but_dropout_is_in_eval_mode(training):
    net = nn.Sequential(
        nn.Sequential(nn.BatchNorm1d(11), nn.ReLU()), dropkit.Residual(nn.Linear(11, 11), 0.5), nn.Dropout(0.5)
    )
    net.train(training)
    with Thinning(net):
        modes = {path: module.training for path, module in net.named_modules()}
    on = {"1", "2"}
    assert {path for path, mode in modes.items() if mode} == on
    assert all(module.training == training for module in net.modules())
    assert type(net[2]) is nn.Dropout
    assert not net[2]._forward_pre_hooks


def test_the_calls_of_one_draw_have_masks_of_their_own_and_draws_repeat():
    net = Of(
        lambda net, x: torch.stack([net.drop(x), net.drop(x), F.dropout(x, 0.5, net.training)], 1), drop=nn.Dropout(0.5)
    )
    x = ones(3, 101)
    with Thinning(net) as block:
        first, again = (block.forward(x, key_words(3, 0, 2, 0)) for _ in range(2))
        other = block.forward(x, key_words(3, 0, 4, 0))
    assert torch.equal(first, again)
    masks = [first[:, i] for i in range(3)] + [other[:, i] for i in range(3)]
    for i, a in enumerate(masks):
        assert all(not torch.equal(a, b) for b in masks[i + 1 :])


FUNCTIONS = {
    "dropout": lambda x, on: F.dropout(x, 0.4, on),
    "by name": lambda x, on: F.dropout(input=x, p=0.4, training=on),
    "in place": lambda x, on: F.dropout(x + 0, 0.4, on, True),
    "torch": lambda x, on: torch.dropout(x, 0.4, on),
    "torch by name": lambda x, on: torch.dropout(x, p=0.4, train=on),
    "1d": lambda x, on: F.dropout1d(x, 0.4, on),
    "2d": lambda x, on: F.dropout2d(x.unsqueeze(-1), 0.4, on).squeeze(-1),
    "3d": lambda x, on: F.dropout3d(x[..., None, None], 0.4, on)[..., 0, 0],
    "alpha": lambda x, on: F.alpha_dropout(x, 0.4, on),
    "torch alpha": lambda x, on: torch.alpha_dropout(x, 0.4, on),
    "feature alpha": lambda x, on: F.feature_alpha_dropout(x, 0.4, on),
    "torch feature alpha": lambda x, on: torch.feature_alpha_dropout(x, 0.4, on),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functional_dropout_of_every_form_drops_as_torchs_does(name):
    """The same two values, as often (z below 4.5), and whole channels where torch drops whole ones."""
    net, x = Of(lambda net, x: FUNCTIONS[name](x, net.training)), torch.ones(37, 41, 5)
    ours = thinned(net.eval(), x)
    torch.manual_seed(0)
    theirs = FUNCTIONS[name](x, True)
    values = theirs.unique()
    assert len(values) == 2
    torch.testing.assert_close(ours.unique(), values, rtol=1e-4, atol=1e-4)
    whole = bool((theirs == theirs[..., :1]).all())
    assert bool((ours == ours[..., :1]).all()) == whole
    draws = 37 * 41 * (1 if whole else 5)
    share = (ours - values[values.abs().argmin() if "alpha" not in name else values.argmin()]).abs() < 1e-3
    assert abs(share.double().mean() - 0.4) < 4.5 * (0.24 / draws) ** 0.5


def test_a_subclass_that_drops_as_its_parent_is_keyed():
    net = Of(lambda net, x: net.drop(x), drop=Doubled(0.5))
    whole = sample(net, ones(), n=5)
    assert torch.equal(sample(net, ones()[2:], n=5, chunk=2, first_sample=2), whole[:, 2:])
    assert type(net.drop) is Doubled


def test_layers_that_are_no_part_of_the_network_drop_by_key():
    """Built in forward, or kept in a plain list."""
    hidden = [nn.Dropout(0.5)]
    for function in (lambda net, x: nn.Dropout(0.5)(x), lambda net, x: hidden[0](x)):
        whole = sample(Of(function), ones(), n=5)
        assert torch.equal(sample(Of(function), ones(), n=3, chunk=1), whole[:3])


def test_what_fired_is_counted():
    def fired(net):
        with Thinning(net) as block:
            block.forward(ones(), key_words(0, 0, 0, 0))
            return block.fired > 0

    assert fired(nn.Sequential(nn.Dropout(0.1)))
    assert fired(nn.Sequential(dropkit.ConcreteDropout(0.1)))
    assert fired(Of(lambda net, x: F.dropout(x, 0.1, net.training)))
    assert not fired(nn.Sequential(nn.Dropout(0.0), nn.Dropout(1.0)))
    assert not fired(Of(lambda net, x: F.dropout(x, 0.0, net.training)))
    assert not fired(Of(lambda net, x: x, drop=nn.Dropout(0.5)))


class Counting(nn.Module):
    """It keeps a count in a buffer and its last output in an attribute."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.drop, self.last = nn.Dropout(0.5), None

    def forward(self, x):
        self.count += 1
        self.last = self.drop(x)
        return self.last


@pytest.mark.parametrize("chunk", [1, 5])
def test_buffers_and_attributes_that_a_network_writes_are_put_back(chunk):
    net = Counting()
    sample(net, ones(), n=5, chunk=chunk)
    assert net.count == 0
    assert net.last is None


@pytest.mark.parametrize("chunk", [1, 5])
def test_the_input_is_not_written_into(chunk):
    torch.manual_seed(0)
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(11, 5), nn.Dropout(0.5))
    x = torch.randn(7, 11)
    before = x.clone()
    found = sample(net, x, n=5, chunk=chunk)
    assert torch.equal(x, before)
    assert torch.equal(found, sample(net, before, n=5, chunk=chunk))


def test_shared_and_nested_layers_are_put_back():
    shared = nn.Dropout(0.5)
    net = nn.Sequential(shared, nn.Sequential(shared, nn.Linear(11, 3)))
    handle = shared.register_forward_hook(lambda *given: None)
    hooks = dict(shared._forward_hooks)
    sample(net, ones(), n=3)
    assert net[0] is net[1][0] is shared
    assert type(shared) is nn.Dropout
    assert dict(shared._forward_hooks) == hooks
    handle.remove()
