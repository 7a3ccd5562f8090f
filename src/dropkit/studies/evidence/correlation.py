"""Co-adaptation seen in the activations: how much the units of a layer do the same thing.

Srivastava et al., JMLR 15 (2014), sections 2 and 7.1: without dropout units may come to do their work together. The
measure is the mean absolute Pearson correlation between distinct units (the measure that Cogswell et al., "Reducing
overfitting in deep networks by decorrelating representations", ICLR 2016, penalise is its covariance). Finitely many
observations of independent units show some, too: E|r| = sqrt(2 / (pi n)) for n independent observations of normal
units. The places of a map are not independent, so what chance gives is measured: each unit's pictures are shuffled.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dropkit.studies.evidence.recording import Observations

Array = NDArray[np.float64]

PAIRS = 1000  # of units that are correlated by chance, at least: layers with few units are shuffled several times
SHUFFLES = 20  # at most


def correlation(observed: Observations, *, seed: int = 0) -> dict[str, Any] | None:
    """Return how strongly a layer's units are correlated, as plain JSON; None of fewer than two units that vary.

    `mean`, the mean of |r| over all pairs of distinct units; `chance`, the same after each unit's pictures were
    shuffled; `excess`, their difference; `varying` and `constant`, how many units were counted, and how many left out
    because they never change.

    Args:
        observed: of the layer.
        seed: of the shuffles.

    >>> rng = np.random.default_rng(0)
    >>> one = rng.normal(size=(101, 1, 1))
    >>> found = correlation(Observations(np.concatenate([one, -2 * one, 0 * one], axis=2), units=3))
    >>> round(found["mean"], 6), found["constant"], found["chance"] < 0.3
    (1.0, 1, True)
    """
    standard = _standardised(observed.values)
    pictures, _, varying = standard.shape
    if varying < 2 or pictures < 2:
        return None
    mean = _mean_correlation(standard)
    pairs = varying * (varying - 1) // 2
    rng = np.random.default_rng([seed, varying])
    shuffles = min(SHUFFLES, math.ceil(PAIRS / pairs))
    chance = float(np.mean([_mean_correlation(_shuffled(standard, rng)) for _ in range(shuffles)]))
    return {
        "mean": mean,
        "chance": chance,
        "excess": mean - chance,
        "varying": varying,
        "constant": observed.values.shape[2] - varying,
    }


def _standardised(values: Array) -> Array:
    """Return the units that vary [N, P, V], each with mean 0 and variance 1 over all observations."""
    varies = values.min(axis=(0, 1)) < values.max(axis=(0, 1))
    kept: Array = values[:, :, varies]
    kept -= kept.mean(axis=(0, 1))
    kept /= kept.std(axis=(0, 1))
    return kept


def _mean_correlation(standard: Array) -> float:
    """Return the mean |r| between distinct units."""
    flat = standard.reshape(-1, standard.shape[2])
    r = np.abs(flat.T @ flat) / len(flat)
    units = len(r)
    return float((r.sum() - np.trace(r)) / (units * (units - 1)))


def _shuffled(standard: Array, rng: np.random.Generator) -> Array:
    """Return each unit's pictures in an order of its own; the places of a picture stay together."""
    order = rng.permuted(np.tile(np.arange(len(standard)), (standard.shape[2], 1)), axis=1).T
    return np.take_along_axis(standard, order[:, None, :], axis=0)
