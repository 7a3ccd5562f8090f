"""Intervals of a mean over trainings, against scipy's and by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from dropkit.errors import DropkitError
from dropkit.runs.intervals import mean_interval, mean_p_value

VALUES = [0.16, 0.17, 0.15, 0.19, 0.16]


def test_the_mean_over_seeds_has_a_t_interval():
    low, high = stats.t.interval(0.95, 4, np.mean(VALUES), stats.sem(VALUES))
    assert mean_interval(VALUES) == pytest.approx((np.mean(VALUES), low, high))
    assert mean_interval([0.16]) == (0.16, None, None)
    with pytest.raises(DropkitError, match="no values"):
        mean_interval([])


def test_folds_that_share_pictures_have_a_wider_one():
    """With 5 values and 1/4 shared the variance is (1/5 + 1/4) s^2: 9/4 times as large, so 3/2 times as wide."""
    plain, shared = mean_interval(VALUES), mean_interval(VALUES, 0.25)
    assert shared[0] == plain[0]
    assert shared[2] - shared[0] == pytest.approx(1.5 * (plain[2] - plain[0]))
    assert shared[0] - shared[1] == pytest.approx(1.5 * (plain[0] - plain[1]))


def test_the_p_value_is_the_t_tests():
    assert mean_p_value([v - 0.15 for v in VALUES]) == pytest.approx(stats.ttest_1samp(VALUES, 0.15).pvalue)
    assert mean_p_value([2.0, 2.0, 2.0]) == 0.0
    assert mean_p_value([1.0, -1.0]) == 1.0


@pytest.mark.parametrize("shared", [0.0, 0.25, 0.5])
def test_the_interval_ends_where_the_p_value_is_a_twentieth(shared):
    _, low, high = mean_interval(VALUES, shared)
    for end in (low, high):
        assert mean_p_value([v - end for v in VALUES], shared) == pytest.approx(0.05)
    assert math.isclose(low + high, 2 * np.mean(VALUES))
