"""Functional dropout in place, and of torch's lesser known forms: keyed, and read by whatever comes after."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dropkit.uncertainty.functions import KEYED
from dropkit.uncertainty.sampling import sample


class Of(nn.Module):
    """A network that is one function, with some modules."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.function(self, x)


def ones():
    return torch.ones(37, 41, 5)


def draws(function, **modules):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # all draws at once, and nothing stays off
        found = sample(Of(function, **modules).eval(), ones(), n=3, chunk=3)
    assert not torch.equal(found[0], found[1])
    torch.testing.assert_close(sample(Of(function, **modules), ones(), n=3, chunk=1), found)
    return found


FORMS = ["dropout", "dropout_", "feature_dropout", "feature_dropout_", "alpha_dropout_", "feature_alpha_dropout_"]


@pytest.mark.parametrize("name", FORMS)
def test_each_form_drops_as_torchs_does(name):
    """The same two values, as often (z below 4.5), and whole channels where torch drops whole ones."""
    function = getattr(torch, name)
    ours = draws(lambda net, x: function(x + 0, 0.4, net.training))[0]
    torch.manual_seed(0)
    theirs = function(ones(), 0.4, True)
    values = theirs.unique()
    assert len(values) == 2
    torch.testing.assert_close(ours.unique(), values, rtol=1e-4, atol=1e-4)
    whole = name.startswith("feature")
    assert bool((ours == ours[..., :1]).all()) == bool((theirs == theirs[..., :1]).all()) == whole
    dropped = (ours - values[values.argmin()]).abs() < 1e-3
    assert abs(dropped.double().mean() - 0.4) < 4.5 * (0.24 / (37 * 41 * (1 if whole else 5))) ** 0.5


def statement(call):
    """A network whose code does not use what the call returns."""

    def act(net, x):
        h = x * 3
        call(h, net)
        return h * 2

    return act


STATEMENTS = {
    "functional": lambda h, net: F.dropout(h, 0.5, net.training, inplace=True),
    "by place": lambda h, net: F.dropout(h, 0.5, net.training, True),
    "channels": lambda h, net: F.dropout1d(h, 0.5, net.training, inplace=True),
    "torch": lambda h, net: torch.dropout_(h, 0.5, net.training),
    "built in forward": lambda h, net: nn.Dropout(0.5, inplace=True)(h),
    "a layer": lambda h, net: net.drop(h),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_call_in_place_changes_what_its_input_is_from_then_on(name):
    modules = {"drop": nn.Dropout(0.5, inplace=True)} if name == "a layer" else {}
    found = draws(statement(STATEMENTS[name]), **modules)
    assert found.unique().tolist() == [0, 12]


def test_a_skip_connection_around_dropout_in_place_is_none():
    """As in torch: x is what is dropped, so that the sum is twice that."""
    found = draws(lambda net, x: net.drop(h := x * 3) + h, drop=nn.Dropout(0.5, inplace=True))
    assert found.unique().tolist() == [0, 12]


def test_changes_in_place_follow_one_another():
    def act(net, x):
        h = x * 3
        F.dropout(h, 0.5, net.training, inplace=True)
        h.mul_(5)
        F.dropout(h, 0.5, net.training, inplace=True)
        return h

    found = draws(act)
    assert found.unique().tolist() == [0, 60]
    assert abs((found > 0).double().mean() - 0.25) < 4.5 * (0.1875 / found.numel()) ** 0.5


def test_what_is_packed_is_read_too():
    def act(net, x):
        h = x * 3
        F.dropout(h, 0.5, net.training, inplace=True)
        return torch.cat([h, x], 1)

    assert draws(act)[:, :, :41].unique().tolist() == [0, 6]


def test_what_does_not_write_leaves_its_input():
    def act(net, x):
        h = x * 3
        return F.dropout(h, 0.5, net.training) + h

    assert draws(act).unique().tolist() == [3, 9]


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 5, 7), (2, 3, 5, 7, 1, 2)])
def test_channels_of_any_rank(shape):
    torch.manual_seed(0)
    found = KEYED[torch.feature_dropout].kind(0.5)(torch.ones(shape))
    assert found.shape == shape
    first = found.reshape(2, 3, -1)[..., 0]
    assert torch.equal(found, first.view(2, 3, *[1] * (len(shape) - 2)).expand(shape))
    assert set(first.flatten().tolist()) == {0, 2}


def test_calls_are_read_as_torch_reads_them():
    assert KEYED[F.dropout].drops((None,), {})
    assert not KEYED[F.alpha_dropout].drops((None,), {})
    assert not KEYED[F.dropout].drops((None, 0.5, False), {})
    assert KEYED[torch.dropout].drops((None,), {"p": 0.1, "train": True})
    assert KEYED[F.dropout].rate((None,), {}) == 0.5
    assert KEYED[F.dropout].rate((None, 0.2), {}) == KEYED[F.dropout].rate((None,), {"p": 0.2}) == 0.2
    assert KEYED[torch.dropout_].writes((None,), {})
    assert not KEYED[torch.dropout].writes((None,), {})
    assert KEYED[F.dropout2d].writes((None, 0.5, True, True), {})
    assert not KEYED[F.dropout2d].writes((None, 0.5, True), {})
