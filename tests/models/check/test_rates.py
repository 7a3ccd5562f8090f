"""Rates that cannot be meant, and rates that can."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit
from dropkit.models.check.check import check

X = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
OWN = ("DK010", "DK011", "DK012", "DK013")


def net(layer):
    return nn.Sequential(nn.Linear(5, 11), nn.ReLU(), layer, nn.Linear(11, 3))


def found(model):
    return [f for f in check(model, X) if f.code in OWN]


def codes(model):
    return [(f.code, f.severity, f.where) for f in found(model)]


class Function(nn.Module):
    def __init__(self, rate):
        super().__init__()
        self.fc, self.rate = nn.Linear(5, 3), rate

    def forward(self, x):
        return self.fc(F.dropout(x, self.rate, self.training))


def with_p(layer, p):
    layer.p = p
    return layer


@pytest.mark.parametrize("layer", [nn.Dropout(1.0), nn.Dropout(True), dropkit.Dropout(1), dropkit.DropPath(1.0)])
def test_everything_is_dropped(layer):
    assert codes(net(layer)) == [("DK010", "error", "2")]


def test_a_rate_that_is_true_is_told_from_one():
    assert "p is True, which counts as 1" in found(net(nn.Dropout(True)))[0].observed
    assert found(net(nn.Dropout(1.0)))[0].observed.startswith("p = 1: everything is dropped")
    assert codes(net(nn.Dropout(False))) == [("DK013", "note", "Sequential")]


def test_a_function_that_drops_everything():
    ((code, severity, where),) = codes(Function(1.0))
    assert (code, severity) == ("DK010", "error")
    assert "test_rates.py:" in where


@pytest.mark.parametrize("p", [7, -0.1, float("nan"), "0.5"])
def test_no_probability(p):
    model = net(with_p(nn.Dropout(0.5), p))
    assert codes(model) == [("DK011", "error", "2")]
    assert f"p = {p!r} is no probability" in found(model)[0].observed


@pytest.mark.parametrize("p", [0.8, 0.9, 0.99])
@pytest.mark.parametrize("kind", [nn.Dropout, dropkit.Dropout, dropkit.DropPath, dropkit.GaussianDropout])
def test_a_rate_that_looks_like_keeping(kind, p):
    assert codes(net(kind(p))) == [("DK012", "warning", "2")]


def test_the_cure_of_a_high_rate_has_its_complement():
    finding = found(net(nn.Dropout(0.8)))[0]
    assert finding.observed == "p = 0.8 drops 0.8 of the units: more than 0.7 is hardly ever meant"
    assert finding.cure == "To keep 0.8 of them, give 0.2: p is the probability of dropping"
    assert [f.code for f in found(Function(0.8))] == ["DK012"]


@pytest.mark.parametrize(
    "model",
    [net(nn.Dropout(0.7)), net(nn.Dropout(torch.tensor(0.5))), net(dropkit.ConcreteDropout(0.8)), Function(0.7)],
)
def test_rates_that_can_be_meant(model):
    assert codes(model) == []


def test_a_single_rate_of_zero_is_no_finding():
    assert codes(nn.Sequential(net(nn.Dropout(0.0)), nn.Linear(3, 5), net(nn.Dropout(0.2)))) == []
    assert codes(nn.Sequential(nn.Dropout(0.0), Function(0.2))) == []
    assert codes(nn.Linear(5, 3)) == []


def test_all_rates_are_zero():
    model = nn.Sequential(net(nn.Dropout(0.0)), nn.Linear(3, 5), net(nn.Dropout2d(0.0)))
    assert codes(model) == [("DK013", "note", "Sequential")]
    assert found(model)[0].observed == "the rate of all 2 dropout layers is 0: nothing is dropped"
    assert found(net(nn.Dropout(0.0)))[0].observed == "the rate of the one dropout layer is 0: nothing is dropped"


class Recurrent(nn.Module):
    def __init__(self, rate):
        super().__init__()
        self.inner = nn.LSTM(5, 3, num_layers=2, dropout=rate)
        self.dropout = nn.Dropout(0.0)

    def forward(self, x):
        return self.dropout(self.inner(x)[0])


def test_a_rate_within_torchs_own_modules_counts():
    assert codes(Recurrent(0.2)) == []
    assert codes(Recurrent(0.0)) == [("DK013", "note", "Recurrent")]


def test_no_rate_at_all():
    model = net(nn.Dropout(0.5))
    model[2].p = None
    (finding,) = found(model)
    assert (finding.code, finding.observed[:10]) == ("DK011", "p = None i")


class TakesTheModeForTheRate(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        return self.fc(F.dropout(x, self.training))


def test_the_mode_in_the_place_of_the_rate():
    (finding,) = found(TakesTheModeForTheRate())
    assert (finding.code, finding.severity) == ("DK010", "error")
    assert "p is True" in finding.observed
    assert "training=self.training" in finding.cure
