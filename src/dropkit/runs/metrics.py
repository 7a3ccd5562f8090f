"""What a classifier's test pictures say about it: error, per class too, log-likelihood, calibration error.

All take logits [N, K] (N pictures, K classes) and labels [N], in numpy, and compute in float64.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dropkit.errors import DropkitError, unknown
from dropkit.uncertainty.calibration import reliability

Metric = Literal["error", "nll", "balanced-error"]
METRICS: tuple[Metric, ...] = ("error", "nll", "balanced-error")
Array = NDArray[np.float64]


def log_softmax(logits: Any) -> Array:
    """Return the log probabilities [N, K] of logits [N, K]; stable for logits of any size.

    Raises:
        DropkitError: if the logits are not [N, K] with K >= 2.

    Example:
        >>> log_softmax([[1000.0, 0.0]]).tolist()
        [[0.0, -1000.0]]
    """
    z = _logits(logits)
    z = z - z.max(axis=1, keepdims=True)
    return np.asarray(z - np.log(np.exp(z).sum(axis=1, keepdims=True)), dtype=np.float64)


def softmax(logits: Any) -> Array:
    """Return the probabilities [N, K] of logits [N, K].

    Example:
        >>> softmax([[0.0, 0.0]]).tolist()
        [[0.5, 0.5]]
    """
    return np.asarray(np.exp(log_softmax(logits)), dtype=np.float64)


def per_picture(logits: Any, labels: Any, metric: str) -> Array:
    """Return one value for each picture [N]; their mean is the metric. Lower is better for both.

    Args:
        logits: [N, K].
        labels: integers [N] in 0..K-1.
        metric: "error", 1 where the most probable class is wrong and 0 elsewhere (of equal logits the first
            class is taken); "nll", the negative natural logarithm of the true class's probability, in nats; or
            "balanced-error", the error weighted so that each class counts alike, whatever its number of pictures.

    Raises:
        DropkitError: if shapes or labels do not fit, or the metric is unknown.

    Example:
        >>> per_picture([[2.0, 1.0], [2.0, 1.0]], [0, 1], "error").tolist()
        [0.0, 1.0]
    """
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    z = _logits(logits)
    y = _labels(labels, z)
    if metric != "nll":
        wrong = np.asarray(z.argmax(axis=1) != y, dtype=np.float64)
        return wrong if metric == "error" else wrong * _class_weight(y)
    # 0.0 - x, not -x: a certain and right prediction has loss 0, not -0
    return np.asarray(0.0 - log_softmax(z)[np.arange(len(y)), y], dtype=np.float64)


def error(logits: Any, labels: Any) -> float:
    """Return the fraction of pictures whose most probable class is wrong.

    Example:
        >>> error([[2.0, 1.0], [2.0, 1.0]], [0, 1])
        0.5
    """
    return float(per_picture(logits, labels, "error").mean())


def _class_weight(labels: NDArray[np.int64]) -> Array:
    """Return a weight for each picture [N], with mean 1, such that the weights of every class sum to the same."""
    count = np.bincount(labels)
    return np.asarray(len(labels) / (np.count_nonzero(count) * count[labels]), dtype=np.float64)


def balanced_error(logits: Any, labels: Any) -> float:
    """Return the mean over the classes of the fraction of their pictures that is wrong; 1 - the mean recall.

    Where classes differ in size it does not let the large ones hide the others. Classes without a picture are left out.
    Source: Brodersen, Ong, Stephan, Buhmann, "The balanced accuracy and its posterior distribution", ICPR 2010.

    Example:
        >>> always_0 = [[1.0, 0.0]] * 4
        >>> error(always_0, [0, 0, 0, 1]), balanced_error(always_0, [0, 0, 0, 1])
        (0.25, 0.5)
    """
    return float(per_picture(logits, labels, "balanced-error").mean())


def recall(logits: Any, labels: Any) -> list[float | None]:
    """Return for each class the fraction of its pictures that is right; None for a class without a picture.

    Example:
        >>> recall([[1.0, 0.0, 0.0]] * 3, [0, 0, 1])
        [1.0, 0.0, None]
    """
    z = _logits(logits)
    y = _labels(labels, z)
    right = np.bincount(y[z.argmax(axis=1) == y], minlength=z.shape[1])
    count = np.bincount(y, minlength=z.shape[1])
    return [float(hit / n) if n else None for hit, n in zip(right, count, strict=True)]


def nll(logits: Any, labels: Any) -> float:
    """Return the mean negative log-likelihood (cross-entropy) in nats.

    Example:
        >>> round(nll([[0.0, 0.0]], [1]), 4)
        0.6931
    """
    return float(per_picture(logits, labels, "nll").mean())


def ece(logits: Any, labels: Any, bins: int = 15) -> float:
    """Return the expected calibration error of the most probable class: 0 is perfect, 1 the worst.

    Pictures are put in `bins` equally wide bins (low, high] of their top probability; in each bin the
    distance of the mean top probability from the accuracy counts by the bin's share of the pictures.

    Source: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, sec. 2.

    Raises:
        DropkitError: if shapes or labels do not fit, or bins < 1.

    Example:
        >>> ece([[100.0, 0.0], [100.0, 0.0]], [0, 1])
        0.5
    """
    p = softmax(logits)
    y = _labels(labels, p)
    return reliability(p.max(axis=1), _logits(logits).argmax(axis=1) == y, bins).ece


def _logits(given: Any) -> Array:
    z = np.asarray(given, dtype=np.float64)
    if z.ndim != 2 or z.shape[0] == 0 or z.shape[1] < 2:
        raise DropkitError(f"logits of shape {list(z.shape)}: give [N, K], N >= 1 pictures by K >= 2 classes")
    return z


def _labels(given: Any, logits: Array) -> NDArray[np.int64]:
    y = np.asarray(given)
    n, k = logits.shape
    if y.shape != (n,) or not np.issubdtype(y.dtype, np.integer):
        raise DropkitError(
            f"labels of shape {list(y.shape)} and type {y.dtype}: give integers of shape [{n}], "
            "one for each row of the logits"
        )
    if y.min() < 0 or y.max() >= k:
        raise DropkitError(
            f"labels from {y.min()} to {y.max()}: allowed are 0 to {k - 1}, the columns of the logits; "
            "count classes from 0"
        )
    return y.astype(np.int64)
