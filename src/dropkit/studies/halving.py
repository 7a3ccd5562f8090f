"""Successive halving: which trials of a search train on, and until when. Nothing here trains or draws.

Trials go in generations. All of a generation train to the first rung, the best third of them to the second, the best
third of those to the end: Jamieson and Talwalkar, AISTATS 2016, with eta = 3 as in Li et al., JMLR 18 (2018), section
3.6. A generation is drawn when the one before it has ended, and a rung waits for all of its trials: so the search is
the same however many trainings run at a time, wherever they run, and however often it was stopped. Trials are judged by
the validation loss of the rung's epoch: `benchmarks/halving.py` holds other criteria, and no halving, beside it.
"""

import math
from collections.abc import Mapping

ETA = 3
GENERATION = ETA**2  # what leaves one trial for the end


def rungs(epochs: int) -> tuple[int, ...]:
    """Return the epochs after which a generation is thinned out: a ninth and a third of all.

    Args:
        epochs: of a whole training.

    Example:
        >>> rungs(40), rungs(3), rungs(1)
        ((5, 14), (1,), ())
    """
    wanted = (math.ceil(epochs / ETA**2), math.ceil(epochs / ETA))
    return tuple(sorted({epoch for epoch in wanted if epoch < epochs}))


def generations(count: int) -> list[range]:
    """Return the positions of the trials of each generation.

    Example:
        >>> generations(28)
        [range(0, 10), range(10, 19), range(19, 28)]
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


def planned_epochs(count: int, epochs: int, seeds: int = 1, workers: int = 1) -> int:
    """Return how many epochs the trials of a search take one after the other, if none ends or diverges before its time.

    Args:
        count: of the trials.
        epochs: of a whole training.
        seeds: with which those are trained that come to the end.
        workers: trainings at a time. A rung waits for all of its trials, so that two do not halve the time.

    Example:
        >>> planned_epochs(28, 40), planned_epochs(28, 40, workers=2), 28 * 40
        (299, 207, 1120)
    """
    total = 0
    for generation in generations(count):
        alive, done = len(generation), 0
        for rung in rungs(epochs):
            total += math.ceil(alive / workers) * (rung - done)
            alive, done = max(1, round(alive / ETA)), rung
        # At the end one that goes on is shorter than one with another seed, and they are not of one rung.
        last = alive * (seeds * epochs - done)
        total += max(math.ceil(last / workers), epochs if seeds > 1 else epochs - done)
    return total
