"""Is the difference real, where there are too few pictures for a test set? Cross-validation, with the corrected t-test.

The pictures are divided into K folds. Each is the test set once, with a training on the others; another repetition
divides the pictures anew. So there are J = K R differences of two policies, one for each training:

    D[j] = one policy's metric, less the first policy's, on the test pictures of training j

Any two trainings share most of their training pictures, so the D[j] are correlated, and the usual variance of their
mean, s^2 / J, is far too small: it finds differences that are not there. Nadeau and Bengio estimate that two of them
are correlated by n_test / (n_test + n_train), which makes the variance of the mean

    (1/J + n_test/n_train) s^2        with J - 1 degrees of freedom

They derive it for test sets drawn at random; for repeated K-fold cross-validation it is used as it is (Bouckaert &
Frank 2004). With K folds of plain cross-validation n_test/n_train is 1/(K-1), whatever R is: more repetitions make
1/J small, but the second term stays, since they divide the same pictures. More pictures lower s^2.

What n_train is here: a training fits its weights to some of the pictures outside its fold and chooses its epoch by the
others (validation). Both are seen, but n_train counts the fitted ones alone. That is the smaller number, so the ratio
is the larger one and the interval the wider: where the estimate is in doubt it errs towards finding too little.
benchmarks/verdict_honesty.py --folds counts how often one policy under two names is found.

Sources: Nadeau & Bengio, "Inference for the generalization error", Machine Learning 52 (2003), sections 3 and 5.
Bouckaert & Frank, "Evaluating the replicability of significance tests for comparing learning algorithms", PAKDD 2004.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dropkit.errors import DropkitError
from dropkit.studies.statistics import ALPHA, Array, Difference, Spread, level_of_zero, needed_seeds


@dataclass(frozen=True)
class FoldSpread(Spread):
    """Where the uncertainty of a mean over folds comes from.

    `seeds` is (1/J + n_test/n_train) s^2. `pictures` (and `rest`, which takes it out of the sum) is the variance over
    the test pictures alone: the interval is never narrower than that, since a few small folds agree by chance.

    Attributes:
        shared: the part (n_test/n_train) s^2, which more repetitions do not lower.
        folds: how many there are in a repetition.
    """

    shared: float
    folds: int

    def grown(self, seeds: float, pictures: float) -> "FoldSpread":
        """Return what it would be with so many times the trainings and so many times the pictures.

        That s^2 falls as the number of pictures grows is right for the part that chance in the test pictures has in it,
        and a guess for the rest.
        """
        shared, least = self.shared / pictures, self.pictures / pictures
        return FoldSpread((self.seeds - self.shared) / (seeds * pictures) + shared, least, least, shared, self.folds)


def fold_difference(
    base: Sequence[Any], other: Sequence[Any], *, folds: int, n_train: float, n_pictures: int
) -> Difference:
    """Compare two policies over the folds of a cross-validation.

    Args:
        base: for each of the J trainings, the first policy's metric on the pictures of its test fold [n].
        other: the other policy's, on the same pictures in the same order.
        folds: K.
        n_train: pictures that a training's weights were fitted to, on average, without those for validation.
        n_pictures: pictures in all: the number of different ones in the test folds.

    Returns:
        The difference, other less base. Its `n_seeds` is J; `from_seeds` is the share of the uncertainty that more
        repetitions lower, `from_pictures` the share that they do not.

    Raises:
        DropkitError: if the shapes differ, there are fewer than 2 trainings, or a value is not finite.

    Example:
        >>> d = fold_difference([[1, 0], [1, 1], [1, 0]], [[0, 0], [0, 1], [0, 0]], folds=3, n_train=4, n_pictures=6)
        >>> d.mean, d.n_seeds
        (-0.5, 3)
    """
    differences = _differences(base, other)
    d = np.array([each.mean() for each in differences])
    trainings, mean, variance = len(d), float(d.mean()), float(d.var(ddof=1))
    everywhere = np.concatenate(differences)
    ratio = len(everywhere) / trainings / n_train
    least = float(everywhere.var(ddof=1)) / n_pictures
    spread = FoldSpread((1.0 / trainings + ratio) * variance, least, least, ratio * variance, folds)
    half = spread.half_width(trainings, n_pictures, ALPHA)
    own = (1.0 / trainings) / (1.0 / trainings + ratio)
    return Difference(
        mean=mean,
        standard_error=math.sqrt(spread.total),
        low=mean - half,
        high=mean + half,
        p_value=level_of_zero(mean, spread, trainings, n_pictures),
        from_seeds=own,
        from_pictures=1.0 - own,
        n_seeds=trainings,
        n_pictures=n_pictures,
        spread=spread,
    )


def needed_repetitions(difference: Difference, alpha: float = ALPHA) -> int | None:
    """Return how many repetitions find an effect as large as the mean in 4 of 5 studies; None for a cross-validation of
    more than 50 trainings, or where no number does, because they all divide the same pictures.

    For planning, and a guess, as `statistics.needed_seeds`.
    """
    trainings = needed_seeds(difference, alpha)
    if trainings is None or not isinstance(difference.spread, FoldSpread):
        return None
    return math.ceil(trainings / difference.spread.folds)


def _differences(base: Sequence[Any], other: Sequence[Any]) -> list[Array]:
    first, second = ([np.asarray(each, dtype=np.float64) for each in given] for given in (base, other))
    shapes = [each.shape for each in first]
    if len(first) < 2 or shapes != [each.shape for each in second] or any(len(s) != 1 or s[0] < 1 for s in shapes):
        raise DropkitError(
            f"a difference over {len(first)} and {len(second)} folds: give at least 2 trainings of both policies, each "
            f"with one value for every picture of its test fold, the same ones in the same order"
        )
    d = [b - a for a, b in zip(first, second, strict=True)]
    if not all(np.isfinite(each).all() for each in d):
        raise DropkitError("a difference over folds of values that are not finite: leave out the runs that diverged")
    return d
