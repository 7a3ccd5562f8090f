import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit
from dropkit.models.check.evidence import Evidence
from dropkit.models.check.norms import RULES


def findings(model, example=None):
    example = torch.zeros(2, 1, 11, 11) if example is None else example
    evidence = Evidence(model, example)
    return [finding for rule in RULES for finding in rule(evidence)]


def deviation(model, **given):
    (finding,) = findings(model, **given)
    assert (finding.code, finding.severity) == ("DK020", "warning")
    return float(finding.observed.split("in evaluation ")[1].split(" times")[0])


def convolutional(dropout, after=tuple):
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 13, 3), nn.ReLU(), dropout, *after(), nn.BatchNorm2d(13), nn.ReLU(), nn.Flatten())


# built in the test, after its seed: weights that are drawn when the file is read are others in each session
THROUGH = {
    "directly before": tuple,
    "a convolution": lambda: (nn.Conv2d(13, 13, 3),),
    "pooling": lambda: (nn.AvgPool2d(1), nn.Conv2d(13, 13, 3)),
}


@pytest.mark.parametrize("after", THROUGH.values(), ids=THROUGH)
def test_half_dropped_leaves_0_64_of_the_standard_deviation(after):
    """Of the ReLU of N(0, s^2) the variance is (1/2 - 1/2pi) s^2, and dropped at .5 it is (1 - 1/2pi) s^2."""
    expected = ((0.5 - 0.1592) / (1 - 0.1592)) ** 0.5
    assert expected == pytest.approx(0.637, abs=0.001)
    assert deviation(convolutional(nn.Dropout(0.5), after)) == pytest.approx(expected, abs=0.05)


def test_dropout_after_the_norm_needs_the_means_own_weight():
    """Values of mean 0 and variance 1, dropped at p, have the variance 1 / (1 - p)."""
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.36), nn.BatchNorm1d(121))
    assert deviation(model) == pytest.approx(0.8, abs=0.02)


def test_where_it_is():
    model = convolutional(nn.Dropout(0.5))
    (finding,) = findings(model)
    assert finding.where == "3"
    assert "Dropout 0.5 (2)" in finding.observed


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 7, 3), nn.BatchNorm2d(7)

    def forward(self, x):
        return self.norm(F.dropout(self.conv(x).relu(), 0.5, self.training))


def test_functional_dropout():
    (finding,) = findings(Functional())
    assert finding.where == "norm"
    assert "test_norms.py:" in finding.observed


@pytest.mark.parametrize("layer", [dropkit.Dropout(0.5), nn.Dropout2d(0.5), dropkit.DropBlock2d(0.5, block_size=3)])
def test_other_layers_are_found(layer):
    assert deviation(convolutional(layer)) < 0.8


def test_layers_that_do_more_than_drop():
    (finding,) = findings(nn.Sequential(nn.Flatten(), dropkit.DropConnect(nn.Linear(121, 31), 0.5), nn.BatchNorm1d(31)))
    assert "DropConnect 0.5 (1)" in finding.observed
    rectified = nn.Sequential(nn.Flatten(), dropkit.ReLUDropout(0.5), nn.BatchNorm1d(121))
    assert deviation(rectified) == pytest.approx(0.637, abs=0.03)


def test_one_finding_for_a_dropout_names_the_worst_norm():
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(121, 31), nn.ReLU(), nn.Dropout(0.5), nn.BatchNorm1d(31),
        nn.Dropout(0.0), nn.Linear(31, 29), nn.BatchNorm1d(29),
    )  # fmt: skip
    (finding,) = findings(model)
    assert finding.where == "4"


NEAR_MISSES = {
    "below a tenth": lambda: convolutional(nn.Dropout(0.05)),
    "p = 0": lambda: convolutional(nn.Dropout(0.0)),
    "after the last norm": lambda: nn.Sequential(
        nn.Conv2d(1, 13, 3), nn.BatchNorm2d(13), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(1053, 5)
    ),
    "layer-norm": lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.LayerNorm(121)),
    "no running statistics": lambda: convolutional(nn.Dropout(0.5))[:3].append(
        nn.BatchNorm2d(13, track_running_stats=False)
    ),
}


class Branch(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.conv, self.drop, self.norm = nn.Conv2d(1, 1, 3, padding=1), layer, nn.BatchNorm2d(1)

    def forward(self, x):
        return self.norm(x + self.drop(self.conv(x) + 3))


def test_stochastic_depth_does_not_count():
    assert len(findings(Branch(nn.Dropout(0.5)))) == 1
    assert findings(Branch(dropkit.DropPath(0.5))) == []
    beside = Branch(dropkit.DropPath(0.5))
    beside.norm = nn.Sequential(nn.Dropout(0.02), nn.BatchNorm2d(1))
    assert findings(beside) == []


@pytest.mark.parametrize("build", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses(build):
    assert findings(build()) == []


def test_a_frozen_norm_knows_no_dropout():
    model = convolutional(nn.Dropout(0.5))
    model[3].eval()
    assert findings(model) == []
    assert len(findings(model.eval())) == 1  # the whole network is in eval mode for now


def test_dropout_that_is_off_on_purpose():
    model = convolutional(nn.Dropout(0.5))
    model[2].eval()
    assert findings(model) == []


def test_the_example_is_used_where_it_is_large_enough():
    """Of constant pictures, dropout makes all the variance there is: only noise has a variance to begin with."""
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.BatchNorm1d(121))
    torch.manual_seed(0)
    assert deviation(model, example=1 + 0.5 * torch.randn(59, 1, 11, 11)) == pytest.approx(0.41, abs=0.04)
    assert deviation(model, example=torch.ones(59, 1, 11, 11)) == pytest.approx(0.707, abs=0.02)


def test_integers_are_not_replaced_by_noise():
    model = nn.Sequential(nn.Embedding(17, 13), nn.Flatten(), nn.Dropout(0.5), nn.BatchNorm1d(91))
    assert findings(model, torch.zeros(2, 7, dtype=torch.long)) == []
    assert len(findings(model, torch.randint(17, (61, 7)))) == 1


def test_the_model_is_untouched():
    model = convolutional(nn.Dropout(0.5))
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    model[4].eval()
    assert findings(model) == findings(model) != []
    assert [layer.training for layer in model] == [True, True, True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert not model[3]._forward_pre_hooks
