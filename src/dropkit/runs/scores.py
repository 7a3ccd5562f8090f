"""What predictions are worth, gathered batch by batch: of each picture a few numbers are kept, never its K classes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dropkit.uncertainty.calibration import averaging, brier, nll, reliability
from dropkit.uncertainty.ranking import aurc, risk_coverage

Array = NDArray[np.float64]

BINS = 15
SHOWN_BINS = 10
CURVE = 100  # points of a curve that is drawn


class Scores:
    """The figures of one way to predict."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.losses: list[tuple[float, float]] = []
        self.tops: list[Array] = []
        self.rights: list[NDArray[np.bool_]] = []

    def add(self, probabilities: Any, labels: Any) -> None:
        """Take in a batch: probabilities [B, K] and labels [B]."""
        p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
        self.counts.append(len(y))
        self.losses.append((nll(p, y), brier(p, y)))
        self.tops.append(p.max(axis=1))
        self.rights.append(p.argmax(axis=1) == y)

    @property
    def top(self) -> Array:
        """The probability of each picture's predicted class [N]."""
        return np.concatenate(self.tops)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each picture's predicted class is the true one [N]."""
        return np.concatenate(self.rights)

    def figures(self) -> dict[str, float | None]:
        """Return error, NLL, Brier score, calibration error in bins of equal width and of equal mass, and AURC."""
        top, right = self.top, self.right
        loss, squares = np.average(self.losses, axis=0, weights=self.counts).tolist()
        values = {
            "error": float((~right).mean()),
            "nll": loss,
            "brier": squares,
            "ece": reliability(top, right, BINS).ece,
            "ece_mass": reliability(top, right, BINS, "mass").ece,
            "aurc": aurc(*_as_two_classes(right), confidence=top),
        }
        return {name: value if math.isfinite(value) else None for name, value in values.items()}

    def reliability(self) -> dict[str, Any]:
        """Return the reliability diagram as plain JSON, None where a bin is empty."""
        found = reliability(self.top, self.right, SHOWN_BINS)
        sure, good = (
            [float(value) if count else None for value, count in zip(values, found.count, strict=True)]
            for values in (found.confidence, found.accuracy)
        )
        return {
            "edges": found.edges.tolist(),
            "confidence": sure,
            "accuracy": good,
            "count": found.count.tolist(),
            "ece": found.ece,
        }

    def curve(self) -> dict[str, list[float]]:
        """Return points of the risk-coverage curve, as many as a figure can show."""
        coverage, risk = risk_coverage(*_as_two_classes(self.right), confidence=self.top)
        places = np.unique(np.linspace(0, len(risk) - 1, CURVE).astype(np.int64))
        return {"coverage": coverage[places].tolist(), "risk": risk[places].tolist()}


def _as_two_classes(right: NDArray[np.bool_]) -> tuple[Array, NDArray[np.int64]]:
    """Return probabilities [N, 2] and labels [N] that are right where `right` says so: ranking asks no more."""
    return np.tile([1.0, 0.0], (len(right), 1)), (~right).astype(np.int64)


class Averages:
    """Error and loss of averages of k thinned networks, in disjoint groups of the draws.

    Args:
        samples: n, how many draws there are.
        ks: each from 1 to n.
    """

    def __init__(self, samples: int, ks: Sequence[int]) -> None:
        self.pictures = 0
        self.sums = {k: np.zeros((samples // k, 2)) for k in ks}

    def add(self, draws: Tensor, labels: Tensor) -> None:
        """Take in a batch: logits [n, B, K] and labels [B]."""
        self.pictures += len(labels)
        for k, sums in self.sums.items():
            for group, total in enumerate(sums):
                found = averaging(draws[group * k : (group + 1) * k], labels, [k])[0]
                total += len(labels) * np.array([found.error, found.nll])

    def rows(self) -> list[dict[str, Any]]:
        """Return for each k the groups' mean and its standard error, None of a single group."""
        return [_row(k, sums / self.pictures) for k, sums in self.sums.items()]


def _row(k: int, values: Array) -> dict[str, Any]:
    groups = len(values)
    means = values.mean(axis=0).tolist()
    errors = (values.std(axis=0, ddof=1) / math.sqrt(groups)).tolist() if groups > 1 else [None, None]
    return {
        "k": k,
        "groups": groups,
        "error": means[0],
        "error_se": errors[0],
        "nll": means[1],
        "nll_se": errors[1],
    }
