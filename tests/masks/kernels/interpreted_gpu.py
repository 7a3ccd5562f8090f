"""The GPU kernels in Triton's interpreter, to be chosen before Triton is imported: test_gpu.py runs this file."""

import math

import pytest
import torch

from dropkit.masks import Key, Rate, keep
from dropkit.masks.kernels import gpu
from dropkit.masks.reference import random16

# Infinities are wanted here. The interpreter computes with NumPy, which warns of them.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")

SEED, SITE, STEP = 0xF123456789ABCDEF, 0x9E3779B9, 41
ODD, EVEN = (3, 5, 7, 11), (1, 32, 8, 8)  # blocks begin and end anywhere; every block and every tile is whole
FORMATS = [torch.contiguous_format, torch.channels_last]
CASES = pytest.mark.parametrize(
    ("dtype", "memory_format"),
    [*((dtype, torch.contiguous_format) for dtype in gpu.DTYPES), (torch.float32, torch.channels_last)],
    ids=str,
)
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def words(key):
    return torch.tensor([key.seed - 2**64 if key.seed >= 2**63 else key.seed, key.site, key.step, key.first_sample])


def words_of(rate):
    return torch.tensor([rate.threshold, rate.bits])


def activation(shape, dtype=torch.float32, memory_format=torch.contiguous_format, seed=0):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    special = torch.tensor([math.inf, -math.inf, math.nan, -0.0, 0.0, 1e-40, 3e38])
    places = x.view(-1)[:: x.numel() // 97]
    places.copy_(special.repeat(15)[: len(places)])
    return x.to(dtype).contiguous(memory_format=memory_format)


def assert_same_bits(got, expected):
    assert got.dtype == expected.dtype
    assert torch.equal(got.isnan(), expected.isnan())
    integer = INTEGERS[got.element_size()]
    clean = [t.masked_fill(t.isnan(), 1).contiguous().view(integer) for t in (got, expected)]
    assert torch.equal(*clean)


def selected(x, kept, scale):
    """Choose what is kept in the type of the arithmetic, without multiplying what is dropped."""
    wide = x if x.dtype == torch.float64 else x.float()
    return torch.where(kept.view(*kept.shape, *[1] * (x.dim() - kept.dim())), wide * scale, 0).to(x.dtype)


def kept_of(x, rate, key):
    return keep(x.shape[0], x[0].numel(), rate, key).view(x.shape)


@pytest.mark.parametrize("bits", [16, 32])
@CASES
def test_units(dtype, bits, memory_format):
    rate = Rate.of(0.3, bits)
    for shape, first_sample in ((ODD, 3), (EVEN, 1)):
        x, key = activation(shape, dtype, memory_format), Key(SEED, SITE, STEP, first_sample)
        y = gpu.drop(x, torch.empty_like(x), words(key), words_of(rate))
        kept = kept_of(x, rate, key)
        assert 0 < kept.sum() < kept.numel()
        assert_same_bits(y, selected(x, kept, rate.scale))


@pytest.mark.parametrize("first_sample", [1, 2, 4, 7])
@pytest.mark.parametrize("bits", [16, 32])
def test_any_first_unit_with_whole_tiles(bits, first_sample):
    """A sample of 2,053 units begins at different places of a block; with 4,106 units, tiles are whole and cut off."""
    x, key, rate = activation((2, 2053)), Key(SEED, SITE, STEP, first_sample), Rate.of(0.3, bits)
    y = gpu.drop(x, torch.empty_like(x), words(key), words_of(rate))
    assert_same_bits(y, selected(x, kept_of(x, rate, key), rate.scale))


@pytest.mark.parametrize("shape", [(1, 67, 7, 7), (2, 3, 17, 31), (1, 5, 1031), (2, 4, 3, 5, 7)], ids=str)
def test_channels_last_shapes(shape):
    last = torch.channels_last_3d if len(shape) == 5 else torch.channels_last
    x, key, rate = activation(shape), Key(SEED, SITE, STEP, 5), Rate.of(0.3)
    x = x.transpose(1, 2).contiguous().transpose(1, 2) if x.dim() == 3 else x.contiguous(memory_format=last)
    for call, kept in (
        (gpu.drop, kept_of(x, rate, key)),
        (gpu.drop_channels, keep(*x.shape[:2], rate, key)),
    ):
        y = call(x, torch.empty_like(x), words(key), words_of(rate))
        assert y.stride() == x.stride()
        assert_same_bits(y, selected(x, kept, rate.scale))


@CASES
def test_channels(dtype, memory_format):
    rate = Rate.of(0.3, 32)
    for shape, first_sample in ((ODD, 3), (EVEN, 1)):
        x, key = activation(shape, dtype, memory_format), Key(SEED, SITE, STEP, first_sample)
        y = gpu.drop_channels(x, torch.empty_like(x), words(key), words_of(rate))
        assert_same_bits(y, selected(x, keep(*x.shape[:2], rate, key), rate.scale))


@CASES
def test_relu_and_its_gradient(dtype, memory_format):
    rate, key = Rate.of(0.3), Key(SEED, SITE, STEP)
    x, dy = activation(EVEN, dtype, memory_format), activation(EVEN, dtype, memory_format, seed=1)
    y = gpu.relu_drop(x, torch.empty_like(x), words(key), words_of(rate))
    assert_same_bits(y, selected(x.relu(), kept_of(x, rate, key), rate.scale))
    dx = gpu.where_positive(dy, y, torch.empty_like(y), words_of(rate))
    assert_same_bits(dx, selected(dy, ~(y <= 0), rate.scale))


@CASES
def test_residual(dtype, memory_format):
    rate, key = Rate.of(0.3), Key(SEED, SITE, STEP)
    x, r = activation(ODD, dtype, memory_format), activation(ODD, dtype, memory_format, seed=1)
    # Numbers whose sum lies half-way between two of a half type's: the tie goes to the even one.
    x.flatten()[:100] = 1
    r.flatten()[:100] = torch.arange(100) * 2.0**-8
    y = gpu.relu_drop(x, torch.empty_like(x), words(key), words_of(rate), residual=r)
    assert_same_bits(y, selected((x + r).relu(), kept_of(x, rate, key), rate.scale))


@CASES
def test_gaussian(dtype, memory_format):
    generator = torch.Generator().manual_seed(2)
    table = torch.randn(1 << 16, generator=generator)
    deviation = torch.tensor([0.7], dtype=torch.float64)
    for shape in (ODD, EVEN):
        x, key = activation(shape, dtype, memory_format), Key(SEED, SITE, STEP, 3)
        y = gpu.gaussian(x, torch.empty_like(x), words(key), deviation, table)
        noise = table[random16(x.shape[0], x[0].numel(), key).view(x.shape)] * 0.7 + 1
        wide = x if dtype == torch.float64 else x.float()
        assert_same_bits(y, (wide * noise).to(dtype))


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("first_sample", [0, 3, 2**32 * 16 // 37 - 20, 2**40])
def test_keep(bits, first_sample):
    """Also where the number of the block needs its upper word."""
    rate, key = Rate.of(0.3, bits), Key(SEED, SITE, STEP, first_sample)
    kept = gpu.keep(torch.empty(41, 37, dtype=torch.bool), words(key), words_of(rate))
    assert torch.equal(kept, keep(41, 37, rate, key))


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("p", [0, 1])
def test_all_and_nothing(bits, p):
    rate, key = Rate.of(p, bits), words(Key(SEED))
    for memory_format in FORMATS:
        x = activation(EVEN, memory_format=memory_format)
        y = gpu.drop(x, torch.empty_like(x), key, words_of(rate))
        assert_same_bits(y, torch.zeros_like(x) if p else x)


@pytest.mark.parametrize(
    ("scaled", "memory_format"), [(True, torch.contiguous_format), (False, torch.channels_last)], ids=str
)
def test_key_and_rate_on_the_device(monkeypatch, scaled, memory_format):
    """What a CUDA graph replays: the same tensors, changed in place, whatever the width of the rate."""
    monkeypatch.setattr(gpu, "_resident", lambda words: words)
    device_key, device_rate = torch.zeros(4, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    x, y = activation(EVEN, memory_format=memory_format), torch.empty(EVEN).contiguous(memory_format=memory_format)
    for step, rate in enumerate([Rate.of(0.3), Rate.of(0.001), Rate.of(1.0)]):
        key = Key(SEED, SITE, step, first_sample=step)
        device_key.copy_(words(key))
        device_rate.copy_(words_of(rate))
        gpu.drop(x, y, device_key, device_rate, scaled)
        assert_same_bits(y, selected(x, kept_of(x, rate, key), (rate.scale or 1.0) if scaled else 1.0))
        dx = gpu.where_positive(x, y, torch.empty_like(y), device_rate, scaled)
        assert_same_bits(dx, selected(x, ~(y <= 0), (rate.scale or 1.0) if scaled else 1.0))


def test_deviation_on_the_device(monkeypatch):
    x, key, table = activation(ODD), words(Key(SEED)), torch.randn(1 << 16, generator=torch.Generator().manual_seed(3))
    deviation = torch.tensor([0.7], dtype=torch.float64)
    on_host = gpu.gaussian(x, torch.empty_like(x), key, deviation, table)
    monkeypatch.setattr(gpu, "_resident", lambda words: words)
    assert_same_bits(gpu.gaussian(x, torch.empty_like(x), key, deviation, table), on_host)


def test_unscaled():
    x, rate, key = activation(ODD), Rate.of(0.3), Key(SEED, SITE, STEP)
    y = gpu.drop(x, torch.empty_like(x), words(key), words_of(rate), scaled=False)
    assert_same_bits(y, selected(x, kept_of(x, rate, key), 1))


@pytest.mark.parametrize("call", [gpu.drop, gpu.relu_drop, gpu.drop_channels])
def test_in_place_and_other_strides(call):
    rate, key = words_of(Rate.of(0.3)), words(Key(SEED, SITE, STEP, 1))
    x = activation(ODD)
    expected = call(x, torch.empty_like(x), key, rate)
    whole = activation(ODD)
    assert call(whole, whole, key, rate) is whole
    assert_same_bits(whole, expected)
    wider = torch.empty(3, 5, 7, 13)[..., :11].copy_(x)
    swapped = x.transpose(2, 3).contiguous().transpose(2, 3)
    last = x.contiguous(memory_format=torch.channels_last)
    for given, out in ((wider, torch.empty(ODD)), (swapped, torch.empty_like(swapped)), (last, torch.empty(ODD))):
        assert_same_bits(call(given, out, key, rate), expected)
    assert_same_bits(call(wider, wider, key, rate), expected)


def test_overlapping_memory():
    rate, key = words_of(Rate.of(0.3)), words(Key(SEED, SITE, STEP))
    line = activation((2, 2053)).view(-1)
    x, out = line[:4001], line[5:4006]
    expected = gpu.drop(x.clone(), torch.empty(4001), key, rate)
    assert_same_bits(gpu.drop(x, out, key, rate), expected)


def test_gradient_of_other_strides():
    rate = Rate.of(0.3)
    y, dy = activation(ODD), activation(ODD, seed=1)
    expected = selected(dy, ~(y <= 0), rate.scale)
    last, wider = y.contiguous(memory_format=torch.channels_last), torch.empty(3, 5, 7, 13)[..., :11].copy_(dy)
    for given in (dy, dy.contiguous(memory_format=torch.channels_last), wider):
        assert_same_bits(gpu.where_positive(given, last, torch.empty_like(last), words_of(rate)), expected)


def test_nothing_at_all():
    rate, key = words_of(Rate.of(0.3)), words(Key(SEED))
    for shape in ((0,), (3, 0), (0, 5, 7, 11), (2, 3, 0, 5)):
        assert gpu.drop(torch.empty(shape), torch.empty(shape), key, rate).shape == shape
    assert gpu.drop_channels(torch.empty(0, 5, 7), torch.empty(0, 5, 7), key, rate).shape == (0, 5, 7)
    one = torch.ones(())
    assert gpu.drop(one, torch.empty(()), key, words_of(Rate.of(0.0))) == 1


@pytest.mark.parametrize("other", [torch.ones(3, 5, dtype=torch.float16), torch.ones(5, 3)])
def test_mixed_tensors_are_refused(other):
    x, key, rate = torch.ones(3, 5), words(Key(SEED)), words_of(Rate.of(0.3))
    for call in (
        lambda: gpu.drop(x.int(), x.int(), key, rate),
        lambda: gpu.drop(x, other, key, rate),
        lambda: gpu.relu_drop(x, x, key, rate, residual=other),
        lambda: gpu.where_positive(other, x, x, rate),
    ):
        with pytest.raises(TypeError, match="one shape and one type"):
            call()
