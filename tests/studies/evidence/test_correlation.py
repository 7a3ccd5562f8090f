"""Planted correlations: copies, independent noise, units that follow the place alone."""

import math

import numpy as np
import pytest

from dropkit.studies.evidence.correlation import correlation
from dropkit.studies.evidence.recording import Observations


def of(values):
    return correlation(Observations(np.array(values, dtype=np.float64), values.shape[2]))


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def bound(n, pairs):
    """Six standard deviations of the mean |r| of independent normal units: |r| is nearly half-normal, of variance 1/n.

    Its own variance is (1 - 2 / pi) / n; pairs that share a unit are uncorrelated in r, so that theirs nearly add. The
    half-normal mean sqrt(2 / (pi n)) is off by at most 1 / n^1.5.
    """
    return 6 * math.sqrt((1 - 2 / math.pi) / (n * pairs)) + n**-1.5


@pytest.mark.parametrize(("n", "units"), [(101, 31), (997, 17)])
def test_independent_units_show_what_the_number_of_observations_gives(n, units):
    found = of(noise(n, 1, units))
    expected, pairs = math.sqrt(2 / (math.pi * n)), units * (units - 1) // 2
    assert found["mean"] == pytest.approx(expected, abs=bound(n, pairs))
    assert found["chance"] == pytest.approx(expected, abs=bound(n, pairs))
    assert found["excess"] == found["mean"] - found["chance"]
    assert expected > 0.005  # so that the bound says something
    assert bound(n, pairs) < expected / 2


def test_a_copied_unit_is_fully_correlated_whatever_its_sign_and_scale():
    one = noise(211, 1, 1)
    found = of(np.concatenate([one, 3 * one + 1, -one], axis=2))
    assert found["mean"] == pytest.approx(1)
    assert found["chance"] < 0.2


def test_the_mean_is_over_distinct_pairs():
    a, b = noise(401, 1, 1), noise(401, 1, 1, seed=1)
    values = np.concatenate([a, b, a], axis=2)
    r = np.abs(np.corrcoef(values[:, 0].T))
    assert of(values)["mean"] == pytest.approx((r[0, 1] + r[0, 2] + r[1, 2]) / 3)


def test_constant_units_are_left_out_and_counted():
    values = noise(53, 1, 5)
    values[:, :, 2], values[:, :, 4] = 0, 0.1
    found = of(values)
    assert (found["varying"], found["constant"]) == (3, 2)
    assert of(noise(53, 1, 1)) is None
    assert of(np.zeros((53, 1, 3))) is None


def test_units_that_follow_the_place_alone_show_no_more_than_chance():
    """All units are active at the same places of every picture: that is the layout of maps, and no co-adaptation."""
    layout = noise(1, 7, 1, seed=2)
    found = of(layout + 0.5 * noise(199, 7, 11))
    n, pairs = 199 * 7, 55
    assert found["mean"] > 0.6
    assert abs(found["excess"]) < 2 * bound(n, pairs)


def test_units_that_answer_the_same_pictures_do():
    shared = noise(199, 1, 1, seed=3)
    found = of(shared + 0.5 * noise(199, 7, 11))
    assert found["excess"] > 0.6


def test_the_shuffles_depend_on_the_seed_alone():
    values = Observations(noise(31, 2, 3), 3)
    first = correlation(values, seed=5)
    assert first == correlation(values, seed=5)
    assert first["chance"] != correlation(values, seed=6)["chance"]
