import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit
from dropkit.models.check.backward import RULES
from dropkit.models.check.evidence import Evidence


def findings(model, example=None):
    evidence = Evidence(model, torch.ones(3, 13) if example is None else example)
    return [finding for rule in RULES for finding in rule(evidence)]


def codes(model, example=None):
    return [(finding.code, finding.severity, finding.where) for finding in findings(model, example)]


def mlp(*middle):
    return nn.Sequential(nn.Linear(13, 11), *middle, nn.Linear(11, 5))


# DK030


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Sigmoid(), nn.Tanh()])
@pytest.mark.parametrize("layer", [nn.Dropout(0.5, inplace=True), dropkit.Dropout(0.5, inplace=True)])
def test_in_place_after_an_activation(activation, layer):
    model = mlp(activation, layer)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        model(torch.ones(3, 13)).sum().backward()
    assert codes(model) == [("DK030", "error", "2")]


def test_the_layer_that_does_it():
    model = nn.Sequential(
        nn.Linear(13, 11), nn.Dropout(0.1, inplace=True), nn.Linear(11, 7), nn.Tanh(), nn.Dropout(0.2, inplace=True),
        nn.Linear(7, 5), nn.SiLU(), nn.Dropout(0.3, inplace=True),
    )  # fmt: skip
    assert codes(model) == [("DK030", "error", "4")]


class Functional(nn.Module):
    def __init__(self, inplace):
        super().__init__()
        self.fc1, self.fc2, self.inplace = nn.Linear(13, 11), nn.Linear(11, 5), inplace

    def forward(self, x):
        x = F.dropout(x, 0.1, self.training)
        return self.fc2(F.dropout(self.fc1(x).relu(), 0.5, self.training, inplace=self.inplace))


def test_functional_in_place():
    ((code, _, where),) = codes(Functional(inplace=True))
    assert code == "DK030"
    assert "test_backward.py:" in where
    assert codes(Functional(inplace=False)) == []


class Overwritten(nn.Module):
    """The gradient of the first layer's weight alone needs what the dropout overwrites."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.drop = nn.Linear(13, 11), nn.Linear(13, 11), nn.Dropout(0.5, inplace=True)

    def forward(self, x):
        x = x + 1
        y = self.fc1(x)
        return y + self.fc2(self.drop(x))


def test_a_layers_input_overwritten():
    assert codes(Overwritten()) == [("DK030", "error", "drop")]


class OwnFault(nn.Module):
    """Writes in place where nothing must, with dropout or without."""

    def __init__(self):
        super().__init__()
        self.fc, self.drop = nn.Linear(13, 11), nn.Dropout(0.5, inplace=True)

    def forward(self, x):
        y = self.fc(x).sigmoid()
        y += 1
        return self.drop(y)


IN_PLACE_NEAR_MISSES = {
    "out of place": mlp(nn.ReLU(), nn.Dropout(0.5)),
    "after what needs its input alone": mlp(nn.SiLU(), nn.Dropout(0.5, inplace=True)),
    "p = 0": mlp(nn.ReLU(), nn.Dropout(0.0, inplace=True)),
    "another operation's fault": OwnFault(),
    "in eval mode on purpose": mlp(nn.ReLU(), nn.Dropout(0.5, inplace=True).eval()),
    "nothing learns": mlp(nn.ReLU(), nn.Dropout(0.5, inplace=True)).requires_grad_(False),
}


@pytest.mark.parametrize("model", IN_PLACE_NEAR_MISSES.values(), ids=IN_PLACE_NEAR_MISSES)
def test_in_place_that_does_no_harm(model):
    assert codes(model) == []


def test_one_picture_will_do():
    model = nn.Sequential(nn.Conv2d(1, 7, 5), nn.BatchNorm2d(7), nn.ReLU(), nn.Dropout(0.5, inplace=True))
    assert codes(model, torch.ones(1, 1, 5, 5)) == [("DK030", "error", "3")]


# DK031


class Unit(nn.Module):
    """Divides by the norm of the features, which is 0 where all are dropped."""

    def __init__(self, p, least=0.0):
        super().__init__()
        self.fc1, self.drop, self.fc2 = nn.Linear(13, 3), nn.Dropout(p), nn.Linear(3, 5)
        self.least = least

    def forward(self, x):
        x = self.drop(self.fc1(x))
        return self.fc2(x / (x.norm(dim=1, keepdim=True) + self.least))


class Root(nn.Module):
    """Its output is finite where a unit is 0, the gradient is not."""

    def __init__(self, p):
        super().__init__()
        self.fc, self.drop = nn.Linear(13, 11), nn.Dropout(p)

    def forward(self, x):
        return self.drop(self.fc(x).sigmoid()).sqrt()


class Infinite(nn.Module):
    """Has inf within, which a later operation takes away."""

    def __init__(self, drop):
        super().__init__()
        self.fc, self.drop = nn.Linear(13, 11), drop

    def forward(self, x):
        y = self.fc(x)
        return self.drop(torch.cat([y, torch.full_like(y, -torch.inf)], 1)).softmax(1)


class Logarithm(nn.Module):
    def forward(self, x):
        return (x - x).log()


def test_not_finite_with_dropout_alone():
    example = torch.randn(59, 13)
    assert codes(Unit(0.9), example) == [("DK031", "error", "drop")]
    assert codes(Root(0.5)) == [("DK031", "error", "drop")]
    # torch multiplies by the mask: inf times 0 is NaN.
    assert codes(Infinite(nn.Dropout(0.5))) == [("DK031", "error", "drop")]


def test_the_layer_after_which_it_happens():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(13, 13), nn.ReLU(), nn.Dropout(0.1), Root(0.5))
    torch.manual_seed(0)
    assert codes(model) == [("DK031", "error", "4.drop")]


FINITE_OR_NEVER = {
    "a small constant": Unit(0.9, least=1e-6),
    "p = 0": Root(0.0),
    "inf that is dropped as zero": Infinite(dropkit.Dropout(0.5)),
    "not finite either way": nn.Sequential(nn.Dropout(0.5), nn.Linear(13, 11), nn.ReLU(), Logarithm()),
}


@pytest.mark.parametrize("model", FINITE_OR_NEVER.values(), ids=FINITE_OR_NEVER)
def test_finite_or_never(model):
    assert codes(model, torch.full((3, 13), 2.0)) == []


def test_an_input_with_inf_gives_nothing():
    assert codes(mlp(nn.ReLU(), nn.Dropout(0.5)), torch.full((3, 13), torch.inf)) == []


def test_without_gradients_around_it():
    with torch.no_grad():
        assert codes(mlp(nn.ReLU(), nn.Dropout(0.5, inplace=True))) == [("DK030", "error", "2")]


def test_the_model_is_untouched():
    model = nn.Sequential(
        nn.Linear(13, 11), nn.BatchNorm1d(11), nn.ReLU(), nn.Dropout(0.5, inplace=True), nn.Linear(11, 5)
    )
    model[0].weight.grad = gradient = torch.ones(11, 13)
    before, random, example = copy.deepcopy(model.state_dict()), torch.get_rng_state(), torch.ones(3, 13)
    assert codes(model, example) == [("DK030", "error", "3")]
    assert model[0].weight.grad is gradient
    assert torch.equal(gradient, torch.ones(11, 13))
    assert model[4].weight.grad is None
    assert model[3].inplace
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(example, torch.ones(3, 13))
