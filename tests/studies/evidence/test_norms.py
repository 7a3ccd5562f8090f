"""The norms of units' incoming weights: hand-made weights of every kind of layer."""

import math

import pytest
import torch
from torch import nn

from dropkit.layers.weights import DropConnect
from dropkit.models.head import FrozenNetwork, Head
from dropkit.studies.evidence.norms import QUANTILES, weight_norms


def filled(layer, weight):
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


def test_each_layer_has_the_quantiles_of_its_units_and_all_have_a_norm_together():
    first = filled(nn.Linear(2, 3), torch.tensor([[3.0, 4.0], [0.0, 1.0], [6.0, 8.0]]))
    second = filled(nn.Conv2d(1, 2, 2), torch.tensor([[[[1.0, 1.0], [1.0, 1.0]]], [[[2.0, 2.0], [2.0, 2.0]]]]))
    found = weight_norms(nn.Sequential(first, nn.ReLU(), second))
    assert [(row["layer"], row["units"]) for row in found["layers"]] == [("0", 3), ("2", 2)]
    expected = torch.tensor([1.0, 5.0, 10.0], dtype=torch.float64).quantile(torch.tensor(QUANTILES).double())
    assert found["layers"][0]["quantiles"] == pytest.approx(expected.tolist())
    assert found["layers"][1]["quantiles"] == pytest.approx([2.1, 2.5, 3.0, 3.5, 3.9])
    assert [row["norm"] for row in found["layers"]] == pytest.approx([math.sqrt(126), math.sqrt(20)])
    assert found["total"] == pytest.approx(math.sqrt(146))


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolutions_units_are_its_outputs(groups):
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(4, 6, 3, groups=groups)
    found = weight_norms(nn.Sequential(layer))["layers"][0]
    # What an output reads: the weights that a picture of ones in one input after another adds to it.
    norms = torch.zeros(6, dtype=torch.float64)
    for channel in range(4):
        x = torch.zeros(1, 4, 1, 1)
        x[0, channel] = 1
        with torch.no_grad():
            made = layer.double()(x.double())[0] - layer.bias.detach()[:, None, None]
        norms += made.square().sum((1, 2))
    expected = norms.sqrt().quantile(torch.tensor(QUANTILES).double())
    assert found["units"] == 6
    assert found["quantiles"] == pytest.approx(expected.tolist(), rel=1e-6)


def test_a_shared_weight_counts_once_and_dropped_weights_do():
    one = nn.Linear(3, 3)
    other = nn.Linear(3, 3)
    other.weight = one.weight
    assert len(weight_norms(nn.Sequential(one, other))["layers"]) == 1
    wrapped = nn.Sequential(DropConnect(nn.Linear(3, 3), 0.5))
    assert weight_norms(wrapped)["layers"]


def test_of_a_frozen_network_the_head_alone_counts():
    model = FrozenNetwork(nn.Sequential(nn.Flatten(), nn.Linear(4, 5)), Head(5, 2))
    assert [row["layer"] for row in weight_norms(model)["layers"]] == ["head.fc"]


def test_a_network_without_weights_has_no_norm():
    assert weight_norms(nn.Sequential(nn.ReLU())) == {"layers": [], "total": 0.0}
