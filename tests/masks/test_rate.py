from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dropkit.errors import DropkitError
from dropkit.masks import Rate

SEEDED = settings(derandomize=True, deadline=None)


@SEEDED
@given(st.floats(0, 1))
def test_threshold_is_the_nearest(p):
    rate = Rate.of(p)
    assert rate.bits == (16 if 0.01 <= p <= 0.99 else 32)
    assert abs(rate.threshold - Fraction(p) * 2**rate.bits) <= Fraction(1, 2)
    assert Rate.of(p, bits=32).bits == 32


@SEEDED
@given(st.floats(0, 1), st.sampled_from([16, 32]))
def test_scale_is_the_inverse_of_the_realised_keep_fraction(p, bits):
    rate = Rate.of(p, bits)
    assert Fraction(rate.p) + Fraction(rate.q) == 1
    if rate.drops_all:
        assert rate.scale == 0
    else:
        assert rate.scale * rate.q == pytest.approx(1, rel=1e-15)


@pytest.mark.parametrize("p", [0, 0.0, 1, 1.0, 1e-12, 1 - 1e-12])
def test_the_ends_are_exact(p):
    rate = Rate.of(p)
    assert rate.drops_none == (p < 0.5)
    assert rate.drops_all == (p > 0.5)
    assert rate.p == round(p)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan"), True, False])
def test_refuses_what_is_no_probability(p):
    with pytest.raises(DropkitError, match=f"a number from 0 to 1, but got {p!r}"):
        Rate.of(p)


@pytest.mark.parametrize(("bits", "threshold"), [(8, 3), (16, -1), (16, 2**16 + 1), (32, 2**32 + 1)])
def test_refuses_other_grids(bits, threshold):
    with pytest.raises(DropkitError):
        Rate(bits, threshold)
