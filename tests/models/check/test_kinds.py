"""Kinds of dropout that do not fit what they act on, and those that do."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit
from dropkit.models.check.check import check

pytestmark = pytest.mark.filterwarnings("error")  # what torch warns of is not for the user of check


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class Passes(nn.Module):
    """Layers with a function of its own between."""

    def __init__(self, before, function, *layers):
        super().__init__()
        self.before, self.function = before, function
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        return self.function(self.before(x), *self.layers)


def found(model, example, code="DK015"):
    return [f for f in check(model, example) if f.code == code]


def severity(model, example):
    return [f.severity for f in found(model, example)]


LAYERS_1D = (nn.Dropout1d, dropkit.Dropout1d)
LAYERS_2D = (nn.Dropout2d, dropkit.Dropout2d)
LAYERS_3D = (nn.Dropout3d, dropkit.Dropout3d)


def mlp(layer):
    return nn.Sequential(nn.Linear(5, 11), nn.ReLU(), layer, nn.Linear(11, 3))


@pytest.mark.parametrize("layer", LAYERS_1D)
def test_dropout1d_on_features(layer):
    (finding,) = found(mlp(layer(0.3)), random(7, 5))
    assert (finding.severity, finding.where) == ("error", "2")
    assert finding.observed == (
        "Dropout1d acts on a tensor [7, 11]: it takes dimension 0, the samples, for channels and drops whole samples"
    )
    assert finding.cure == "Use Dropout"
    assert severity(mlp(layer(0.0)), random(7, 5)) == []
    assert severity(mlp(nn.Dropout(0.3)), random(7, 5)) == []


@pytest.mark.parametrize("layer", LAYERS_1D)
def test_dropout1d_on_maps(layer):
    net = nn.Sequential(nn.Conv1d(3, 5, 3), nn.ReLU(), layer(0.3), nn.Conv1d(5, 2, 1))
    assert severity(net, random(7, 3, 11)) == []
    assert severity(net, random(3, 11)) == []  # one sample (C, L), as torch documents


@pytest.mark.parametrize("layer", LAYERS_2D)
def test_dropout2d_on_features_and_volumes(layer):
    (finding,) = found(mlp(layer(0.3)), random(7, 5))
    assert finding.severity == "warning"
    assert "[7, 11]: it drops single units, as Dropout does" in finding.observed
    volumes = nn.Sequential(nn.Conv3d(2, 3, 1), layer(0.3), nn.Conv3d(3, 2, 1))
    assert severity(volumes, random(2, 2, 5, 3, 7)) == ["warning"]


@pytest.mark.parametrize("layer", LAYERS_2D)
def test_dropout2d_on_three_dimensions(layer):
    maps = nn.Sequential(nn.Conv1d(3, 5, 3), nn.ReLU(), layer(0.3), nn.Conv1d(5, 2, 1))
    (finding,) = found(maps, random(7, 3, 11))
    assert (finding.severity, "as Dropout1d does" in finding.observed) == ("warning", True)
    tokens = nn.Sequential(nn.Linear(5, 11), nn.ReLU(), layer(0.3), nn.Linear(11, 3))
    (finding,) = found(tokens, random(2, 7, 5))
    assert (finding.severity, "drops whole positions, all their features" in finding.observed) == ("error", True)
    single = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), layer(0.3), nn.Conv2d(5, 2, 1))
    (finding,) = found(single, random(3, 11, 13))
    assert (finding.severity, "drops rows of pixels, not channels" in finding.observed) == ("error", True)
    assert severity(single, random(2, 3, 11, 13)) == []


def test_tokens_whose_features_were_moved():
    moved = Passes(nn.Linear(5, 11), lambda x, layer: layer(x.transpose(1, 2)).transpose(1, 2), nn.Dropout1d(0.3))
    assert severity(moved, random(2, 7, 5)) == []
    moved.layers[0] = nn.Dropout2d(0.3)
    assert severity(moved, random(2, 7, 5)) == ["warning"]


@pytest.mark.parametrize("layer", LAYERS_3D)
def test_dropout3d_on_maps(layer):
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), layer(0.3), nn.Conv2d(5, 2, 1))
    (finding,) = found(net, random(2, 3, 11, 13))
    assert finding.severity == "error"
    assert "Dropout3d acts on a tensor [2, 5, 9, 11]" in finding.observed
    assert "drops whole samples" in finding.observed
    assert finding.cure == "Use Dropout2d"
    volumes = nn.Sequential(nn.Conv3d(3, 5, 3), nn.ReLU(), layer(0.3), nn.Conv3d(5, 2, 1))
    assert severity(volumes, random(2, 3, 5, 7, 11)) == []
    assert severity(volumes, random(3, 5, 7, 11)) == []  # one sample (C, D, H, W), as torch documents


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: F.dropout1d(x, 0.3, True), ["error"]),
        (lambda x: F.dropout3d(x, 0.3, True), ["error"]),
        (lambda x: F.dropout2d(x, 0.3, True), ["warning"]),
        (lambda x: F.dropout(x, 0.3, True), []),
        (lambda x: F.dropout1d(x, 0.0, True), []),
        (lambda x: F.dropout1d(x, 0.3, False), []),
    ],
)
def test_functions(function, expected):
    findings = found(Passes(nn.Linear(5, 11), function), random(7, 5))
    assert [f.severity for f in findings] == expected
    assert all("test_kinds.py:" in f.where for f in findings)


def test_feature_alpha_dropout():
    def net(convolution, layer):
        return nn.Sequential(convolution(3, 5, 1), nn.SELU(), layer, convolution(5, 2, 1))

    for layer in (nn.FeatureAlphaDropout(0.3), dropkit.FeatureAlphaDropout(0.3)):
        assert severity(net(nn.Conv3d, layer), random(2, 3, 5, 7, 11)) == []
        assert severity(net(nn.Conv2d, layer), random(2, 3, 5, 7)) == []
        (finding,) = found(net(nn.Conv3d, layer), random(3, 5, 7, 11))
        assert (finding.severity, "pairs of channel and row" in finding.observed) == ("error", True)
        single = nn.Sequential(nn.Linear(5, 11), nn.SELU(), layer)
        assert severity(single, random(7, 5)) == ["warning"]
    told = dropkit.FeatureAlphaDropout(0.3, batched=False)
    assert severity(net(nn.Conv3d, told), random(3, 5, 7, 11)) == []


@pytest.mark.parametrize("layer", [nn.AlphaDropout(0.3), dropkit.AlphaDropout(0.3)])
@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        (nn.ReLU(), ["warning"]),
        (nn.GELU(), ["warning"]),
        (nn.ELU(), ["warning"]),
        (nn.SELU(), []),
        (nn.SELU(inplace=True), []),
        (nn.ELU(1.6732632423543772), []),
        (nn.Identity(), []),
    ],
)
def test_alpha_dropout_without_selu(layer, activation, expected):
    net = nn.Sequential(nn.Linear(5, 11), activation, layer, nn.Linear(11, 3))
    findings = found(net, random(7, 5), "DK016")
    assert [f.severity for f in findings] == expected
    assert all(f.where == "2" and "Use Dropout, or SELU" in f.cure for f in findings)


def test_selu_before_the_layer_that_feeds_alpha_dropout():
    net = nn.Sequential(nn.Linear(5, 11), nn.SELU(), nn.Linear(11, 7), nn.AlphaDropout(0.3), nn.Linear(7, 3))
    assert found(net, random(7, 5), "DK016") == []
    net[1] = nn.ReLU()
    assert len(found(net, random(7, 5), "DK016")) == 1
    net[3].p = 0.0
    assert found(net, random(7, 5), "DK016") == []


def test_the_cure_of_feature_alpha_dropout_is_the_channel_layer():
    net = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(), nn.FeatureAlphaDropout(0.3), nn.Conv2d(5, 2, 1))
    (finding,) = found(net, random(2, 3, 7, 11), "DK016")
    assert "Use Dropout2d" in finding.cure


def test_inplace_that_is_ignored():
    def net(layer):
        return nn.Sequential(nn.Linear(5, 11), nn.SELU(), layer, nn.Linear(11, 3))

    (finding,) = found(net(nn.AlphaDropout(0.3, inplace=True)), random(7, 5), "DK017")
    assert (finding.severity, finding.where) == ("note", "2")
    assert found(net(nn.AlphaDropout(0.3)), random(7, 5), "DK017") == []
    assert found(net(dropkit.AlphaDropout(0.3, inplace=True)), random(7, 5), "DK017") == []


def test_dropout1d_on_one_sequence_whose_features_come_first():
    net = Passes(nn.Linear(5, 11), lambda x, layer: layer(x.T).T, nn.Dropout1d(0.3))
    assert severity(net, random(7, 5)) == []
    net.function = lambda x, layer: layer(x)
    assert severity(net, random(7, 5)) == ["error"]
