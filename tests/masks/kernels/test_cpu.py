"""The C++ kernels equal the reference bit for bit, on every instruction set of this machine and every memory layout."""

import itertools
import shutil
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch

from dropkit.masks import Rate, cpu, keep, reference
from dropkit.masks.kernels import library
from dropkit.masks.words import Draw, key_words, rate_words

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
RATES = [Rate.of(0.1), Rate.of(0.5), Rate.of(0.001), Rate.of(0.999)]


@pytest.fixture(params=["avx512", "avx2", "portable"])
def isa(request):
    """Run the test with the kernels of one instruction set."""
    before = library.instruction_set()
    if not library.use(request.param):
        pytest.skip(f"this machine has no {request.param}, or no kernels were built")
    yield request.param
    library.use(before)


def draw_of(rate, first_sample=0, seed=0xDEADBEEF12345678):
    return Draw(seed, 17, 9, first_sample, rate.threshold, rate.bits)


def activation(dtype, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


LAYOUTS = {
    "contiguous": lambda x: x,
    "channels-last": lambda x: x.to(memory_format=torch.channels_last),
    "permuted": lambda x: x.permute(2, 0, 3, 1).contiguous().permute(1, 3, 0, 2),
    "sliced": lambda x: torch.cat([x, x], 3)[..., : x.shape[3]],
    "expanded": lambda x: x[:, :1].expand(x.shape),
    "offset": lambda x: torch.cat([x.flatten()[:1], x.flatten()])[1:].view(x.shape),
}
# pixels a channel: less than a tile, more than one, divisible by 8 and not; channels: less than a vector, more, odd,
# more than a row
SHAPES = [(3, 5, 7, 11), (2, 37, 17, 19), (2, 16, 8, 8), (5, 67, 3, 1), (1, 3, 1, 1), (2, 1043, 2, 1)]


def masked_by(name):
    """A kernel as a function of input, output and draw."""
    function = getattr(cpu, name)
    return lambda x, out, draw, *rest: function(x, out, *words(draw), *rest)


def noisy(x, out, draw, deviation, table):
    return cpu.gaussian(x, out, words(draw)[0], torch.tensor([deviation], dtype=torch.float64), table)


def words(draw):
    return key_words(*draw[:4]), rate_words(draw.rate)


TABLE = reference.quantiles(torch.device("cpu"))
KINDS = {
    "drop": (masked_by("drop"), reference.drop, ()),
    "drop, not scaled": (masked_by("drop"), reference.drop, (False,)),
    "drop_channels": (masked_by("drop_channels"), reference.drop_channels, ()),
    "relu_drop": (masked_by("relu_drop"), reference.relu_drop, ()),
    "gaussian": (noisy, reference.gaussian, (0.7, TABLE)),
}
drop = masked_by("drop")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_the_bits_of_the_reference(isa, kind, layout):
    kernel, definition, rest = KINDS[kind]
    for n, (shape, dtype) in enumerate(itertools.product(SHAPES, DTYPES)):
        rate, first = RATES[n % 3], (0, 3)[n % 2]
        x = LAYOUTS[layout](activation(dtype, *shape))
        draw = draw_of(rate, first)
        y = kernel(x, torch.empty_like(x), draw, *rest)
        expected = definition(x.contiguous(), torch.empty(shape, dtype=dtype), draw, *rest)
        assert torch.equal(y, expected), (shape, dtype, rate)
        assert y.stride() == torch.empty_like(x).stride()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", RATES, ids=str)
def test_every_length_and_offset_has_the_bits_of_the_reference(isa, dtype, rate):
    for n in (1, 7, 63, 1009, 40_009):
        x = activation(dtype, n, 1)
        for first in (0, 1, 5, 123_457, 2**31 - 3, 2**34 + 3, 2**35 - 11):
            draw = draw_of(rate, first)
            expected = torch.where(keep(n, 1, rate, draw.key), x * rate.scale, 0)
            assert torch.equal(drop(x, torch.empty_like(x), draw), expected), (n, first)


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("ahead", [1, 40, 130, 1000, 5000])
def test_the_block_number_carries_into_its_upper_word(isa, bits, ahead):
    """The words of a block that depend on the number's upper half change in mid-mask."""
    rate = Rate.of(0.5, bits)
    first = (1 << 32) * (128 // bits) - ahead
    x, draw = torch.ones(7001, 1), draw_of(rate, first)
    expected = torch.where(keep(7001, 1, rate, draw.key), 2.0, 0.0)
    assert torch.equal(drop(x, torch.empty_like(x), draw), expected)


@pytest.mark.parametrize("rate", [Rate.of(0.5), Rate.of(0.5, 32)], ids=str)
@pytest.mark.parametrize(("first", "units"), [(2**62, 10), (2**63 - 5, 3), (2**60 + 7, 8)])
def test_far_samples(isa, kept_oracle, rate, first, units):
    """The first unit's index is taken modulo 2**64."""
    draw = draw_of(rate, first)
    index = first * units % 2**64
    expected = [
        [
            kept_oracle(index + s * units + u, rate.bits, rate.threshold, draw.seed, draw.site, draw.step)
            for u in range(units)
        ]
        for s in range(2)
    ]
    x = torch.ones(2, units)
    assert ((drop(x, torch.empty_like(x), draw) > 0) == torch.tensor(expected)).all()
    assert torch.equal(keep(2, units, rate, draw.key), torch.tensor(expected))


@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
@pytest.mark.parametrize("shape", [(1, 3, 37, 41), (1, 1043, 5, 3), (2, 64, 9, 9), (1, 1, 1, 70001)])
def test_few_samples_and_channels_are_shared_among_threads(isa, layout, shape):
    x, draw = activation(torch.float32, *shape), draw_of(Rate.of(0.4, 32))
    expected = reference.drop_channels(x, torch.empty_like(x), draw)
    laid_out = LAYOUTS[layout](x)
    assert torch.equal(masked_by("drop_channels")(laid_out, torch.empty_like(laid_out), draw), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("offset", [0, 1])
def test_large_outputs_go_past_the_caches_and_are_the_same(isa, dtype, offset):
    """Small parts do not: each is written for itself, and in place."""
    units = (32 << 20) // dtype.itemsize + 1003  # beyond LARGE in kernels.cpp
    x = torch.empty(units + offset, dtype=dtype)[offset:].uniform_(-1, 1, generator=torch.Generator().manual_seed(5))
    rate = rate_words(RATES[0])
    for kernel in (cpu.drop, cpu.relu_drop):
        y = kernel(x[None], torch.empty(units + offset, dtype=dtype)[offset:][None], draw_of(RATES[0]), rate)[0]
        whole = x.clone()[None]
        assert torch.equal(kernel(whole, whole, draw_of(RATES[0]), rate)[0], y)
    parts = [
        cpu.where_positive(a, b, torch.empty_like(b), rate)
        for a, b in zip(x.split(1 << 20), y.split(1 << 20), strict=True)
    ]
    assert torch.equal(cpu.where_positive(x, y, torch.empty_like(x), rate), torch.cat(parts))


def test_large_outputs_ask_for_huge_pages(monkeypatch):
    loaded = library.library()
    if loaded is None:
        pytest.skip("no kernels were built")
    asked = []
    monkeypatch.setattr(
        library, "library", lambda: SimpleNamespace(dropkit_huge_pages=lambda *given: asked.append(given))
    )
    large, small = torch.empty(library.LARGE // 4), torch.empty(library.LARGE // 4 - 1)
    out = library.empty_like(large)
    assert asked == [(out.data_ptr(), library.LARGE)]
    library.empty_like(small)
    library.empty_like(large.to("meta"))
    assert len(asked) == 1
    # The real call takes any address and size, and changes no value.
    out = torch.ones(library.LARGE // 4)
    for start, count in ((0, out.nbytes), (3, 5000), (1, 10), (4096, 4096)):
        loaded.dropkit_huge_pages(out.data_ptr() + start, count)
    assert bool((out == 1).all())


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(isa, threads):
    x, draw = activation(torch.float32, 3, 5, 89, 97), draw_of(RATES[0])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for laid_out in (x, x.to(memory_format=torch.channels_last)):
            for kernel, definition, rest in KINDS.values():
                expected = definition(x, torch.empty_like(x), draw, *rest)
                assert torch.equal(kernel(laid_out, torch.empty_like(laid_out), draw, *rest), expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dims", [(), (7,), (7, 5), (3, 5, 7), (2, 3, 5, 2, 7), (2, 3, 1, 2, 1, 5)])
def test_every_rank(isa, dims):
    x, draw = activation(torch.float32, *dims), draw_of(Rate.of(0.3), 11)
    layouts = [x]
    if len(dims) == 3:
        layouts.append(x.transpose(1, 2).contiguous().transpose(1, 2))
    if len(dims) == 5:
        layouts.append(x.to(memory_format=torch.channels_last_3d))
    for laid_out in layouts:
        for kernel, definition, rest in KINDS.values():
            if definition is reference.drop_channels and len(dims) < 2:
                continue
            expected = definition(x, torch.empty_like(x), draw, *rest)
            assert torch.equal(kernel(laid_out, torch.empty_like(laid_out), draw, *rest), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_special_numbers(isa, dtype, layout):
    """Nothing leaks from dropped places; what is kept is not hidden; halves are rounded once, to even."""
    special = torch.tensor([float("inf"), float("-inf"), float("nan"), 0.0, -0.0, 6e-8, -6e-8, 65504.0, 3e38, 1e-40])
    x = LAYOUTS[layout](torch.cat([special, torch.randn(7 * 11 * 13)])[: 7 * 11 * 13].view(1, 7, 11, 13).to(dtype))
    for kernel, definition, rest in KINDS.values():
        for seed in range(5):
            draw = draw_of(RATES[1], seed=seed)
            y = kernel(x, torch.empty_like(x), draw, *rest)
            expected = definition(x, torch.empty_like(x), draw, *rest)
            assert torch.equal(y.isnan(), expected.isnan())
            assert torch.equal(
                y.nan_to_num(nan=7.0, posinf=8.0, neginf=9.0), expected.nan_to_num(nan=7.0, posinf=8.0, neginf=9.0)
            )


def test_all_half_numbers(isa):
    """Every bfloat16 and every float16 times a scale: widened, multiplied and rounded as torch does."""
    for dtype in (torch.bfloat16, torch.float16):
        x = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
        draw = draw_of(Rate.of(0.1))
        kernel, definition = (f(x, torch.empty_like(x), draw) for f in (drop, reference.drop))
        assert torch.equal(kernel.isnan(), definition.isnan())
        assert torch.equal(kernel[~kernel.isnan()], definition[~kernel.isnan()])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_gradient_from_the_output(isa, dtype, layout):
    y, dy = activation(dtype, 3, 5, 7, 11), activation(dtype, 3, 7, 5, 11).transpose(1, 2)
    y = LAYOUTS[layout](torch.where(y > 0, y, 0).index_fill_(3, torch.tensor([2]), float("nan")))
    dx = cpu.where_positive(dy, y, torch.empty_like(y), rate_words(Rate(16, 1 << 15)))
    assert torch.equal(dx, torch.where(y <= 0, 0, dy * 2))
    assert dx.stride() == torch.empty_like(y).stride()


def test_a_gradient_that_lies_in_memory_otherwise(isa):
    y = activation(torch.float32, 3, 5, 7, 11).relu()
    for dy in (torch.ones(()).expand(y.shape), activation(torch.float32, 3, 7, 11, 5).permute(0, 3, 1, 2)):
        dx = cpu.where_positive(dy, y, torch.empty_like(y), rate_words(Rate(16, 1 << 15)))
        assert torch.equal(dx, torch.where(y <= 0, 0, dy * 2))
        assert dx.is_contiguous()


def test_masks_as_bytes(isa):
    for rate in RATES:
        out = torch.empty(1009, dtype=torch.bool)
        library.keep(out, library.Mask.of(draw_of(rate, 5), 1))
        assert torch.equal(out.view(-1, 1), keep(1009, 1, rate, draw_of(rate, 5).key))


def test_input_and_output_may_be_one_or_overlap(isa):
    x, draw = activation(torch.float32, 1013), draw_of(RATES[0])
    expected = drop(x, torch.empty_like(x), draw)
    whole = torch.cat([x, x[:7]])
    assert torch.equal(drop(whole[:1013], whole[7:], draw), expected)
    assert torch.equal(drop(x, x, draw), expected)


def test_kernels_were_built_wherever_there_is_a_compiler():
    if shutil.which("c++") is None:
        pytest.skip("there is no C++ compiler")
    assert library.instruction_set() in ("avx512", "avx2", "portable")


@pytest.mark.parametrize("wrong", ["missing", "broken", "of another version"])
def test_without_the_library_the_reference_serves_with_one_warning(monkeypatch, tmp_path, wrong):
    x, draw = activation(torch.float32, 7, 11), draw_of(RATES[1])
    expected = drop(x, torch.empty_like(x), draw)
    if wrong == "missing":
        monkeypatch.setattr(library, "NAMES", ("none.so",))
    elif wrong == "broken":
        (tmp_path / library.NAMES[0]).write_text("no library")
        monkeypatch.setattr(library.kernels, "__path__", [str(tmp_path)])
    else:
        monkeypatch.setattr(library, "ABI", -1)
    library.library.cache_clear()
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            for _ in range(3):
                assert torch.equal(drop(x, torch.empty_like(x), draw), expected)
            assert library.instruction_set() == "reference"
            assert not library.use("portable")
        assert len(found) == 1
        assert "slower reference, with the same results. Install a C++ compiler" in str(found[0].message)
    finally:
        library.library.cache_clear()


def test_the_reference_alone_by_choice():
    code = "from dropkit.masks.kernels.library import instruction_set; print(instruction_set())"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={"PATH": "", "DROPKIT_REFERENCE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "reference"
