"""Observations are what the units did: the same for any batch, in bounded memory."""

import numpy as np
import pytest
import torch
from torch import nn

from dropkit.errors import DropkitError
from dropkit.studies.evidence import recording
from dropkit.studies.evidence.correlation import correlation
from dropkit.studies.evidence.recording import observe


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 9 * 5, 2))


X = torch.randn(23, 2, 11, 7, generator=torch.Generator().manual_seed(1))


def test_every_place_of_every_picture_is_seen_where_there_is_room(network, planted, layer_at):
    counted = []
    found = observe(*planted(network, X)[:1], layer_at("1", "conv"), planted(network, X)[1], tick=counted.append)
    expected = network[:2](X).flatten(2).transpose(1, 2)
    assert found.values.shape == (23, 45, 3)
    np.testing.assert_array_equal(found.values, expected.detach().double().numpy())
    assert (found.units, sum(counted)) == (3, 23)


def test_many_places_and_units_are_chosen_by_seed_and_path_alone(network, planted, layer_at, monkeypatch):
    monkeypatch.setattr(recording, "NUMBERS", 23 * 2 * 4)
    monkeypatch.setattr(recording, "UNITS", 2)

    def seen(size, seed, path="1"):
        return observe(*(given := planted(network, X, size=size))[:1], layer_at(path, "conv"), given[1], seed=seed)

    found = seen(7, 5)
    assert (found.values.shape, found.units) == ((23, 4, 2), 3)
    np.testing.assert_array_equal(found.values, seen(23, 5).values)
    assert (found.values != seen(7, 6).values).any()
    every = network[:2](X).flatten(2).detach().double().numpy()  # [N, C, places]
    for picture in range(23):
        for place in range(4):
            both = (every[picture][:, None, :] == found.values[picture, place][None, :, None]).any(axis=2)
            assert both.any(axis=0).all()  # each number is one of the picture's own


def test_chance_is_the_same_where_places_are_chosen(planted, layer_at, monkeypatch):
    """Maps that share a layout are alike by chance; to see that, all pictures have to show the same places."""
    torch.manual_seed(0)
    x = 0.3 * torch.randn(101, 1, 16, 16) + torch.linspace(0, 3, 16)
    model = nn.Sequential(nn.Conv2d(1, 7, 3), nn.ReLU(), nn.Flatten(), nn.Linear(7 * 196, 2))
    network, pictures = planted(model, x)

    def chance():
        return correlation(observe(network, layer_at("1", "conv"), pictures))["chance"]

    whole = chance()
    assert whole > 0.2
    monkeypatch.setattr(recording, "NUMBERS", 101 * 7 * 60)  # 60 of 196 places
    assert chance() == pytest.approx(whole, abs=0.05)


def test_numbers_that_are_not_finite_are_said(planted, layer_at):
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    with torch.no_grad():
        model[0].bias[2] = torch.inf
    network, pictures = planted(model, torch.zeros(4, 3))
    with pytest.raises(DropkitError, match="the layer '1' makes numbers that are not finite"):
        observe(network, layer_at("1"), pictures)
