"""Is the difference between two policies real? Paired over seeds and test pictures.

Two policies trained with equal seeds share the split, the initial weights and the order of the batches, so
their differences are paired: D[s, i] is one policy's metric on test picture i after training with seed s,
less the first policy's. Another study would draw other seeds and other pictures, so both count:

    D[s, i] = mean + a[s] + b[i] + e[s, i]
    a: seeds, b: pictures, e: the chance of one seed on one picture

A two-way ("pigeonhole") bootstrap draws seeds and pictures anew, independently of each other. Its variance is
known in closed form, so nothing has to be drawn and the answer hangs on no random number; `two_way_bootstrap`
draws it all the same, and the tests hold the two together. As it stands it would be wrong twice: with S seeds
its seed part is too small by (S-1)/S, and it counts e three times (Owen 2007). Both are put right here.

The interval rests on three mean squares (Cornfield & Tukey 1956), each divided by the number of values:
`seeds` from the S seed means, `pictures` from the N picture means, `rest` from what is left; and on
Student's t with the degrees of freedom that each has, since 3 or 5 seeds say little about how they vary:

    half-width^2 = t(S-1)^2 seeds + t(N-1)^2 max(pictures - rest, 0), but at least t(N-1)^2 pictures

Half-widths are added in squares (Zou & Donner 2008) because Satterthwaite's approximate degrees of freedom
find too many differences when few seeds happen to agree. The least width is there for the same chance: seeds
that agree by luck cannot make the pictures more certain. benchmarks/interval_coverage.py has the figures.

Sources: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007). Cornfield & Tukey, "Average
values of mean squares in factorials", Annals of Mathematical Statistics 27 (1956). Zou & Donner,
"Construction of confidence limits about effect measures: a general approach", Statistics in Medicine 27
(2008). Holm, "A simple sequentially rejective multiple test procedure", Scandinavian J. Statistics 6 (1979).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from dropkit.errors import DropkitError

Array = NDArray[np.float64]
LEVEL = 0.95
ALPHA = 0.05  # written out, since 1 - 0.95 is a little more in floating point
MOST_SEEDS = 50
MOST_PICTURES = 100_000
_COUNTS = 4_000_000  # of the bootstrap, at a time: 32 MB
_POWER = 0.8416  # the normal quantile of 0.8: found in 4 of 5 studies


@dataclass(frozen=True)
class Spread:
    """Where the uncertainty of a mean difference comes from: mean squares over the number of values, S N.

    Attributes:
        seeds: what the S seed means say of the variance of the mean (it holds a and e).
        pictures: what the N picture means say of it (it holds b and e).
        rest: what is left (e alone).
    """

    seeds: float
    pictures: float
    rest: float

    @property
    def total(self) -> float:
        """The variance of the mean: e is in both, and counts once."""
        return max(self.seeds + self.pictures - self.rest, self.seeds, self.pictures)

    def half_width(self, n_seeds: int, n_pictures: int, alpha: float) -> float:
        """Return half the width of the interval at level 1 - alpha."""
        tail = alpha / 2.0
        of_pictures = _t_squared(n_pictures - 1, tail)
        if n_seeds == 1:
            return math.sqrt(of_pictures * self.pictures)
        of_seeds = _t_squared(n_seeds - 1, tail) * self.seeds
        both = of_seeds + of_pictures * max(self.pictures - self.rest, 0.0)
        return math.sqrt(max(both, of_pictures * self.pictures))

    def grown(self, seeds: float, pictures: float) -> "Spread":
        """Return what it would be with so many times the seeds and so many times the pictures."""
        rest = self.rest / (seeds * pictures)
        return Spread(
            seeds=max(self.seeds - self.rest, 0.0) / seeds + rest,
            pictures=max(self.pictures - self.rest, 0.0) / pictures + rest,
            rest=rest,
        )


@dataclass(frozen=True)
class Difference:
    """A paired difference, other policy less first policy, in the metric's unit. Negative is better.

    Attributes:
        mean: over all seeds and pictures.
        standard_error: of the mean.
        low, high: the 95% interval, for one comparison; for several take `holm_intervals`.
        p_value: two-sided; below 0.05 exactly when the 95% interval excludes 0.
        from_seeds, from_pictures: shares of the uncertainty, with sum 1. The chance of one seed on one
            picture shrinks with more of either, so it is in both.
        n_seeds, n_pictures: how many were compared.
        spread: the variances behind it.
    """

    mean: float
    standard_error: float
    low: float
    high: float
    p_value: float
    from_seeds: float
    from_pictures: float
    n_seeds: int
    n_pictures: int
    spread: Spread

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the interval at another level, for example 0.99.

        Raises:
            DropkitError: if the level is not between 0 and 1.
        """
        if not 0.0 < level < 1.0:
            raise DropkitError(f"level={level}: an interval's level lies between 0 and 1, for example 0.95")
        half = self.spread.half_width(self.n_seeds, self.n_pictures, round(1.0 - level, 15))
        return self.mean - half, self.mean + half


def paired_difference(base: Any, other: Any) -> Difference:
    """Compare two policies picture by picture, with an interval over seeds and test pictures.

    With a single seed the interval is over pictures alone: it speaks of these two trainings, not of the
    policies, because it cannot know how much the seed matters. Use 5 seeds or more; with 2 only huge
    differences show.

    Args:
        base: the first policy's metric [S, N]: S seeds, N test pictures, in the same order as in `other`.
        other: the other policy's, [S, N].

    Raises:
        DropkitError: if the shapes differ, there are fewer than 2 pictures, or a value is not finite.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> none = rng.random((5, 200)) < 0.20
        >>> half = rng.random((5, 200)) < 0.10
        >>> d = paired_difference(none, half)
        >>> d.high < 0, d.n_seeds, d.n_pictures
        (True, 5, 200)
    """
    d = _paired(base, other)
    s, n = d.shape
    mean, spread = float(d.mean()), _spread(d)
    half = spread.half_width(s, n, ALPHA)
    parts = spread.seeds + spread.pictures
    share = spread.seeds / parts if parts > 0 else (0.5 if s > 1 else 0.0)
    return Difference(
        mean=mean,
        standard_error=math.sqrt(spread.total),
        low=mean - half,
        high=mean + half,
        p_value=level_of_zero(mean, spread, s, n),
        from_seeds=share,
        from_pictures=1.0 - share,
        n_seeds=s,
        n_pictures=n,
        spread=spread,
    )


def two_way_bootstrap(base: Any, other: Any, *, draws: int = 2000, seed: int = 0) -> Array:
    """Return `draws` means [draws] of the difference, seeds and pictures each drawn anew with replacement.

    The definition behind `paired_difference`, for looking at: its variance has the mean
    ((S-1)/S) seeds + ((N-1)/N) pictures + ((S-1)/S) ((N-1)/N) rest in the terms of `Spread`.

    Source: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007).

    Example:
        >>> two_way_bootstrap([[0.0, 0.0]], [[1.0, 1.0]], draws=3).tolist()
        [1.0, 1.0, 1.0]
    """
    d = _paired(base, other)
    s, n = d.shape
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    chunk = max(1, _COUNTS // n)
    for start in range(0, draws, chunk):
        k = min(chunk, draws - start)
        seeds = rng.multinomial(s, np.full(s, 1.0 / s), size=k)
        pictures = rng.multinomial(n, np.full(n, 1.0 / n), size=k)
        means[start : start + k] = ((seeds @ d) * pictures).sum(axis=1) / (s * n)
    return means


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the order given: below 0.05 is a finding, whatever their number.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6 (1979).

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for step, i in enumerate(_order(p_values)):
        largest = max(largest, min(1.0, (len(p_values) - step) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def holm_intervals(differences: Sequence[Difference], level: float = LEVEL) -> list[tuple[float, float]]:
    """Return an interval for each comparison; it excludes 0 exactly when Holm's p-value is below 1 - level.

    For users: with several policies each interval is as wide as its test was strict, so an interval without 0
    is a finding although many were looked at; with one policy it is the plain 95% interval.

    Holm tests the k comparisons from the smallest p-value on, at (1 - level)/k, (1 - level)/(k-1), and so on,
    until the first that is no finding. Each interval has the level of its own test; those that were not
    reached have the level at which it stopped. Every one has a level of at least `level`.

    Example:
        >>> d = paired_difference([[0.0, 1.0], [1.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]])
        >>> holm_intervals([d]) == [(d.low, d.high)]
        True
    """
    p_values = [d.p_value for d in differences]
    adjusted = holm(p_values)
    alpha, k = round(1.0 - level, 12), len(differences)
    found = sum(p < alpha for p in adjusted)
    intervals = [(0.0, 0.0)] * k
    for step, i in enumerate(_order(p_values)):
        tests = k - min(step, found)
        intervals[i] = differences[i].interval(1.0 - alpha / tests if tests > 1 else level)
    return intervals


def needed_seeds(difference: Difference, alpha: float = ALPHA) -> int | None:
    """Return how many seeds, on as many pictures, find an effect as large as the mean in 4 of 5 studies.

    For planning, and a guess: few seeds know their own variance badly. To add seeds until a difference shows
    is to find some that are not there. None: more than 50, or no number, because the pictures limit it or there is
    no effect to find.

    Example:
        >>> spread = Spread(seeds=1e-4, pictures=1e-6, rest=1e-6)
        >>> d = Difference(-0.02, 0.01, -0.05, 0.01, 0.14, 0.99, 0.01, 4, 1000, spread)
        >>> needed_seeds(d)
        10
    """
    if difference.mean == 0.0:
        return None  # without spread any number of seeds would "find" it
    numbers = range(difference.n_seeds + 1, MOST_SEEDS + 1)
    return next((s for s in numbers if _finds(difference, s, difference.n_pictures, alpha)), None)


def needed_pictures(difference: Difference, alpha: float = ALPHA) -> int | None:
    """Return how many test pictures, with as many seeds, find an effect that large in 4 of 5 studies.

    Rounded up to two digits. None: more than 100,000, or no number, because the seeds limit it or there is no effect.

    Example:
        >>> spread = Spread(seeds=1e-6, pictures=1e-4, rest=1e-6)
        >>> d = Difference(-0.02, 0.01, -0.04, 0.00, 0.05, 0.01, 0.99, 4, 1000, spread)
        >>> needed_pictures(d)
        2000
    """
    if difference.mean == 0.0 or not _finds(difference, difference.n_seeds, MOST_PICTURES, alpha):
        return None
    few, many = difference.n_pictures, MOST_PICTURES
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if _finds(difference, difference.n_seeds, middle, alpha) else (middle, many)
    grid: int = 10 ** max(0, len(str(many)) - 2)
    return math.ceil(many / grid) * grid


def _order(p_values: Sequence[float]) -> list[int]:
    return sorted(range(len(p_values)), key=lambda i: p_values[i])


def _paired(base: Any, other: Any) -> Array:
    first, second = np.asarray(base, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if first.ndim != 2 or first.shape != second.shape or first.shape[0] < 1 or first.shape[1] < 2:
        raise DropkitError(
            f"a paired difference of shapes {list(first.shape)} and {list(second.shape)}: "
            "give both as [S, N], the same S >= 1 seeds and N >= 2 test pictures in the same order"
        )
    d = second - first
    if not np.isfinite(d).all():
        raise DropkitError("a paired difference of values that are not finite: leave out the seeds that diverged")
    return d


def _spread(d: Array) -> Spread:
    """Mean squares of the two-way layout [S, N], each over S N (Cornfield & Tukey 1956)."""
    s, n = d.shape
    rows, columns = d.mean(axis=1), d.mean(axis=0)
    pictures = float(columns.var(ddof=1)) / n
    if s == 1:
        return Spread(seeds=0.0, pictures=pictures, rest=0.0)
    left = d - rows[:, None] - columns[None, :] + d.mean()
    rest = float((left**2).sum()) / ((s - 1) * (n - 1) * s * n)
    return Spread(seeds=float(rows.var(ddof=1)) / s, pictures=pictures, rest=rest)


def _t_squared(df: int, tail: float) -> float:
    return float(stdtrit(df, tail)) ** 2


def level_of_zero(mean: float, spread: Spread, s: int, n: int) -> float:
    """1 - the level at which the interval ends at 0, by bisection in the logarithm of 1 - level."""
    if mean == 0.0:
        return 1.0
    if spread.total == 0.0:
        return 0.0
    low, high = -80.0, 0.0  # a p-value of e^-80 is small enough
    for _ in range(60):
        middle = (low + high) / 2.0
        wide = spread.half_width(s, n, math.exp(middle)) >= abs(mean)
        low, high = (middle, high) if wide else (low, middle)
    return math.exp((low + high) / 2.0)


def _finds(d: Difference, seeds: int, pictures: int, alpha: float) -> bool:
    """Whether the mean would lie beyond the half-width with a power of 0.8, were all else as it was."""
    then = d.spread.grown(seeds / d.n_seeds, pictures / d.n_pictures)
    return abs(d.mean) >= then.half_width(seeds, pictures, alpha) + _POWER * math.sqrt(then.total)
