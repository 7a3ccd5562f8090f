"""Dealing pictures out to splits: how many each gets of each class, and which pictures those are."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

Indices = npt.NDArray[np.int64]

PERCENT = 15  # of the pictures that are divided, for validation and again for test
_ATTEMPTS = 20


def split_targets(count: Indices, sides: int) -> Indices:
    """Return how many pictures of each class go to train and to each made split: [K, sides], sides 2 or 3.

    First what is held out of training is fixed, then halved, so that no share is off by one or more.
    """
    percent = PERCENT * (sides - 1)
    held = shares(count * percent, 100, (2 * int(count.sum()) * percent + 100) // 200)
    if sides == 2:
        return np.stack([count - held, held], axis=1)
    val = shares(held, 2, (int(held.sum()) + 1) // 2)
    return np.stack([count - held, val, held - val], axis=1)


def fold_targets(count: Indices, folds: int) -> Indices:
    """Return how many pictures of each class go to each fold: [K, folds].

    Shares of a class differ by one at most, and so do the folds' totals.

    >>> fold_targets(np.array([7, 8]), 3).tolist()
    [[3, 2, 2], [2, 3, 3]]
    """
    out = np.repeat(count[:, None] // folds, folds, axis=1)
    left = count % folds
    start = np.cumsum(left) - left  # a class begins to give its remainder where the one before it stopped
    for label in range(len(count)):
        out[label, (start[label] + np.arange(left[label])) % folds] += 1
    return out


def shares(numerator: Indices, denominator: int, total: int) -> Indices:
    """Round numerator / denominator to whole numbers that sum to total, by largest remainder."""
    share = numerator // denominator
    largest = np.argsort(-(numerator % denominator), kind="stable")
    share[largest[: total - int(share.sum())]] += 1
    return share


def deal(sizes: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """Return the side of each group of one class: the one that lacks most, and no side is left empty."""
    lack = list(wanted)
    empty = set(range(len(wanted)))
    sides = []
    for i, size in enumerate(sizes):
        open_to = empty if len(sizes) - i <= len(empty) else range(len(lack))
        side = max(open_to, key=lambda s: (lack[s], -s))
        lack[side] -= size
        empty.discard(side)
        sides.append(side)
    return sides


def deal_across(content: csr_array, wanted: Indices, seed: int) -> Indices | None:
    """Return the side of each group where groups hold several classes; None if no dealing with all classes was found.

    Large groups go first, each to the side that lacks most of what it holds; then groups move until every class is on
    every side. Whether that can be done at all is a hard question in general: several random orders are tried.

    Args:
        content: pictures of each group by class, [groups, K].
        wanted: pictures of each class by side, [K, sides].
        seed: of the orders.
    """
    size = np.asarray(content.sum(axis=1)).ravel()
    for attempt in range(_ATTEMPTS):
        order = np.random.default_rng([seed, attempt]).permutation(len(size))
        table = _Table(content, wanted)
        for group in np.lexsort((order, -size)):
            table.place(int(group))
        if table.fill_empty():
            return table.side
    return None


class _Table:
    """Groups on sides, and what each side still lacks of each class."""

    def __init__(self, content: csr_array, wanted: Indices) -> None:
        self.content = content
        self.lack = wanted.astype(np.float64)
        self.weight = 1.0 / np.maximum(wanted.sum(axis=1), 1)  # a picture of a rare class counts for more
        self.groups = np.zeros(wanted.shape, dtype=np.int64)
        """How many groups with pictures of a class are on a side, [K, sides]."""
        self.side = np.full(content.shape[0], -1, dtype=np.int64)

    def held(self, group: int) -> tuple[Indices, Indices]:
        """Return the classes of a group and how many pictures it has of each."""
        begin, end = self.content.indptr[group], self.content.indptr[group + 1]
        return self.content.indices[begin:end], self.content.data[begin:end]

    def place(self, group: int, side: int | None = None) -> None:
        """Put a group on a side: on the one given, else on the one that lacks most of what it holds."""
        classes, count = self.held(group)
        if side is None:
            side = int(np.argmax((self.weight[classes] * count) @ self.lack[classes]))
        before = self.side[group]
        if before >= 0:
            self.lack[classes, before] += count
            self.groups[classes, before] -= 1
        self.lack[classes, side] -= count
        self.groups[classes, side] += 1
        self.side[group] = side

    def fill_empty(self) -> bool:
        """Move groups until every class is on every side; say whether that was possible."""
        while (self.groups == 0).any():
            label, side = np.argwhere(self.groups == 0)[0]
            holders = np.flatnonzero(self.content[:, [label]].toarray().ravel()).tolist()
            movable = [group for group in holders if self._may_leave(group)]
            if not movable:
                return False
            costs = [self._cost(group, int(side)) for group in movable]
            self.place(movable[int(np.argmin(costs))], int(side))
        return True

    def _may_leave(self, group: int) -> bool:
        """Say whether no class would be missing from the group's side without it."""
        classes, _ = self.held(group)
        return bool((self.groups[classes, self.side[group]] > 1).all())

    def _cost(self, group: int, side: int) -> float:
        """Return how much farther from what is wanted a move would bring the two sides."""
        classes, count = self.held(group)
        gain = self.lack[classes, self.side[group]] - self.lack[classes, side]
        return float((self.weight[classes] * count * (count + gain)).sum())


def cut(part: Indices, labels: Indices, order: Indices, wanted: int) -> Indices:
    """Keep so many pictures of part, each class its share and at least one."""
    count = np.bincount(labels[part])
    share = shares(count * wanted, len(part), wanted)
    share = np.maximum(share, count > 0)
    while share.sum() > max(wanted, np.count_nonzero(count)):
        # what the rare classes were lifted to, the commonest gives
        share[np.argmax(share)] -= 1
    sequence = np.lexsort((order[part], labels[part]))
    start = np.cumsum(count) - count
    rank = np.empty(len(part), dtype=np.int64)
    rank[sequence] = np.arange(len(part)) - np.repeat(start, count)
    return part[rank < share[labels[part]]]
