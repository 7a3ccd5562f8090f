"""Where a network's hidden layers are, in which shape they are seen, and whether dropout acts there."""

import pytest
import torch
from torch import nn

from dropkit.models.bn_cnn import BatchNormCNN
from dropkit.models.cnn import CNNWithDropout
from dropkit.models.head import FrozenNetwork, Head
from dropkit.models.mlp import MLP
from dropkit.models.res_cnn import ResidualCNN
from dropkit.models.sites import Site
from dropkit.models.surgery import insert
from dropkit.studies.evidence.layers import MOST, Layer, chosen_layers, drops, hidden_layers

X = torch.zeros(2, 1, 16, 16)
SHAPE = {"input_shape": (1, 16, 16)}


def names(model, x=X):
    return [(layer.site.name, layer.path, layer.rate) for layer in hidden_layers(model, x)]


def test_dropkits_own_networks_have_all_their_stages():
    assert names(CNNWithDropout(**SHAPE)) == [
        ("conv[0]", "pool1", 0),
        ("conv[1]", "pool2", 0),
        ("fc[0]", "dropout", 0.5),
    ]
    assert [name for name, *_ in names(BatchNormCNN(**SHAPE))] == ["conv[0]", "conv[1]", "conv[2]", "head"]
    assert [name for name, *_ in names(ResidualCNN(**SHAPE))] == ["conv[0]", "conv[1]", "conv[2]", "head"]
    assert [rate for *_, rate in names(MLP(0.3, **SHAPE))] == [0.3, 0.3]


@pytest.mark.parametrize("policy", ["conv[1]=0.1,head=0.2", "conv[1]@act=0.1,head=gaussian:0.2"])
def test_the_rates_are_those_of_the_policy_wherever_its_layers_hang(policy):
    model = BatchNormCNN(**SHAPE)
    insert(model, policy)
    assert [rate for *_, rate in names(model)] == [0, 0.1, 0, 0.2]
    assert drops(model)
    insert(model, "none")
    assert [rate for *_, rate in names(model)] == [0, 0, 0, 0]
    assert not drops(model)


class Functional(nn.Module):
    """As many write it: the maps are flattened by functional code before a layer reads them."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc1, self.fc2 = nn.Conv2d(1, 3, 3), nn.Linear(3 * 7 * 7, 5), nn.Linear(5, 2)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.conv(x)), 2)
        return self.fc2(torch.relu(self.fc1(torch.flatten(x, 1))))


def test_functional_code_is_seen_in_the_shape_that_the_layer_made():
    model, seen = Functional(), []
    layers = hidden_layers(model, X)
    assert [(layer.site.name, layer.site.at_input) for layer in layers] == [("conv[0]", True), ("fc[0]", True)]
    x = torch.randn(2, 1, 16, 16)
    maps = torch.max_pool2d(torch.relu(model.conv(x)), 2)
    with layers[0].watched(model, seen.append):
        model(x)
    assert torch.equal(seen[0], maps)
    assert torch.equal(layers[0].by_unit(seen[0]), maps.flatten(2).transpose(1, 2))  # [N, places, channels]


def test_what_is_returned_is_read_instead_and_the_hook_goes():
    torch.manual_seed(3)  # a network whose units are not all dead
    model = Functional().eval()
    x = torch.randn(2, 1, 16, 16)
    plain = model(x)
    for layer in hidden_layers(model, X):
        with layer.watched(model, lambda value: value * 0):
            assert not torch.equal(model(x), plain)
        assert torch.equal(model(x), plain)
        with pytest.raises(ZeroDivisionError), layer.watched(model, lambda value: 1 / 0):
            model(x)
        assert torch.equal(model(x), plain)


@pytest.mark.parametrize(
    ("role", "shape", "expected"),
    [("conv", (2, 3, 5, 7), (2, 35, 3)), ("fc", (2, 5, 3), (2, 5, 3)), ("head", (2, 3), (2, 1, 3))],
)
def test_units_are_channels_or_features(role, shape, expected):
    assert Layer(Site(role, 0, "x")).by_unit(torch.zeros(shape)).shape == expected


def test_of_a_head_on_a_frozen_network_the_features_are_the_layer():
    head = Head(5, 2)
    insert(head, "head=0.5")
    model = FrozenNetwork(nn.Sequential(nn.Flatten(), nn.Linear(256, 5), nn.ReLU(), nn.Dropout(0.1)), head).eval()
    assert names(model) == [("head", "head.fc", 0.5)]
    seen = []
    with hidden_layers(model, X)[0].watched(model, seen.append):
        model(X)
    assert torch.equal(seen[0], model.backbone(X))
    insert(head, "none")
    assert not drops(model)  # what the frozen network has of its own never acted


def test_of_many_layers_the_first_and_the_last_are_chosen():
    layers = [Layer(Site("conv", index, f"{index}")) for index in range(53)]
    chosen = [layer.site.index for layer in chosen_layers(layers)]
    assert (len(chosen), chosen[0], chosen[-1]) == (MOST, 0, 52)
    assert len(set(chosen)) == MOST
    assert chosen_layers(layers[:MOST]) == layers[:MOST]
