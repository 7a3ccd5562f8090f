"""Successive halving: which trials of a search train on, and until when. Nothing here trains or draws.

Trials go in generations. All of a generation train to the first rung, the best third of them to the second, the best
third of those to the end: Jamieson and Talwalkar, AISTATS 2016, with eta = 3 as in Li et al., JMLR 18 (2018), section
3.6, but with later rungs. Dropout slows the first epochs and prevents what only later ones show, so that early losses
say little of it: `benchmarks/halving.py` holds other rungs and criteria, and no halving, beside these.

A generation is drawn when the one before it has ended, and a rung waits for all of its trials: so the search is the
same however many trainings run at a time, wherever they run, and however often it was stopped.
"""

import math
from collections.abc import Mapping

ETA = 3
# About: five of them go on, and two to the end, so that two trainings at a time leave hardly a moment idle.
GENERATION = 14


def rungs(epochs: int) -> tuple[int, ...]:
    """Return the epochs after which a generation is thinned out: a sixth and a half of all.

    Args:
        epochs: of a whole training.

    Example:
        >>> rungs(40), rungs(3), rungs(1)
        ((7, 20), (1, 2), ())
    """
    wanted = (math.ceil(epochs / 6), math.ceil(epochs / 2))
    return tuple(sorted({epoch for epoch in wanted if epoch < epochs}))


def generations(count: int) -> list[range]:
    """Return the positions of the trials of each generation.

    Example:
        >>> generations(28)
        [range(0, 14), range(14, 28)]
    """
    parts = max(1, round(count / GENERATION))
    sizes = [count // parts + (part < count % parts) for part in range(parts)]
    starts = [sum(sizes[:part]) for part in range(parts)]
    return [range(start, start + size) for start, size in zip(starts, sizes, strict=True) if size]


def best_third(scores: Mapping[int, float]) -> list[int]:
    """Return the keys with the lowest scores, a third of them and at least one, in the order of the keys.

    Trials whose loss stopped being a number have no place among them. Of equal ones the earlier is kept.

    Example:
        >>> best_third({7: 0.4, 8: 0.3, 9: math.inf, 10: 0.5})
        [8]
    """
    finite = {key: score for key, score in scores.items() if math.isfinite(score)}
    keep = max(1, round(len(scores) / ETA))
    return sorted(sorted(finite, key=lambda key: (finite[key], key))[:keep])


def planned_epochs(count: int, epochs: int, workers: int = 1) -> int:
    """Return how many epochs the trials of a search take one after the other, if none ends or diverges before its time.

    Args:
        count: of the trials.
        epochs: of a whole training.
        workers: trainings at a time. A rung waits for all of its trials, so that two do not halve the time.

    Example:
        >>> planned_epochs(28, 40), planned_epochs(28, 40, workers=2), 28 * 40
        (406, 216, 1120)
    """
    total = 0
    for generation in generations(count):
        alive, done = len(generation), 0
        for rung in rungs(epochs):
            total += math.ceil(alive / workers) * (rung - done)
            alive, done = max(1, round(alive / ETA)), rung
        total += math.ceil(alive / workers) * (epochs - done)
    return total
