"""Calibration against loops, closed forms, scikit-learn and SciPy."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.metrics import brier_score_loss, log_loss

from dropkit.errors import DropkitError
from dropkit.runs import metrics
from dropkit.uncertainty.calibration import (
    averaging,
    brier,
    ece,
    fit_temperature,
    nll,
    reliability,
    temperature_scaled,
)

N, K, DRAWS = 211, 7, 23


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    return softmax(2 * rng.standard_normal((N, K)), axis=1), rng.integers(0, K, N)


@pytest.fixture
def draws():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, K, N)
    signal = 2.0 * (labels[:, None] == np.arange(K)) + 2 * rng.standard_normal((N, K))
    return signal + rng.standard_normal((DRAWS, N, K)), labels


def distributions(n, k):
    """Return a strategy of probabilities [n, k] and labels [n]; coarse, so that ties are common."""
    rows = st.lists(st.integers(0, 5), min_size=k, max_size=k).map(lambda row: np.array(row) + 0.25)
    return st.tuples(
        st.lists(rows, min_size=n, max_size=n).map(lambda rows: np.stack([row / row.sum() for row in rows])),
        st.lists(st.integers(0, k - 1), min_size=n, max_size=n).map(np.array),
    )


def brute_ece(p, y, groups):
    """Return the calibration error of given groups of pictures, one picture after the other."""
    total = 0.0
    for group in groups:
        if len(group):
            sure = sum(max(p[i]) for i in group) / len(group)
            good = sum(int(np.argmax(p[i]) == y[i]) for i in group) / len(group)
            total += len(group) / len(p) * abs(sure - good)
    return total


@pytest.mark.parametrize("bins", [1, 5, 15, 300])
def test_ece_by_a_loop_over_equally_wide_bins(case, bins):
    p, y = case
    top = p.max(axis=1)
    groups = [[i for i in range(N) if b / bins < top[i] <= (b + 1) / bins] for b in range(bins)]
    assert ece(p, y, bins) == pytest.approx(brute_ece(p, y, groups))
    assert 0.1 < ece(p, y, bins) < 1


@pytest.mark.parametrize("bins", [1, 5, 15, 211])
def test_ece_by_a_loop_over_bins_of_equal_mass(case, bins):
    p, y = case
    order = list(np.argsort(p.max(axis=1)))
    ends = [math.ceil(N * b / bins) for b in range(bins + 1)]
    groups = [order[low:high] for low, high in itertools.pairwise(ends)]
    assert ece(p, y, bins, "mass") == pytest.approx(brute_ece(p, y, groups))
    top, right = p.max(axis=1), p.argmax(axis=1) == y
    assert reliability(top, right, bins, "mass").count.tolist() == [len(group) for group in groups]


def test_equal_mass_keeps_equal_probabilities_together_in_any_order():
    """.7 three times, twice right: in one bin the gap is small, in two it would depend on the order."""
    p = np.array([[0.7, 0.3]] * 3 + [[0.9, 0.1]])
    for labels in ([0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0]):
        assert ece(p, labels, 2, "mass") == pytest.approx(3 / 4 * (0.7 - 2 / 3) + 1 / 4 * 0.1)


def test_reliability_by_hand():
    found = reliability([0.9, 0.7, 0.7, 1.0, 0.5], [1, 1, 0, 1, 0], bins=4)
    assert found.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found.count.tolist() == [0, 1, 2, 2]
    np.testing.assert_allclose(found.confidence, [np.nan, 0.5, 0.7, 0.95])
    np.testing.assert_allclose(found.accuracy, [np.nan, 0, 0.5, 1])
    assert found.ece == pytest.approx((0.5 + 2 * 0.2 + 2 * 0.05) / 5)


def test_a_runs_record_and_this_are_one_definition(draws):
    logits, labels = draws
    assert metrics.ece(logits[0], labels) == pytest.approx(ece(softmax(logits[0], axis=1), labels))
    assert metrics.nll(logits[0], labels) == pytest.approx(nll(softmax(logits[0], axis=1), labels))


def test_scores_are_scikit_learns(case):
    p, y = case
    assert nll(p, y) == pytest.approx(log_loss(y, p, labels=range(K)))
    assert brier(p, y) == pytest.approx(brier_score_loss(y, p, labels=range(K), scale_by_half=False))


def test_scores_at_their_ends():
    sure = np.eye(3)
    assert (brier(sure, [0, 1, 2]), nll(sure, [0, 1, 2]), ece(sure, [0, 1, 2])) == (0, 0, 0)
    assert math.copysign(1, nll(sure, [0, 1, 2])) == 1  # 0, not -0
    assert (brier(sure, [1, 2, 0]), nll(sure, [1, 2, 0]), ece(sure, [1, 2, 0])) == (2, math.inf, 1)
    even = np.full((3, 3), 1 / 3)
    assert brier(even, [0, 1, 2]) == pytest.approx(2 / 3)
    assert nll(even, [0, 1, 2]) == pytest.approx(math.log(3))


@given(distributions(13, 3), st.integers(1, 30), st.sampled_from(["width", "mass"]))
def test_scores_stay_in_range_and_know_no_order(case, bins, binning):
    p, y = case
    assert 0 <= ece(p, y, bins, binning) <= 1
    assert 0 <= brier(p, y) <= 2
    backwards = ece(p[::-1], y[::-1], bins, binning)
    assert backwards == pytest.approx(ece(p, y, bins, binning), abs=1e-12)


@given(distributions(13, 3))
def test_finer_bins_of_width_show_no_less_error(case):
    """Splitting a bin cannot make its gap smaller: |a + b| <= |a| + |b|."""
    assert ece(*case, bins=4) <= ece(*case, bins=8) + 1e-12


def test_temperature_divides_every_draws_logits_before_they_are_averaged(draws):
    logits, _ = draws
    expected = np.mean([softmax(z / 2.5, axis=1) for z in logits], axis=0)
    np.testing.assert_allclose(temperature_scaled(logits, 2.5), expected, atol=1e-15)
    np.testing.assert_allclose(temperature_scaled(logits[0], 1), softmax(logits[0], axis=1), atol=1e-15)
    assert np.isfinite(temperature_scaled([[1e5, -1e5]], 0.01)).all()


@pytest.mark.parametrize("of_draws", [False, True])
def test_fitted_temperature_is_where_scipys_simplex_ends(draws, of_draws):
    logits, labels = draws
    z = logits if of_draws else logits[:1]

    def loss(t):
        log_p = log_softmax(z / np.exp(t[0]), axis=2)[:, np.arange(N), labels]
        return -(logsumexp(log_p, axis=0) - np.log(len(z))).mean()

    expected = np.exp(minimize(loss, [0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12}).x[0])
    found = fit_temperature(z if of_draws else z[0], labels)
    assert found == pytest.approx(expected, rel=1e-4)
    assert nll(temperature_scaled(z, found), labels) < nll(temperature_scaled(z, 1), labels)


def test_draws_want_another_temperature_than_one_network(draws):
    """Averaging alone makes predictions less sure."""
    logits, labels = draws
    assert fit_temperature(logits, labels) < 0.8 * fit_temperature(logits[0], labels)


def test_fitted_temperature_in_closed_form():
    """Of 5 pictures with logit difference d, 4 are right: sigmoid(d / T) = 4/5, so T = d / log 4."""
    for d in (0.1, 3.0, 40.0):
        assert fit_temperature([[d, 0.0]] * 5, [0, 0, 0, 0, 1]) == pytest.approx(d / math.log(4), rel=1e-4)


def test_logits_that_are_scaled_have_a_temperature_that_is(draws):
    logits, labels = draws
    assert fit_temperature(7 * logits, labels) == pytest.approx(7 * fit_temperature(logits, labels), rel=1e-4)


@pytest.mark.parametrize(("labels", "end"), [([0, 1], 0.01), ([1, 0], 100.0)])
def test_pictures_that_set_no_bound_give_an_end_and_a_warning(labels, end):
    with pytest.warns(UserWarning, match="set no bound to the temperature"):
        assert fit_temperature([[3.0, 0.0], [0.0, 3.0]], labels) == end


def test_averaging_by_a_loop(draws):
    logits, labels = draws
    found = averaging(logits, labels, [1, 5, DRAWS])
    assert [(a.k, a.groups) for a in found] == [(1, 23), (5, 4), (23, 1)]
    for average in found:
        errors, losses = [], []
        for start in range(0, average.groups * average.k, average.k):
            p = sum(softmax(z, axis=1) for z in logits[start : start + average.k]) / average.k
            errors.append(np.mean(p.argmax(axis=1) != labels))
            losses.append(log_loss(labels, p, labels=range(K)))
        assert average.error == pytest.approx(np.mean(errors))
        assert average.nll == pytest.approx(np.mean(losses))
        if average.groups > 1:
            assert average.error_se == pytest.approx(np.std(errors, ddof=1) / math.sqrt(len(errors)))
            assert average.nll_se == pytest.approx(np.std(losses, ddof=1) / math.sqrt(len(losses)))
    assert found[-1].error_se is None
    assert found[-1].nll_se is None
    assert found[0].nll > found[1].nll > found[2].nll  # Jensen: an average is never worse than its parts


def test_averaging_keeps_probabilities_that_underflow():
    assert averaging([[[2000.0, 0.0]], [[3000.0, 0.0]]], [1], [2])[0].nll == pytest.approx(2000 + math.log(2))


def test_tensors_of_any_kind_are_taken(case):
    p, y = case
    tensor = torch.tensor(p, requires_grad=True)
    assert brier(tensor, torch.tensor(y)) == brier(p, y)
    assert ece(tensor.bfloat16().float(), torch.tensor(y)) == pytest.approx(ece(p, y), abs=0.02)
    assert nll([[0.25, 0.75]], torch.tensor([1], dtype=torch.uint8)) == pytest.approx(-math.log(0.75))
    assert temperature_scaled(torch.zeros(1, 2, dtype=torch.bfloat16), 1).tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize("score", [ece, nll, brier])
def test_probabilities_that_are_none_are_refused(score):
    for row, words in (([2.0, -1.0], "row 1 .*smallest value -1"), ([3.0, 1.0], "sum 4"), ([np.nan, 1], "sum nan")):
        with pytest.raises(DropkitError, match=words):
            score([[0.5, 0.5], row], [0, 1])
    for wrong in ([0.5, 0.5], [[1.0], [1.0]], np.zeros((0, 2)), np.zeros((2, 2, 2))):
        with pytest.raises(DropkitError, match=r"give \[N, K\]"):
            score(wrong, [0, 1])
    with pytest.raises(DropkitError, match="no array of numbers"):
        score([["a", "b"]], [0])


@pytest.mark.parametrize("function", [fit_temperature, lambda z, y: averaging(z, y, [1]), lambda z, y: nll(z, y)])
def test_labels_that_do_not_fit_are_refused(function):
    values = np.full((3, 2), 0.5)
    for labels, words in (
        ([0, 1], "give 3 integers"),
        ([0.0, 1.0, 1.0], "float64"),
        ([0, 1, 2], "allowed are 0 to 1"),
        ([0, -1, 1], "count classes from 0"),
    ):
        with pytest.raises(DropkitError, match=words):
            function(values, labels)


def test_arguments_out_of_range_are_refused(draws):
    logits, labels = draws
    for bins in (0, -1, 2.0, True):
        with pytest.raises(DropkitError, match="bins="):
            ece([[0.5, 0.5]], [0], bins)
    with pytest.raises(DropkitError, match="Did you mean 'mass'"):
        ece([[0.5, 0.5]], [0], 5, "mas")
    for k in (0, 24, 1.0, True):
        with pytest.raises(DropkitError, match="of 23 draws, 1 to 23"):
            averaging(logits, labels, [k])
    for temperature in (0, -1.0, math.nan, math.inf):
        with pytest.raises(DropkitError, match="positive number"):
            temperature_scaled(logits, temperature)
    for wrong in (np.zeros(3), np.zeros((2, 1)), np.zeros((0, 3, 2))):
        with pytest.raises(DropkitError, match=r"\[n, N, K\]"):
            fit_temperature(wrong, [0, 1])
    with pytest.raises(DropkitError, match="diverged"):
        fit_temperature([[np.nan, 0.0]], [0])


def test_nothing_of_numpy_warns_at_the_edges():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert nll([[0.0, 1.0]], [0]) == math.inf
        assert reliability([1.0], [True], 15).ece == 0
