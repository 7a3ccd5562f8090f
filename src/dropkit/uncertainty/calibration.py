"""Whether stated probabilities hold: calibration error, proper scores, temperature, and what averaging draws gives.

All take probabilities [N, K] (N pictures, K classes) or logits, and labels [N], as arrays or tensors, and compute in
float64. Whether uncertainty ranks pictures well is another question: `dropkit.uncertainty.ranking`.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dropkit.errors import DropkitError, unknown
from dropkit.uncertainty.given import Array, Whole, draws, draws_and_labels, probabilities_and_labels

BINNINGS = ("width", "mass")
TEMPERATURES = (0.01, 100.0)  # between which one is looked for
_FLAT = 1e-9  # nats: a loss that falls by less has no minimum to be found


@dataclass(frozen=True)
class Reliability:
    """What a reliability diagram shows: predictions in bins (low, high] of the top probability.

    Attributes:
        edges: of the bins, [bins + 1].
        count: predictions in each bin, [bins].
        confidence: mean top probability in each bin, [bins]; NaN in an empty one.
        accuracy: share of right predictions in each bin, [bins]; NaN in an empty one.
        ece: the expected calibration error, sum over bins of count / N * |confidence - accuracy|.
    """

    edges: Array
    count: Whole
    confidence: Array
    accuracy: Array
    ece: float


def reliability(top: Any, right: Any, bins: int = 15, binning: str = "width") -> Reliability:
    """Return confidence and accuracy in bins of the top probability.

    Args:
        top: [N] probabilities of the predicted classes.
        right: [N], whether the prediction is right.
        bins: how many.
        binning: "width" has bins of equal width from 0 to 1 (Guo, Pleiss, Sun, Weinberger, ICML 2017, sec. 2);
            "mass" has bins of equally many predictions (Nguyen and O'Connor, EMNLP 2015, sec. 4; Nixon et al., CVPR
            workshops 2019): equal probabilities stay in one bin, so the order of pictures does not matter.

    Raises:
        DropkitError: if bins < 1, or the binning is unknown.

    >>> found = reliability([0.9, 0.7, 0.7], [True, True, False], bins=2)
    >>> found.count.tolist(), round(found.ece, 4)
    ([0, 3], 0.1)
    """
    if isinstance(bins, bool) or not isinstance(bins, int | np.integer) or bins < 1:
        raise DropkitError(f"bins={bins!r}: the calibration error needs a whole number of 1 or more; 15 is usual")
    if binning not in BINNINGS:
        raise unknown("binning", str(binning), BINNINGS)
    p, hits = np.asarray(top, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if binning == "width":
        edges = np.arange(bins + 1) / bins
        number = np.clip(np.ceil(p * bins).astype(np.int64) - 1, 0, bins - 1)
    else:
        ranks = -(-len(p) * np.arange(1, bins + 1) // bins)  # of the last prediction in each bin, from 1
        edges = np.concatenate([[0.0], np.sort(p)[ranks - 1]])
        number = np.searchsorted(edges[1:-1], p, side="left")
    count = np.bincount(number, minlength=bins)
    sure, good = (np.bincount(number, weights, bins) for weights in (p, hits))
    with np.errstate(invalid="ignore"):
        confidence, accuracy = sure / count, good / count
    # |sum of (confidence - accuracy)| in a bin, over N, is share times distance
    gap = np.bincount(number, p - hits, bins)
    return Reliability(edges, count, confidence, accuracy, float(np.abs(gap).sum() / len(p)))


def ece(probabilities: Any, labels: Any, bins: int = 15, binning: str = "width") -> float:
    """Return the expected calibration error of the most probable class: 0 is perfect, 1 the worst.

    ECE = sum over bins of count / N * |mean confidence - accuracy|; bins and sources as in `reliability`. It is no
    proper score: one that always states the classes' shares has 0. And it is biased upward where bins hold few
    predictions: compare numbers over the same pictures and bins.

    Raises:
        DropkitError: if shapes, probabilities or labels do not fit, bins < 1, or the binning is unknown.

    >>> ece([[1.0, 0.0], [1.0, 0.0]], [0, 1])
    0.5
    """
    p, y = probabilities_and_labels(probabilities, labels)
    return reliability(p.max(axis=1), p.argmax(axis=1) == y, bins, binning).ece


def nll(probabilities: Any, labels: Any) -> float:
    """Return the mean negative log-likelihood, -1/N sum log p[true class], in nats; infinite where one of them is 0.

    Raises:
        DropkitError: if shapes, probabilities or labels do not fit.

    >>> round(nll([[0.5, 0.5]], [1]), 4)
    0.6931
    """
    p, y = probabilities_and_labels(probabilities, labels)
    with np.errstate(divide="ignore"):
        return float(-np.log(p[np.arange(len(y)), y]).mean() + 0.0)


def brier(probabilities: Any, labels: Any) -> float:
    """Return the Brier score, 1/N sum over pictures and classes of (p - [class is true])**2: 0 is perfect, 2 the worst.

    Source: Brier, "Verification of forecasts expressed in terms of probability", 1950, eq. 2. For two classes it is
    twice what is often given for the positive class alone.

    Raises:
        DropkitError: if shapes, probabilities or labels do not fit.

    >>> brier([[0.5, 0.5], [1.0, 0.0]], [1, 1])
    1.25
    """
    p, y = probabilities_and_labels(probabilities, labels)
    truth = np.arange(p.shape[1]) == y[:, None]
    return float(np.square(p - truth).sum(axis=1).mean())


def temperature_scaled(logits: Any, temperature: float) -> Array:
    """Return the probabilities [N, K] of logits [N, K] at a temperature T: softmax(z / T).

    Of draws [n, N, K] it is the mean over draws of softmax(z / T): each network is scaled, then they are averaged. T
    above 1 makes predictions less sure. Of a single draw it changes no answer.

    Source: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, sec. 4.2.

    Raises:
        DropkitError: if the logits' shape does not fit, or the temperature is not positive.

    >>> temperature_scaled([[2.0, 0.0]], 1e9).round(3).tolist()
    [[0.5, 0.5]]
    """
    if not 0 < temperature < np.inf:
        raise DropkitError(f"temperature {temperature!r}: give a positive number; 1 changes nothing")
    return np.asarray(np.exp(_log_softmax(draws(logits) / temperature)).mean(axis=0))


def fit_temperature(logits: Any, labels: Any) -> float:
    """Return the temperature that makes the likelihood of validation pictures largest.

    argmin over T of -1/N sum log mean over draws of softmax(z / T)[true class]. Fit on pictures that neither trained
    nor test the network, and on draws if predictions are to be averages of draws: averaging makes them less sure by
    itself, so the T of the plain pass is another one.

    Args:
        logits: [N, K], or draws [n, N, K] as `dropkit.sample` returns.
        labels: integers [N].

    Returns:
        T from 0.01 to 100. Where the data set no bound, the nearer end, with a warning: if every picture is right, the
        likelihood grows for ever as T falls.

    Source: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, sec. 4.2.

    Raises:
        DropkitError: if shapes or labels do not fit, or a logit is not finite.

    >>> logits = np.array([[2.0, 0.0]] * 4)
    >>> T = fit_temperature(logits, [0, 0, 0, 1])
    >>> temperature_scaled(logits, T)[0].round(3).tolist()
    [0.75, 0.25]
    """
    from scipy.optimize import minimize_scalar

    z, y = draws_and_labels(logits, labels)

    def loss(log_temperature: float) -> float:
        return float(-_log_mean(_log_softmax(z / np.exp(log_temperature)))[np.arange(len(y)), y].mean())

    # Of averages the loss need not have one minimum alone: the best of a grid is refined.
    grid = np.log(np.geomspace(TEMPERATURES[0], TEMPERATURES[1], 41))
    losses = [loss(t) for t in grid]
    best = int(np.argmin(losses))
    for end in (0, -1):
        if losses[end] <= losses[best] + _FLAT:
            temperature = TEMPERATURES[end]
            warnings.warn(
                f"these {len(y)} pictures set no bound to the temperature, so it is {temperature:g}, the end of the "
                "range that is searched: give more validation pictures, some of which the network gets wrong",
                stacklevel=2,
            )
            return temperature
    around = (grid[best - 1], grid[best + 1])
    return float(np.exp(minimize_scalar(loss, bounds=around, method="bounded", options={"xatol": 1e-7}).x))


@dataclass(frozen=True)
class Averaged:
    """What averages of k sampled networks are worth.

    Attributes:
        k: networks that are averaged.
        groups: disjoint groups of k draws.
        error, nll: the groups' mean error (a fraction) and negative log-likelihood (nats).
        error_se, nll_se: their standard errors, over groups; None for a single one. They tell how much another choice
            of masks would change, not other pictures: all groups see the same.
    """

    k: int
    groups: int
    error: float
    error_se: float | None
    nll: float
    nll_se: float | None


def averaging(logits: Any, labels: Any, ks: Sequence[int]) -> list[Averaged]:
    """Return error and NLL of the average of k thinned networks, for each k.

    The probabilities are averaged. Beside the error of the plain pass this is Figure 11 of Srivastava et al. (JMLR 15,
    2014, sec. 7.5): how many sampled networks it takes to match weight scaling.

    Args:
        logits: draws [n, N, K].
        labels: integers [N].
        ks: each from 1 to n. n // k disjoint groups of draws are used.

    Raises:
        DropkitError: if shapes or labels do not fit, or a k is not from 1 to n.

    >>> draws = np.random.default_rng(0).normal(size=(20, 7, 3))
    >>> [(found.k, found.groups) for found in averaging(draws, [0] * 7, [1, 5, 20])]
    [(1, 20), (5, 4), (20, 1)]
    """
    z, y = draws_and_labels(logits, labels)
    for k in ks:
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= len(z):
            raise DropkitError(f"k={k!r}: of {len(z)} draws, 1 to {len(z)} can be averaged")
    log_p = _log_softmax(z)
    return [_averaged(log_p, y, int(k)) for k in ks]


def _averaged(log_p: Array, y: Any, k: int) -> Averaged:
    groups = len(log_p) // k
    means = np.stack([_log_mean(log_p[g * k : (g + 1) * k]) for g in range(groups)])
    error = (means.argmax(axis=2) != y).mean(axis=1)
    loss = -means[:, np.arange(len(y)), y].mean(axis=1)
    return Averaged(k, groups, *_mean_and_error(error), *_mean_and_error(loss))


def _mean_and_error(values: Array) -> tuple[float, float | None]:
    spread = float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
    return float(values.mean()), spread


def _log_softmax(z: Array) -> Array:
    shifted = z - z.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _log_mean(log_p: Array) -> Array:
    """Return log mean exp over the draws, without the underflow of small probabilities."""
    most = log_p.max(axis=0)
    return np.asarray(most + np.log(np.exp(log_p - most).mean(axis=0)))
