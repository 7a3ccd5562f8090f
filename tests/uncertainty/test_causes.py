"""Why nothing drops: each cause is told by its name, with what to do."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit
from dropkit.errors import DropkitError
from dropkit.uncertainty.calls import training_calls
from dropkit.uncertainty.causes import nothing_drops
from dropkit.uncertainty.sampling import sample


class Noisy(nn.Dropout):
    def forward(self, input):
        return input * (torch.rand_like(input) > self.p) if self.training else input


class Guarded(nn.Module):
    def __init__(self, rate):
        super().__init__()
        self.rate, self.drop = rate, nn.Dropout(0.0)

    def forward(self, x):
        x = self.drop(x)
        return F.dropout(x, self.rate) if self.training else x


class Unused(nn.Module):
    def __init__(self, count, rate):
        super().__init__()
        self.drops = nn.ModuleList(nn.Dropout(rate) for _ in range(count))

    def forward(self, x):
        return x * 2


CASES = {
    "none": (nn.Sequential(nn.Linear(3, 2)), "this Sequential would be the same: it has no dropout.*dropkit.insert"),
    "zero": (nn.Sequential(nn.Dropout(0.0), dropkit.Dropout(0)), r"are all 0 \(0, 1\).*dropkit.set_rate"),
    "all": (nn.Sequential(nn.Dropout(1.0)), r"rate 1, which drops everything \(0\).*dropkit.set_rate"),
    "all and none": (nn.Sequential(nn.Dropout(1.0), nn.Dropout(0.0)), "rate 1"),
    "a layer": (nn.Dropout(0.0), r"are all 0 \(the network itself\)"),
    "guarded": (Guarded(0.4), r"training mode only \(.*test_causes.py:\d+\), as under `if self.training:`.*F.dropout"),
    "guarded, zero": (Guarded(0.0), r"are all 0 \(drop\)"),
    "unused": (Unused(2, 0.5), r"no forward pass calls its dropout \(drops.0, drops.1\)"),
    "many": (Unused(5, 0.5), r"\(drops.0, drops.1, drops.2, drops.3, \.\.\.\)"),
    "of another make": (nn.Sequential(nn.Linear(3, 3), Noisy(0.5)), r"dropout \(1\) is of a class whose masks cannot"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_cause_is_named(name):
    net, message = CASES[name]
    with pytest.raises(DropkitError, match=message):
        sample(net, torch.ones(2, 3), n=3)


def test_what_does_drop_is_not_among_the_causes():
    """Of two layers that are not called, the one with a rate of 0 is not at fault."""
    net = Unused(2, 0.5)
    net.drops[0].p = 0.0
    assert "(drops.1)" in str(nothing_drops(net, training_calls(net, torch.ones(2, 3))))
