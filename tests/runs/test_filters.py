"""First-layer filters: which layer, how it is laid out, how weights become grey."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from dropkit.runs.filters import first_filters, grid


def run_of(model, shape):
    """What first_filters asks of a run."""
    return SimpleNamespace(
        model=lambda: model, summary={"data": {"shape": list(shape)}}, config=SimpleNamespace(seed=7)
    )


def test_the_first_convolution_is_shown():
    model = nn.Sequential(nn.Linear(5, 5), nn.Conv2d(3, 11, 5), nn.Conv2d(11, 2, 3))
    found = first_filters(run_of(model, (3, 19, 23)))
    assert (found["layer"], found["shape"], found["shown"], found["columns"]) == ("1", [11, 3, 5, 5], 11, 8)
    assert found["seed"] == 7
    assert found["image"].startswith("data:image/png;base64,")


def test_without_one_the_first_linear_layer_is_reshaped_to_the_picture():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 5 * 7, 67), nn.Linear(67, 2))
    found = first_filters(run_of(model, (3, 5, 7)))
    assert (found["layer"], found["shape"], found["shown"]) == ("1", [67, 3, 5, 7], 64)


@pytest.mark.parametrize(
    "model", [nn.Sequential(nn.Flatten(), nn.Linear(11, 2)), nn.Identity()], ids=["reads something else", "no weights"]
)
def test_a_network_without_such_a_layer_has_none(model):
    assert first_filters(run_of(model, (1, 5, 7))) is None


def test_a_network_that_cannot_be_built_again_has_none():
    def broken():
        raise RuntimeError("an odd network")

    odd = run_of(nn.Identity(), (1, 5, 7))
    odd.model = broken
    assert first_filters(odd) is None


def test_large_filters_are_fewer():
    model = nn.Sequential(nn.Flatten(), nn.Linear(101 * 103, 13))
    assert first_filters(run_of(model, (1, 101, 103)))["shown"] == 65_536 // (101 * 103)


def test_filters_lie_in_rows_of_eight_a_transparent_pixel_apart():
    weights = torch.arange(1, 12).double().view(11, 1, 1, 1).expand(11, 1, 2, 3).numpy()
    picture = grid(weights)
    assert picture.shape == (2, 2 * 3 - 1, 8 * 4 - 1)
    expected = np.zeros((5, 31), dtype=bool)
    for number in range(11):
        y, x = 3 * (number // 8), 4 * (number % 8)
        expected[y : y + 2, x : x + 3] = True
    assert np.array_equal(picture[1] == 255, expected)
    assert (picture[1][~expected] == 0).all()


def test_grey_is_a_weight_of_zero_and_each_filter_has_its_own_scale():
    weights = np.array([[[[0.0, 0.5, -1.0]]], [[[0.0, 30.0, -15.0]]], [[[0.0, 0.0, 0.0]]]])
    grey = grid(weights)[0]
    assert grey[0, :3].tolist() == [128, 192, 1]
    assert grey[0, 4:7].tolist() == [128, 255, 64]
    assert grey[0, 8:11].tolist() == [128, 128, 128]


def test_three_inputs_are_colours_and_other_numbers_their_mean():
    weights = np.zeros((1, 3, 1, 2))
    weights[0, 0, 0, 0], weights[0, 2, 0, 1] = 1.0, -1.0
    assert grid(weights)[:, 0].tolist() == [[255, 128], [128, 128], [128, 1], [255, 255]]
    five = np.zeros((1, 5, 1, 2))
    five[0, :, 0, 0], five[0, 0, 0, 1] = 1.0, -5.0
    assert grid(five)[:, 0].tolist() == [[255, 1], [255, 255]]
