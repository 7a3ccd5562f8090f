from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropkit.masks import Rate
from dropkit.masks.block_rate import dropped_fraction, places, seed_rate

# map, block: small enough to lay every pattern of seeds
TINY = [((5,), (2,)), ((4,), (4,)), ((3, 4), (2, 2)), ((4, 3), (3, 1)), ((2, 5), (7, 3)), ((3, 2, 3), (2, 1, 2))]


def by_enumeration(g, sizes, block):
    """The mean fraction that is dropped, over all patterns of seeds with their probabilities."""
    widths = [min(size, width) for size, width in zip(sizes, block, strict=True)]
    begins = list(product(*(range(size - width + 1) for size, width in zip(sizes, widths, strict=True))))
    total = 0.0
    for pattern in product([False, True], repeat=len(begins)):
        dropped = np.zeros(sizes, dtype=bool)
        for begin, seed in zip(begins, pattern, strict=True):
            if seed:
                dropped[tuple(slice(b, b + width) for b, width in zip(begin, widths, strict=True))] = True
        total += g ** sum(pattern) * (1 - g) ** (len(begins) - sum(pattern)) * dropped.mean()
    return total


@pytest.mark.parametrize(("sizes", "block"), TINY)
@pytest.mark.parametrize("g", [0.0, 0.003, 0.2, 0.7, 1.0])
def test_the_expected_fraction_is_that_over_all_patterns(sizes, block, g):
    assert dropped_fraction(g, sizes, block) == pytest.approx(by_enumeration(g, sizes, block), abs=1e-14)


def exactly(rate, sizes, block):
    """The expected fraction dropped, in rational numbers, position by position."""
    begins = places(sizes, block)
    kept = Fraction(0)
    for position in product(*(range(size) for size in sizes)):
        covering = 1
        for i, size, count in zip(position, sizes, begins, strict=True):
            width = size - count + 1
            covering *= sum(begin <= i < begin + width for begin in range(count))
        kept += (1 - Fraction(rate.threshold, 1 << 32)) ** covering
    return 1 - kept / int(np.prod(sizes))


@given(
    st.sampled_from([((14, 14), (7, 7)), ((5, 9), (4, 7)), ((6,), (5,)), ((3, 5, 4), (2, 3, 4)), *TINY]),
    st.floats(1e-6, 1 - 1e-6),
)
def test_no_other_threshold_is_nearer(case, p):
    """The thresholds below and above give less and more than p."""
    sizes, block = case
    wanted = Fraction(Rate.of(p, 32).threshold, 1 << 32)
    seeds = seed_rate(Rate.of(p, 32), sizes, block)
    assert seeds.bits == 32
    below, above = (Rate(32, min(max(seeds.threshold + by, 0), 1 << 32)) for by in (-1, 1))
    assert exactly(below, sizes, block) <= wanted <= exactly(above, sizes, block)


def test_the_papers_formula_is_the_limit_of_small_rates():
    paper = lambda p: p / 7**2 * 56**2 / 50**2
    assert seed_rate(Rate.of(1e-4, 32), (56, 56), (7, 7)).p == pytest.approx(paper(1e-4), rel=1e-3)
    # It is of first order: at p = .1 it drops .09.
    assert dropped_fraction(paper(0.1), (56, 56), (7, 7)) < 0.095
    assert seed_rate(Rate.of(0.1, 32), (56, 56), (7, 7)).p > paper(0.1) * 1.05


@pytest.mark.parametrize(("sizes", "block"), [((7, 7), (7, 7)), ((5,), (11,)), ((2, 3, 5), (3, 3, 5))])
def test_a_block_as_large_as_the_map_drops_it_at_the_rate_itself(sizes, block):
    for p in (1e-6, 0.1, 0.5, 0.999):
        assert abs(seed_rate(Rate.of(p, 32), sizes, block).threshold - Rate.of(p, 32).threshold) <= 1


def test_blocks_of_one_unit_begin_at_the_rate_itself():
    assert abs(seed_rate(Rate.of(0.3, 32), (5, 7), (1, 1)).threshold - Rate.of(0.3, 32).threshold) <= 1


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_the_ends_are_exact(p):
    assert seed_rate(Rate.of(p), (5, 7), (3, 3)) == Rate.of(p, 32)
    assert dropped_fraction(p, (5, 7), (3, 3)) == p
