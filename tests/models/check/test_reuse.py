import copy

import pytest
import torch
from torch import nn

import dropkit
from dropkit.models.check.evidence import Evidence
from dropkit.models.check.reuse import RULES


def findings(model):
    evidence = Evidence(model, torch.ones(3, 13))
    return [finding for rule in RULES for finding in rule(evidence)]


class Net(nn.Module):
    def __init__(self, first, second=None):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(13, 11), nn.Linear(11, 11), nn.Linear(11, 5)
        self.first, self.second = first, first if second is None else second

    def forward(self, x):
        return self.fc3(self.second(self.fc2(self.first(self.fc1(x).relu())).relu()))


@pytest.mark.parametrize("layer", [dropkit.Dropout(0.3), dropkit.GaussianDropout(0.3), dropkit.DropPath(0.3)])
def test_called_at_two_places(layer):
    (finding,) = findings(Net(layer))
    assert (finding.code, finding.severity, finding.where) == ("DK035", "note", "first")
    assert "called 2 times" in finding.observed
    assert "(after fc1, fc2)" in finding.observed


def test_the_mask_does_repeat():
    layer, x = dropkit.Dropout(0.3), torch.ones(3, 11)
    with dropkit.keyed(layer, seed=0, step=0):
        assert torch.equal(layer(x), layer(x))


NEAR_MISSES = {
    "a layer each": Net(dropkit.Dropout(0.3), dropkit.Dropout(0.3)),
    "torch's draws fresh masks": Net(nn.Dropout(0.3)),
    "p = 0": Net(dropkit.Dropout(0.0)),
}


@pytest.mark.parametrize("model", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses(model):
    assert findings(model) == []


def test_a_layer_that_is_registered_twice_and_called_once():
    model = Net(dropkit.Dropout(0.3), nn.Identity())
    model.alias = model.first
    assert findings(model) == []


def test_the_model_is_untouched():
    model = Net(dropkit.Dropout(0.3))
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    assert findings(model.eval())
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
