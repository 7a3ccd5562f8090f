import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dropkit.masks import Key, Rate, keep, reference

SEED, SITE, STEP = 0x0123456789ABCDEF, 0x9E3779B9, 41


def expected(kept_oracle, samples, units, rate, key):
    first = key.first_sample * units
    parts = (rate.bits, rate.threshold, key.seed, key.site, key.step)
    flat = [kept_oracle(first + i, *parts) for i in range(samples * units)]
    return torch.tensor(flat, dtype=torch.bool).view(samples, units)


@settings(max_examples=80)
@given(
    samples=st.integers(0, 7),
    units=st.integers(0, 23),
    p=st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1e-4, 0.01, 0.1, 0.5, 0.99, 0.999, 1.0])),
    bits=st.sampled_from([16, 32]),
    seed=st.integers(0, 2**64 - 1),
    site=st.integers(0, 2**32 - 1),
    step=st.integers(0, 2**32 - 1),
    first_sample=st.one_of(st.integers(0, 100), st.integers(2**32 - 9, 2**36), st.just(2**40)),
)
def test_equals_python_integers(kept_oracle, samples, units, p, bits, seed, site, step, first_sample):
    rate, key = Rate.of(p, bits), Key(seed, site, step, first_sample)
    kept = keep(samples, units, rate, key)
    assert kept.dtype == torch.bool
    assert torch.equal(kept, expected(kept_oracle, samples, units, rate, key))


@pytest.mark.parametrize("bits", [16, 32])
def test_bits_equal_to_the_threshold_are_kept(philox_oracle, bits):
    word = philox_oracle((0, 0, SITE, STEP), (SEED % 2**32, SEED >> 32))[0]
    value = word % 2**bits
    assert keep(1, 1, Rate(bits, value), Key(SEED, SITE, STEP)).item()
    assert not keep(1, 1, Rate(bits, value + 1), Key(SEED, SITE, STEP)).item()


@pytest.mark.parametrize("bits", [16, 32])
def test_the_block_number_carries_into_its_upper_word(kept_oracle, bits):
    lanes = 128 // bits
    first = 2**32 * lanes // 4 - 5  # 4 units a sample: block 2**32 begins inside this mask
    key = Key(SEED, SITE, STEP, first_sample=first)
    rate = Rate.of(0.5, bits)
    assert torch.equal(keep(11, 4, rate, key), expected(kept_oracle, 11, 4, rate, key))


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("piece", [1, 3, 1 << 20])
def test_pieces_fit_together(kept_oracle, monkeypatch, bits, piece):
    monkeypatch.setattr(reference, "_PIECE", piece)
    key, rate = Key(SEED, SITE, STEP, first_sample=3), Rate.of(0.3, bits)
    assert torch.equal(keep(5, 13, rate, key), expected(kept_oracle, 5, 13, rate, key))


def test_large_masks_at_chosen_units(kept_oracle):
    samples, units, rate, key = 3, 300_007, Rate.of(0.5), Key(SEED, SITE, STEP, first_sample=1)
    kept = keep(samples, units, rate, key)
    for sample, unit in itertools.product(range(samples), (0, 1, 262_143, 262_144, 262_145, units - 1)):
        e = (1 + sample) * units + unit
        assert kept[sample, unit] == kept_oracle(e, 16, rate.threshold, SEED, SITE, STEP)


@pytest.mark.parametrize("p", [0.001, 0.5])
def test_parts_of_a_batch_are_the_batch(p):
    rate = Rate.of(p)
    whole = keep(11, 37, rate, Key(SEED, SITE, STEP, first_sample=2))
    parts = [keep(n, 37, rate, Key(SEED, SITE, STEP, first_sample=2 + at)) for at, n in ((0, 3), (3, 1), (4, 7))]
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize("p", [1e-4, 1e-3, 0.01, 0.1, 1 / 3, 0.5, 0.75, 0.9, 0.99, 0.999])
def test_realised_rate(p):
    rate, n = Rate.of(p), 500_009
    dropped = n - int(keep(1, n, rate, Key(SEED)).sum())
    assert abs(dropped - n * rate.p) < 5 * (n * rate.p * rate.q) ** 0.5
    assert 0 < dropped < n


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_masks_and_units_are_independent(p, bits):
    """Correlation over pairs: neighbours at many distances, samples, seeds, sites and steps."""
    rate, n = Rate.of(p, bits), 20_011
    base = keep(4, n, rate, Key(SEED, SITE, STEP))
    other = [Key(SEED + 1, SITE, STEP), Key(SEED ^ 1 << 32, SITE, STEP), Key(SEED, SITE + 1, STEP)]
    other += [Key(SEED, SITE, STEP + 1), Key(SEED, STEP, SITE), Key(SEED, SITE, STEP, first_sample=4)]
    pairs = [(base[0, :-d], base[0, d:]) for d in (*range(1, 18), 31, 32, 64, 127, 128, 1024)]
    pairs += [(base[a], base[b]) for a, b in itertools.combinations(range(4), 2)]
    pairs += [(base[0], keep(1, n, rate, key)[0]) for key in other]
    for a, b in pairs:
        covariance = ((a.double() - rate.q) * (b.double() - rate.q)).mean()
        # The product of two independent centred Bernoulli variables has standard deviation pq.
        assert abs(covariance) < 5 * rate.p * rate.q / len(a) ** 0.5


def test_seed_and_step_may_be_tensors():
    key = Key(torch.tensor(SEED), SITE, torch.tensor(STEP))
    assert torch.equal(keep(3, 19, Rate.of(0.5), key), keep(3, 19, Rate.of(0.5), Key(SEED, SITE, STEP)))


def test_no_generator_is_touched():
    state = torch.get_rng_state()
    keep(3, 19, Rate.of(0.5), Key(SEED))
    assert torch.equal(state, torch.get_rng_state())
