"""Metrics against torch's and scikit-learn's, against sums done by hand, and at the edges."""

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, log_loss, recall_score, zero_one_loss

from dropkit.errors import DropkitError
from dropkit.runs.metrics import METRICS, balanced_error, ece, error, log_softmax, nll, per_picture, recall, softmax

N, K = 211, 7


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    return 3 * rng.standard_normal((N, K)), rng.integers(0, K, N)


def test_they_are_torchs_and_scikit_learns(case):
    logits, labels = case
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels), reduction="none")
    assert per_picture(logits, labels, "nll") == pytest.approx(expected.numpy(), rel=1e-12)
    assert nll(logits, labels) == pytest.approx(log_loss(labels, softmax(logits), labels=range(K)), rel=1e-9)
    assert error(logits, labels) == pytest.approx(zero_one_loss(labels, logits.argmax(axis=1)))
    assert 0 < error(logits, labels) < 1


def test_the_mean_over_pictures_is_the_metric(case):
    for metric, whole in (("error", error), ("nll", nll), ("balanced-error", balanced_error)):
        values = per_picture(*case, metric)
        assert values.dtype == np.float64
        assert values.shape == (N,)
        assert values.mean() == whole(*case)
    assert METRICS == ("error", "nll", "balanced-error")


def test_softmax_sums_to_one_and_takes_logits_of_any_size():
    logits = np.array([[1e5, 0, -1e5], [-1e5, -1e5, -1e5], [1e308, 1e308, 0]])
    assert np.isfinite(log_softmax(logits)[:2]).all()
    assert softmax(logits).sum(axis=1) == pytest.approx(1)
    assert softmax(logits)[2] == pytest.approx([0.5, 0.5, 0])
    assert per_picture(logits[:1], [2], "nll")[0] == 2e5


def test_float32_logits_are_summed_in_float64():
    logits = torch.tensor([[20.0, 0.0]], dtype=torch.float32).numpy()
    assert nll(logits, [0]) == pytest.approx(math.log1p(math.exp(-20)), rel=1e-7)


def test_of_equal_logits_the_first_class_is_taken():
    assert per_picture([[1.0, 1.0], [1.0, 1.0]], [0, 1], "error").tolist() == [0.0, 1.0]


def logits_of(top):
    """Return two-class logits whose first class has these probabilities (above one half)."""
    top = np.asarray(top)
    return np.stack([np.log(top), np.log1p(-top)], axis=1)


def test_calibration_error_by_hand():
    """15 bins: .61 and .65 share (.6, .667]; .98 is alone in (.933, 1]."""
    top, labels = [0.61, 0.65, 0.98], [0, 1, 0]
    expected = 2 / 3 * abs((0.61 + 0.65) / 2 - 0.5) + 1 / 3 * abs(0.98 - 1)
    assert ece(logits_of(top), labels) == pytest.approx(expected)
    assert ece(logits_of(top), labels, bins=1) == pytest.approx(abs((0.61 + 0.65 + 0.98) / 3 - 2 / 3))


def test_calibration_bins_hold_their_upper_edge():
    """.7 belongs to (.6, .7] with .65, not with .75: over and under then do not cancel."""
    assert ece(logits_of([0.65, 0.7, 0.75]), [0, 0, 1], bins=10) == pytest.approx((0.35 + 0.3 + 0.75) / 3)
    assert ece(logits_of([0.5 + 1e-12, 0.5 + 1e-12]), [0, 1], bins=2) == pytest.approx(0, abs=1e-9)


def test_calibrated_answers_have_little_calibration_error_and_sure_ones_much():
    rng, n = np.random.default_rng(0), 20_000
    logits = 2 * rng.standard_normal((n, 3))
    labels = (rng.random((n, 1)) > softmax(logits).cumsum(axis=1)).sum(axis=1).clip(max=2)
    # |mean of n_b answers - its expectation| is below sqrt(1/(4 n_b)); over 15 bins the sum below sqrt(15/4n)
    assert ece(logits, labels) < 2 * math.sqrt(15 / (4 * n))
    assert ece(5 * logits, labels) > 0.1


@pytest.mark.parametrize("shape", [(3,), (3, 1), (0, 3), (2, 3, 2)])
def test_logits_of_other_shapes_are_refused(shape):
    with pytest.raises(DropkitError, match=r"give \[N, K\]"):
        softmax(np.zeros(shape))


@pytest.mark.parametrize("labels", [[0, 1], [0.0, 1.0, 2.0], [[0], [1], [2]], [True, False, True]])
def test_labels_that_are_not_an_integer_each_are_refused(labels):
    for metric in (error, nll, ece):
        with pytest.raises(DropkitError, match=r"integers of shape \[3\]"):
            metric(np.zeros((3, 5)), labels)


@pytest.mark.parametrize("labels", [[0, 1, 5], [-1, 0, 1]])
def test_labels_that_are_no_class_are_refused(labels):
    with pytest.raises(DropkitError, match="allowed are 0 to 4"):
        nll(np.zeros((3, 5)), labels)


def test_unknown_metrics_and_no_bins_are_refused(case):
    with pytest.raises(DropkitError, match="Did you mean 'nll'"):
        per_picture(*case, "nl")
    with pytest.raises(DropkitError, match="bins=0"):
        ece(*case, bins=0)


def test_balanced_error_and_recall_are_scikit_learns(case):
    z, y = case
    y = np.where(y == 3, 4, y)  # a class without a picture
    answers = z.argmax(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of answers that name the class without a picture
        assert balanced_error(z, y) == pytest.approx(1 - balanced_accuracy_score(y, answers))
    found = recall(z, y)
    assert found[3] is None
    others = [k for k in range(K) if k != 3]
    expected = recall_score(y, answers, labels=others, average=None)
    assert [found[k] for k in others] == pytest.approx(expected.tolist())


def test_a_rare_class_counts_as_much_as_a_common_one():
    z = np.array([[1.0, 0.0]] * 10)
    y = np.array([0] * 9 + [1])
    assert error(z, y) == pytest.approx(0.1)
    assert balanced_error(z, y) == pytest.approx(0.5)
