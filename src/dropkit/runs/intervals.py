"""The mean over trainings and its interval: Student's t, wider where the trainings are folds of the same pictures."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtr, stdtrit

from dropkit.errors import DropkitError

_TAIL = 0.025  # on each side of a 95% interval


def mean_interval(values: Sequence[float], shared: float = 0.0) -> tuple[float, float | None, float | None]:
    """Return the mean over trainings and its 95% interval (Student's t); of one value, (value, None, None).

    Args:
        values: one for each training.
        shared: 0 for trainings with seeds of their own. For the folds of a cross-validation, test pictures over
            training pictures of a fold: its trainings share pictures, so their mean varies more than their spread
            tells, with variance (1/n + shared) s^2 (see dropkit.studies.folds).

    Raises:
        DropkitError: if there are no values.

    Example:
        >>> mean_interval([3.0])
        (3.0, None, None)
        >>> [round(v, 3) for v in mean_interval([1.0, 2.0, 3.0])]
        [2.0, -0.484, 4.484]
        >>> [round(v, 3) for v in mean_interval([1.0, 2.0, 3.0], shared=0.5)]
        [2.0, -1.928, 5.928]
    """
    v = np.asarray(values, dtype=np.float64)
    if v.size == 0:
        raise DropkitError("no values to take the mean of: every run of this policy diverged or is missing")
    mean = float(v.mean())
    if v.size == 1:
        return mean, None, None
    t = float(stdtrit(v.size - 1, _TAIL))
    half = math.sqrt(t**2 * float(v.var(ddof=1)) * (1.0 / v.size + shared))
    return mean, mean - half, mean + half


def mean_p_value(values: Sequence[float], shared: float = 0.0) -> float:
    """Return the two-sided p-value that the mean is 0, by the t-test that belongs to `mean_interval`.

    Example:
        >>> round(mean_p_value([1.0, 2.0, 3.0]), 4)
        0.0742
    """
    v = np.asarray(values, dtype=np.float64)
    mean, variance = float(v.mean()), float(v.var(ddof=1))
    if mean == 0.0 or variance == 0.0:
        return 1.0 if mean == 0.0 else 0.0
    return float(2.0 * stdtr(v.size - 1, -abs(mean) / math.sqrt(variance * (1.0 / v.size + shared))))
