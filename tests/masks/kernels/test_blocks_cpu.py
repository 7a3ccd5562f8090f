"""DropBlock in C++ equals the reference bit for bit; the reference equals blocks laid one by one."""

from itertools import product

import pytest
import torch

from dropkit.masks import Key, Rate, cpu, keep, reference
from dropkit.masks.block_rate import seed_rate
from dropkit.masks.kernels import library
from dropkit.masks.reference import keep_blocks
from dropkit.masks.words import Draw, rate_words

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
# rows of a part of a word (64 bits), of one and of several; blocks that are even, oversized, wider than a word
CASES = [
    ((3, 5, 13, 11), (3, 4)),
    ((2, 37, 17, 19), (7, 7)),
    ((2, 3, 3, 5), (7, 7)),
    ((2, 16, 8, 8), (1, 1)),
    ((2, 3, 5, 64), (5, 64)),
    ((1, 3, 5, 130), (2, 67)),
    ((2, 1, 67, 263), (5, 128)),
    ((2, 3, 211), (5,)),
    ((1, 1, 17011), (31,)),
    ((3, 17, 5, 7, 9), (2, 3, 4)),
]


@pytest.fixture(params=["avx512", "avx2", "portable"])
def isa(request):
    """Run the test with the kernels of one instruction set."""
    before = library.instruction_set()
    if not library.use(request.param):
        pytest.skip(f"this machine has no {request.param}, or no kernels were built")
    yield request.param
    library.use(before)


def draw_of(p, shape, block, first_sample=3, seed=0xDEADBEEF12345678):
    rate = seed_rate(Rate.of(p, 32), tuple(shape[2:]), block)
    return Draw(seed, 17, 9, first_sample, rate.threshold, rate.bits)


def activation(shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def kernel(x, draw, block, shared=False, out=None):
    out = torch.empty_like(x) if out is None else out
    return cpu.drop_blocks(x, out, draw, rate_words(draw.rate), block, shared)


def definition(x, draw, block, shared=False):
    return reference.drop_blocks(x, torch.empty_like(x), draw, block, shared)


@pytest.mark.parametrize(("shape", "block"), CASES)
@pytest.mark.parametrize("shared", [False, True])
def test_the_definition_is_blocks_laid_one_by_one(shape, block, shared):
    sizes, maps = shape[2:], 1 if shared else shape[1]
    draw = draw_of(0.3, shape, block)
    widths = [min(a, b) for a, b in zip(sizes, block, strict=True)]
    begins = [a - b + 1 for a, b in zip(sizes, widths, strict=True)]
    seeds = ~keep(shape[0], maps * int(torch.tensor(begins).prod()), draw.rate, draw.key)
    kept = torch.ones(shape[0], maps, *sizes, dtype=torch.bool)
    for sample, channel, *at in seeds.view(shape[0], maps, *begins).nonzero().tolist():
        kept[(sample, channel, *(slice(a, a + width) for a, width in zip(at, widths, strict=True)))] = False
    assert torch.equal(keep_blocks(shape[0], maps, sizes, block, draw.rate, draw.key), kept)
    x, y = activation(shape, torch.float64), torch.zeros(shape, dtype=torch.float64)
    for sample in range(shape[0]):
        if count := int(kept[sample].sum()):
            y[sample] = torch.where(kept[sample], x[sample] * (kept[sample].numel() / count), 0)
    assert torch.equal(definition(x, draw, block, shared), y)


@pytest.mark.parametrize(("shape", "block"), CASES)
def test_every_layout_has_the_bits_of_the_reference(isa, shape, block):
    for dtype, shared, p in product(DTYPES, [False, True], [0.01, 0.4]):
        x, draw = activation(shape, dtype), draw_of(p, shape, block)
        expected = definition(x, draw, block, shared)
        for laid_out in (
            x,
            x.movedim(1, -1).clone(memory_format=torch.contiguous_format).movedim(-1, 1),  # channels-last
            torch.cat([x, x], -1)[..., : x.shape[-1]],
            torch.cat([x.flatten()[:1], x.flatten()])[1:].view(shape),
        ):
            y = kernel(laid_out, draw, block, shared)
            assert torch.equal(y, expected), (dtype, shared, p, laid_out.stride())
            assert y.stride() == torch.empty_like(laid_out).stride()
            same = laid_out.clone()
            assert torch.equal(kernel(same, draw, block, shared, out=same), expected)


def test_the_reference_at_other_dtypes_and_ranks():
    x, draw = activation((2, 3, 5, 7), torch.complex64), draw_of(0.3, (2, 3, 5, 7), (2, 2))
    y = kernel(x, draw, (2, 2))
    assert torch.equal(y.real, definition(x.real, draw, (2, 2)))
    x = activation((2, 3, 2, 3, 2, 5))
    draw = draw_of(0.3, x.shape, (1, 2, 1, 2))
    assert 0 < int((kernel(x, draw, (1, 2, 1, 2)) == 0).sum()) < x.numel()


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_threads_change_nothing(isa, threads):
    shape, block = (2, 5, 89, 97), (7, 7)
    x, draw = activation(shape), draw_of(0.1, shape, block)
    expected = definition(x, draw, block)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for laid_out in (x, x.to(memory_format=torch.channels_last)):
            assert torch.equal(kernel(laid_out, draw, block), expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_outputs_go_past_the_caches_and_are_the_same(isa, dtype):
    """Beyond LARGE in kernels.cpp, with maps that begin where whole vectors may; half of it does not."""
    shape = (2, 5 * 4 // dtype.itemsize, 1024, 896)
    x, draw = activation((1, 1, 64, 64)).to(dtype).repeat(*shape[:2], 16, 14), draw_of(0.3, shape, (31, 31))
    y = kernel(x, draw, (31, 31))
    first = kernel(x[:1], draw, (31, 31))
    assert torch.equal(y[:1], first)
    assert torch.equal(kernel(x, draw, (31, 31), out=x), y)
    assert 0.2 < (y == 0).float().mean() < 0.4


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_numbers_stay_where_kept_and_leave_no_trace_where_dropped(isa, dtype):
    special = torch.tensor([float("inf"), float("-inf"), float("nan"), 0.0, -0.0, 6e-8, 65504.0, 3e38, 1e-40])
    shape = (2, 7, 9, 13)
    x = special.repeat(182).view(shape).to(dtype)
    for seed in range(5):
        draw = draw_of(0.5, shape, (3, 3), seed=seed)
        expected = definition(x, draw, (3, 3))
        kept = keep_blocks(2, 7, shape[2:], (3, 3), draw.rate, draw.key)
        assert expected[~kept].eq(0).all()
        for laid_out in (x, x.to(memory_format=torch.channels_last)):
            y = kernel(laid_out, draw, (3, 3))
            assert torch.equal(y.isnan(), expected.isnan())
            assert torch.equal(y.nan_to_num(7.0, 8.0, 9.0), expected.nan_to_num(7.0, 8.0, 9.0))


def test_a_sample_of_which_nothing_is_kept_is_zero(isa):
    shape = (41, 2, 3, 5)
    draw = draw_of(0.7, shape, (3, 5))  # whole maps
    x = torch.full(shape, float("inf"))
    y = kernel(x, draw, (3, 5))
    gone = ~keep_blocks(41, 2, (3, 5), (3, 5), draw.rate, draw.key).flatten(1).any(1)
    assert 0 < int(gone.sum()) < 41
    assert torch.equal(y.eq(0).flatten(1).all(1), gone)
    assert not y.isnan().any()
    assert torch.equal(definition(x, draw, (3, 5)), y)


@pytest.mark.parametrize("rate", [Rate(32, 0), Rate(32, 1 << 32)])
def test_the_ends_of_the_rate(isa, rate):
    x = torch.full((2, 3, 5, 7), 3.0)
    draw = Draw(1, 2, 3, 0, rate.threshold, rate.bits)
    expected = torch.full_like(x, 3.0 if rate.drops_none else 0.0)
    assert torch.equal(kernel(x, draw, (2, 2)), expected)
    assert torch.equal(definition(x, draw, (2, 2)), expected)


def test_a_wrong_rank_is_refused():
    draw = Draw(1, 2, 3, 0, 1 << 20, 32)
    for block in ((3,), (3, 3, 3)):
        with pytest.raises(ValueError, match="zip"):
            kernel(torch.ones(2, 3, 5, 7), draw, block)


def test_the_first_sample_shifts_the_masks(isa):
    shape, block = (5, 3, 11, 13), (3, 3)
    x = activation(shape)
    whole = kernel(x, draw_of(0.2, shape, block, first_sample=0), block)
    for start in (1, 2, 4):
        assert torch.equal(kernel(x[start:], draw_of(0.2, shape, block, first_sample=start), block), whole[start:])
    assert draw_of(0.2, shape, block).key == Key(0xDEADBEEF12345678, 17, 9, 3)
