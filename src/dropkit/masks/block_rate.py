"""How often a block has to begin somewhere so that a unit is dropped with a given probability."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dropkit.masks.rate import Rate

Sizes = tuple[int, ...]
_STEPS = 100  # Newton's method takes about ten


def clipped(sizes: Sizes, block: Sizes) -> Sizes:
    """Return the block's size along each axis: no larger than the map.

    >>> clipped((5, 14), (7, 7))
    (5, 7)
    """
    return tuple(min(width, size) for size, width in zip(sizes, block, strict=True))


def places(sizes: Sizes, block: Sizes) -> Sizes:
    """Return at how many places along each axis a block can begin and lie within the map.

    >>> places((5, 14), (7, 7))
    (1, 8)
    """
    return tuple(size - width + 1 for size, width in zip(sizes, clipped(sizes, block), strict=True))


def dropped_fraction(seed: float, sizes: Sizes, block: Sizes) -> float:
    """Return the expected fraction of a map that is dropped when a block begins at each place with probability `seed`.

    A unit is kept if no block begins at any of the n places whose block covers it: the mean of 1 - (1 - seed)**n.

    >>> round(dropped_fraction(0.25, (3,), (2,)), 15)  # the middle is covered by both places
    0.3125
    """
    if seed >= 1:
        return 1.0
    counts, weights = _cover(sizes, block)
    return -float(weights @ np.expm1(counts * math.log1p(-seed)))


@lru_cache(maxsize=4096)
def seed_rate(rate: Rate, sizes: Sizes, block: Sizes) -> Rate:
    """Return how often a block begins at a place, so that the expected fraction dropped is that of `rate`, exactly.

    Ghiasi et al. (NeurIPS 2018, section 3, equation 1) give p / block**2 * size**2 / (size - block + 1)**2, which is
    of first order: it counts what overlapping blocks share several times. Here `dropped_fraction` is inverted instead,
    for maps and blocks of any height and width.

    Args:
        rate: of a unit to be dropped.
        sizes: of the map along each axis, all at least 1.
        block: its size along each axis.

    >>> seed_rate(Rate.of(0.1, 32), (56, 56), (7, 7)).p  # the equation gives .00256
    0.0027143920306116343
    >>> seed_rate(Rate.of(0.1, 32), (5, 5), (7, 7)).p  # whole maps
    0.10000000009313226
    """
    if rate.drops_none or rate.drops_all:
        return Rate(32, 0 if rate.drops_none else 1 << 32)
    counts, weights = _cover(sizes, block)
    # Unknown is t = -log(1 - seed): what is kept is the sum of weight * exp(-count * t). Its logarithm falls and is
    # convex, so that Newton's method from the left never oversteps. If all counts were the largest one, t would be:
    target = math.log1p(-rate.p)
    t = -target / float(counts[-1])
    for _ in range(_STEPS):
        share = weights * np.exp(-counts * t)
        # log1p of the small negative sum keeps the digits that 1 - p loses at small p
        excess = math.log1p(float(weights @ np.expm1(-counts * t))) - target
        further = t + excess * float(share.sum() / (share @ counts))
        if not further > t:
            break
        t = further
    return Rate.of(-math.expm1(-t), 32)


def _cover(sizes: Sizes, block: Sizes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return by how many blocks a position can be covered, in ascending order, and the share of such positions."""
    counts: NDArray[np.float64] = np.ones(1)
    weights: NDArray[np.float64] = np.ones(1)
    for size, width in zip(sizes, clipped(sizes, block), strict=True):
        i = np.arange(size)
        along = np.minimum(i, size - width) - np.maximum(0, i - width + 1) + 1.0
        values, numbers = np.unique(along, return_counts=True)
        counts, which = np.unique(np.outer(counts, values), return_inverse=True)
        weights = np.bincount(which.ravel(), np.outer(weights, numbers / size).ravel()).astype(np.float64)
    return counts, weights
