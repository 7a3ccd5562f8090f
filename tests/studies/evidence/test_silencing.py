"""Planted layers: one whose half can be silenced at no cost, one of which every unit matters."""

import numpy as np
import pytest
import torch
from torch import nn

from dropkit.studies.evidence.silencing import HALVES, half_scales, silenced


def linear(weight):
    layer = nn.Linear(*reversed(weight.shape), bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


UNITS, CLASSES = 11, 7


def one_unit_a_class():
    """Unit k alone knows class k; with all units at 0 the answer is class 0."""
    return nn.Sequential(linear(torch.eye(CLASSES)), nn.ReLU(), linear(torch.eye(CLASSES)))


def test_a_layer_of_copies_loses_nothing_with_half_of_its_units(planted, layer_at):
    model = nn.Sequential(
        linear(torch.ones(UNITS, 1)), nn.ReLU(), linear(torch.tensor([[0.5], [1.0]]).expand(2, UNITS))
    )
    with torch.no_grad():
        model[2].bias = nn.Parameter(torch.tensor([2.1, 0.0]))
    x = torch.linspace(0, 1, 23)[:, None]
    labels = model(x).argmax(1)
    assert set(labels.tolist()) == {0, 1}  # where the bias decides and where the units do
    network, pictures = planted(model, x, labels)
    found = silenced(network, layer_at("1"), pictures, UNITS)
    assert found["errors"] == [0] * HALVES  # survivors are scaled, so that their sum stays
    assert (found["error"], found["sd"]) == (0, 0)


def test_a_layer_all_of_whose_units_matter_loses_the_classes_of_the_silenced_ones(planted, layer_at):
    x = torch.eye(CLASSES).repeat(3, 1)
    labels = torch.arange(CLASSES).repeat(3)
    network, pictures = planted(one_unit_a_class(), x, labels, classes=CLASSES)
    layer = layer_at("1")
    found = silenced(network, layer, pictures, CLASSES, seed=3, halves=5)
    lost = half_scales(layer, CLASSES, 5, 3) == 0
    assert lost.sum(axis=1).tolist() == [CLASSES // 2] * 5
    assert found["errors"] == pytest.approx((lost[:, 1:].sum(axis=1) / CLASSES).tolist())  # class 0 is the default
    assert found["error"] == pytest.approx(np.mean(found["errors"]))
    assert found["sd"] == pytest.approx(np.std(found["errors"], ddof=1))
    assert len({tuple(row) for row in lost.tolist()}) > 1


def test_it_is_what_zeroed_channels_give(planted, layer_at):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 9, 3)).eval()
    x, labels = torch.randn(31, 2, 5, 5), torch.randint(3, (31,))
    layer = layer_at("1", "conv")
    network, pictures = planted(model, x, labels, classes=3)
    found = silenced(network, layer, pictures, 5, seed=1, halves=3)
    for scale, error in zip(half_scales(layer, 5, 3, 1), found["errors"], strict=True):
        maps = model[:2](x) * torch.from_numpy(scale)[:, None, None]
        assert error == pytest.approx(float((model[2:](maps).argmax(1) != labels).double().mean()))


class Looks(nn.Module):
    """What torch.vmap cannot follow: code that depends on data."""

    def forward(self, x):
        return x if float(x.sum()) > -1e9 else -x


def test_a_network_that_cannot_be_computed_at_once_gives_the_same(planted, layer_at):
    torch.manual_seed(0)
    parts = [nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4)]
    x, labels = torch.randn(29, 3), torch.randint(4, (29,))
    errors = [
        silenced(network, layer_at("1"), pictures, 8, seed=2)["errors"]
        for network, pictures in (
            planted(nn.Sequential(*parts), x, labels, classes=4),
            planted(nn.Sequential(*parts, Looks()), x, labels, classes=4),
        )
    ]
    assert errors[0] == errors[1]
    assert len(set(errors[0])) > 1


def test_silenced_units_that_are_infinite_leave_no_nan(planted, layer_at):
    model = nn.Sequential(linear(torch.ones(2, 1)), linear(torch.tensor([[1.0, 0.0], [0.0, 1.0]])))
    network, pictures = planted(model, torch.full((3, 1), torch.inf))
    seen = []
    model.register_forward_hook(lambda module, args, output: seen.append(torch.nan_to_num(output, nan=-7.0)))
    silenced(network, layer_at("0"), pictures, 2, halves=1)
    assert any(bool((torch.isfinite(logits) & (logits == -7)).any()) for logits in seen)  # 0 * inf in the next layer
    assert half_scales(layer_at("0"), 2, 1, 0).max() == 2


def test_the_halves_depend_on_seed_and_layer_alone_and_a_single_unit_has_none(planted, layer_at):
    scales = half_scales(layer_at("a"), 13, 4, 5)
    assert np.array_equal(scales, half_scales(layer_at("a"), 13, 4, 5))
    assert not np.array_equal(scales, half_scales(layer_at("a"), 13, 4, 6))
    assert not np.array_equal(scales, half_scales(layer_at("b"), 13, 4, 5))
    assert sorted(set(scales.ravel().tolist())) == pytest.approx([0, 13 / 7])
    network, pictures = planted(one_unit_a_class(), torch.eye(CLASSES))
    assert silenced(network, layer_at("1"), pictures, 1) is None


def test_every_pass_is_counted(planted, layer_at):
    network, pictures = planted(one_unit_a_class(), torch.eye(CLASSES).repeat(3, 1))
    counted = []
    silenced(network, layer_at("1"), pictures, CLASSES, tick=counted.append)
    assert sum(counted) == 3 * CLASSES
