"""The masks are random enough: rates, runs, correlations along a stream and across streams, patterns of 8 units.

Every bound follows from the number of units and the quantised p. `DROPKIT_QUALITY_UNITS` (a power of two) makes all of
them sharper: `make quality` takes 2**28.
"""

import itertools
import os

import numpy as np
import pytest
import torch
from scipy import stats

from dropkit.masks import Key, Rate, keep
from dropkit.masks.kernels import library
from dropkit.masks.words import Draw, key_words, rate_words

UNITS = int(os.environ.get("DROPKIT_QUALITY_UNITS", 1 << 22))
RATE_UNITS = max(UNITS, 1 << 28)
RATES = [1e-4, 0.001, 0.01, 0.1, 0.25, 1 / 3, 0.5, 0.9, 0.999]
KEY = Key(0x0123456789ABCDEF, 0x9E3779B9, 41)
# About 300 figures are looked at; all lie within these bounds in all but one of 10,000 worlds where masks are random.
Z_BOUND = stats.norm.isf(1e-4 / 300 / 2)
P_BOUND = 1e-4 / 300

kernels = pytest.mark.skipif(library.library() is None, reason="the C++ kernels are not built, the reference is slow")


def mask(units, rate, key=KEY):
    """Return the mask of `units` units as bool, by the C++ kernel where there is one."""
    if library.library() is None:
        return keep(1, units, rate, key)[0].numpy()
    out = torch.empty(units, dtype=torch.bool)
    words = key_words(int(key.seed), key.site, int(key.step), key.first_sample)
    library.keep(out, library.Mask.of(Draw.of(words, rate_words(rate)), units))
    return out.numpy()


# ---------------------------------------------------------------- what is measured


def rate_z(kept, rate):
    """How far the number of dropped units lies from n p, in standard deviations."""
    return ((len(kept) - np.count_nonzero(kept)) - len(kept) * rate.p) / (len(kept) * rate.p * rate.q) ** 0.5


def correlation_z(a, b, rate):
    """How far the joint count of two masks lies from independence, in standard deviations.

    The product of two independent centred Bernoulli variables has mean 0 and standard deviation pq.
    """
    both, n = np.count_nonzero(a & b), len(a)
    covariance = both / n - rate.q * (np.count_nonzero(a) + np.count_nonzero(b)) / n + rate.q**2
    return covariance * n**0.5 / (rate.p * rate.q)


def runs_z(kept, rate):
    """How far the number of runs lies from its expectation (Wald and Wolfowitz 1940, with p known).

    A run begins where a unit differs from the one before: with probability 2pq, and two neighbouring places both with
    pq.
    """
    change, n = 2 * rate.p * rate.q, len(kept)
    variance = (n - 1) * change * (1 - change) + 2 * (n - 2) * (rate.p * rate.q - change**2)
    return (np.count_nonzero(kept[1:] != kept[:-1]) - (n - 1) * change) / variance**0.5


def run_lengths_p(kept, rate, of=False):
    """The p-value of the lengths of the runs of dropped (or kept) units against the geometric distribution."""
    edges = np.flatnonzero(np.diff(np.concatenate([[not of], kept, [not of]]).astype(np.int8)))
    lengths = edges[1::2] - edges[::2]
    again = rate.q if of else rate.p
    most = max(1, int(np.log(20 / len(lengths)) / np.log(again)))  # so many that each class holds 20 or more
    expected = len(lengths) * np.append(again ** np.arange(most) * (1 - again), again**most)
    seen = np.bincount(np.minimum(lengths, most + 1), minlength=most + 2)[1:]
    return stats.chi2.sf(((seen - expected) ** 2 / expected).sum(), most)


def patterns_p(kept, rate, first=0):
    """The p-value of the 256 patterns of 8 units, from unit `first` on, against independence."""
    whole = kept[first : first + (len(kept) - first) // 8 * 8]
    seen = np.bincount(np.packbits(whole.reshape(-1, 8), axis=1)[:, 0], minlength=256)
    ones = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=int)
    expected = len(whole) / 8 * rate.q**ones * rate.p ** (8.0 - ones)
    # Patterns too rare for the approximation count as one class.
    rare = expected < 20
    seen = np.append(seen[~rare], seen[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    if not rare.any():
        seen, expected = seen[:-1], expected[:-1]
    return stats.chi2.sf(((seen - expected) ** 2 / expected).sum(), len(seen) - 1)


# ---------------------------------------------------------------- the masks


@kernels
@pytest.mark.parametrize("p", RATES)
def test_rates_at_many_units(p):
    rate = Rate.of(p)
    assert abs(rate.p - p) <= 0.5 / (1 << rate.bits)
    assert abs(rate_z(mask(RATE_UNITS, rate), rate)) < Z_BOUND


@pytest.mark.parametrize("p", [0.01, 0.1, 0.25, 1 / 3, 0.5, 0.9])
def test_runs(p):
    rate = Rate.of(p)
    kept = mask(UNITS, rate)
    assert abs(runs_z(kept, rate)) < Z_BOUND
    assert run_lengths_p(kept, rate) > P_BOUND
    assert run_lengths_p(kept, rate, of=True) > P_BOUND


DISTANCES = [*range(1, 33), 63, 64, 65, 127, 128, 256, 1000, 1024, 4096, 65_536, 1 << 20, (1 << 20) + 3]


@pytest.mark.parametrize(("p", "bits"), [(0.1, 16), (0.5, 16), (0.5, 32), (0.001, 32)])
def test_units_of_a_stream_are_uncorrelated(p, bits):
    rate = Rate.of(p, bits)
    kept = mask(UNITS, rate)
    for distance in DISTANCES:
        assert abs(correlation_z(kept[:-distance], kept[distance:], rate)) < Z_BOUND, distance


def neighbours():
    """Keys that differ in little: one more, one bit, parts exchanged."""
    seed, site, step = int(KEY.seed), KEY.site, int(KEY.step)
    yield from (Key(seed ^ 1 << bit, site, step) for bit in (0, 1, 31, 32, 63))
    yield from (Key(seed, site ^ 1 << bit, step) for bit in (0, 7, 31))
    yield from (Key(seed, site, step + 1), Key(seed, site, step ^ 1 << 31), Key(seed, step, site), Key(0), Key(1))


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_streams_of_neighbouring_keys_are_uncorrelated(p):
    rate = Rate.of(p)
    masks = [mask(UNITS // 4, rate, key) for key in (KEY, *neighbours())]
    for a, b in itertools.combinations(masks, 2):
        assert abs(correlation_z(a, b, rate)) < Z_BOUND
        # Nor is one the other, a block later: consecutive calls of some generators overlap (pytorch#68909).
        assert abs(correlation_z(a[8:], b[:-8], rate)) < Z_BOUND


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("first", [0, 3])  # one Philox block, parts of two
def test_patterns_of_eight_units(p, first):
    rate = Rate.of(p)
    assert patterns_p(mask(UNITS, rate), rate, first) > P_BOUND


# ---------------------------------------------------------------- the tests themselves


def test_what_is_wrong_is_found():
    """Each measure finds a defect of its kind at these numbers of units."""
    rate = Rate.of(0.5)
    kept = mask(UNITS, rate)
    n = len(kept)
    assert abs(rate_z(mask(n, Rate.of(0.505)), rate)) > Z_BOUND
    assert abs(correlation_z(kept, np.where(np.arange(n) % 64 == 0, kept, mask(n, rate, Key(3))), rate)) > Z_BOUND
    sticky = np.where(np.arange(n) % 64 == 0, np.roll(kept, 1), kept)  # one unit in 64 repeats the one before
    assert abs(runs_z(sticky, rate)) > Z_BOUND
    assert run_lengths_p(sticky, rate) < P_BOUND
    parity = kept.reshape(-1, 8).copy()
    parity[:, 7] = np.logical_xor.reduce(parity[:, :7], axis=1)  # pairs, and any 7 of them, are independent
    assert patterns_p(parity.reshape(-1), rate) < P_BOUND
