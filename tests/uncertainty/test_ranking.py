"""Risk, coverage and the ROC against loops over all pairs and orders, closed forms and scikit-learn."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropkit.errors import DropkitError
from dropkit.uncertainty.ranking import aurc, auroc, risk_coverage


def binary(confidence, right):
    """Return two-class probabilities and labels with these top probabilities and answers."""
    top = np.asarray(confidence, dtype=float)
    return np.stack([top, 1 - top], axis=1), np.where(right, 0, 1)


def risks(right):
    return [sum(not r for r in right[:i]) / i for i in range(1, len(right) + 1)]


def test_risk_and_coverage_by_hand():
    coverage, risk = risk_coverage(*binary([0.6, 0.9, 0.8, 0.7], [0, 1, 0, 1]))
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert risk == pytest.approx([0, 1 / 2, 1 / 3, 2 / 4])
    assert aurc(*binary([0.6, 0.9, 0.8, 0.7], [0, 1, 0, 1])) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)


@given(st.lists(st.tuples(st.sampled_from([0.6, 0.7, 0.8]), st.booleans()), min_size=1, max_size=6))
def test_equals_count_as_the_mean_over_all_their_orders(pictures):
    confidence, right = zip(*pictures, strict=True)
    orders = [
        [right[i] for i in order]
        for order in itertools.permutations(range(len(right)))
        if all(confidence[a] >= confidence[b] for a, b in itertools.pairwise(order))
    ]
    expected = np.mean([risks(order) for order in orders], axis=0)
    np.testing.assert_allclose(risk_coverage(*binary(confidence, right))[1], expected, atol=1e-12)


def test_perfect_random_and_worst_ranking():
    n, wrong = 1000, 200
    right = np.arange(n) < n - wrong
    surest_first, e = np.linspace(0.99, 0.51, n), wrong / n
    perfect = aurc(*binary(surest_first, right))
    assert perfect == pytest.approx(sum((i - 800) / i for i in range(801, 1001)) / n)
    assert perfect == pytest.approx(e + (1 - e) * math.log(1 - e), abs=1 / n)
    assert aurc(*binary(np.full(n, 0.7), right)) == pytest.approx(e)
    assert aurc(*binary(surest_first[::-1], right)) == pytest.approx(
        (wrong + sum(wrong / i for i in range(wrong + 1, n + 1))) / n
    )
    assert aurc(*binary(surest_first, np.ones(n))) == 0
    assert aurc(*binary(surest_first, np.zeros(n))) == 1


def test_a_confidence_of_ones_own_ranks():
    p, y = binary([0.9, 0.8, 0.7], [0, 1, 1])
    assert aurc(p, y, confidence=[-3.0, -1.0, -2.0]) == pytest.approx(1 / 9)
    assert aurc(p, y) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.lists(st.integers(0, 9), min_size=1, max_size=9))
def test_auroc_is_the_share_of_pairs_in_the_right_order(inside, outside):
    pairs = [(b > a) + 0.5 * (b == a) for a in inside for b in outside]
    assert auroc(inside, outside) == pytest.approx(sum(pairs) / len(pairs))


def test_what_cannot_be_ranked_is_refused():
    for wrong in ([], [[0.1]], [math.nan], [math.inf]):
        with pytest.raises(DropkitError, match="scores inside"):
            auroc(wrong, [1.0])
        with pytest.raises(DropkitError, match="scores outside"):
            auroc([1.0], wrong)
    p, y = binary([0.9, 0.8, 0.7], [0, 1, 1])
    with pytest.raises(DropkitError, match=r"confidence of shape \[2\].*\(3\)"):
        aurc(p, y, confidence=[1.0, 2.0])
    with pytest.raises(DropkitError, match="no distribution"):
        aurc(2 * p, y)
