"""The GPU kernels on a real GPU: equal bits first, then times beside a copy and beside torch's dropout, in one run.

    python benchmarks/gpu.py                # needs a CUDA GPU, torch and triton; dropkit need not be installed
    python benchmarks/gpu.py --sweep        # also other tile sizes for the plain kernel
    python benchmarks/gpu.py --interpret    # no GPU: tiny sizes in Triton's interpreter, to test this script itself

Times are medians over --repeats calls between CUDA events. Activations are larger than the L2 cache, or else it is
flushed before each call. GB/s are what the task needs at least (read the input once, write the output once, and so on)
divided by the time, so rows of one task can be compared; the share is of what torch's copy reaches in the same run and
type. Exits with 1 where a bit differs.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import quantiles
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
INTERPRET = "--interpret" in sys.argv
if INTERPRET:
    os.environ["TRITON_INTERPRET"] = "1"  # Triton looks when it is imported

import torch  # noqa: E402
import triton  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from dropkit.masks import Key, Rate, keep  # noqa: E402
from dropkit.masks.kernels import gpu  # noqa: E402
from dropkit.masks.reference import random16  # noqa: E402

DEVICE = torch.device("cpu" if INTERPRET else "cuda")
TYPES = (torch.bfloat16,) if INTERPRET else (torch.bfloat16, torch.float32)
P = 0.1
KEY = Key(0x0123456789ABCDEF, 0x9E3779B9, 41, 0)


def key_of(key: Key) -> Tensor:
    """Return a key as the kernels take it."""
    seed = int(key.seed)
    return torch.tensor([seed - (1 << 64) if seed >> 63 else seed, key.site, int(key.step), key.first_sample])


def rate_of(rate: Rate) -> Tensor:
    """Return a rate as the kernels take it."""
    return torch.tensor([rate.threshold, rate.bits])


def normal_quantiles() -> Tensor:
    """Return a table for the Gaussian kernel."""
    middles = (torch.arange(1 << 16, dtype=torch.float64) + 0.5) / (1 << 16)
    return torch.special.ndtri(middles).float()


# ---------------------------------------------------------------- bits


def same_bits(got: Tensor, expected: Tensor) -> bool:
    """Whether two tensors hold the same bits; one NaN is as good as another."""
    if not torch.equal(got.isnan(), expected.isnan()):
        return False
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[got.element_size()]
    a, b = (t.masked_fill(t.isnan(), 1).contiguous().view(integer) for t in (got, expected))
    return torch.equal(a, b)


def checks() -> Iterator[tuple[str, bool]]:
    """Yield what was compared with the reference on the CPU, and whether it was equal."""
    small = (3, 5, 7, 11) if INTERPRET else (37, 67, 41, 43)  # every sample begins inside a block
    shapes = [small] if INTERPRET else [small, (32, 128, 64, 64)]
    for dtype in TYPES if INTERPRET else gpu.DTYPES:
        for shape in shapes:
            for layout in (torch.contiguous_format, torch.channels_last):
                name = f"{name_of(dtype)} {list(shape)} {layout}"
                yield from checks_of(name, special(shape).to(dtype).contiguous(memory_format=layout))


def special(shape: tuple[int, ...]) -> Tensor:
    """Return random numbers with infinities, NaN, zeros of both signs and ties of rounding among them."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x.view(-1)[::89] = torch.arange(len(x.view(-1)[::89]), dtype=torch.float64) / 256 + 1
    for start, value in enumerate((float("inf"), -float("inf"), float("nan"), -0.0, 0.0, 3e38)):
        x.view(-1)[start::97] = value
    return x


def checks_of(name: str, x: Tensor) -> Iterator[tuple[str, bool]]:
    """Compare every kernel for one activation, which lies in CPU memory."""
    device_x, wide = x.to(DEVICE), x if x.dtype == torch.float64 else x.float()
    for bits in (16, 32):
        key, rate = Key(KEY.seed, KEY.site, KEY.step, 3), Rate.of(P, bits)
        words = key_of(key), rate_of(rate)
        kept = keep(x.shape[0], x[0].numel(), rate, key).view(x.shape)
        dropped = torch.where(kept, wide * rate.scale, 0).to(x.dtype)
        y = gpu.drop(device_x, torch.empty_like(device_x), *words)
        yield f"drop, {bits} bits, {name}", same_bits(y.cpu(), dropped)
        y = gpu.drop(device_x, torch.empty_like(device_x), *(word.to(DEVICE) for word in words))
        yield f"drop, {bits} bits, key and rate on the device, {name}", same_bits(y.cpu(), dropped)
        channels = keep(*x.shape[:2], rate, key)[:, :, None, None]
        y = gpu.drop_channels(device_x, torch.empty_like(device_x), *words)
        yield (
            f"channels, {bits} bits, {name}",
            same_bits(y.cpu(), torch.where(channels, wide * rate.scale, 0).to(x.dtype)),
        )
    y = gpu.relu_drop(device_x, torch.empty_like(device_x), *words)
    thinned = torch.where(kept, wide.relu() * rate.scale, 0).to(x.dtype)
    yield f"ReLU, {name}", same_bits(y.cpu(), thinned)
    dx = gpu.where_positive(device_x, y, torch.empty_like(y), words[1])
    yield f"gradient, {name}", same_bits(dx.cpu(), torch.where(thinned <= 0, 0, wide * rate.scale).to(x.dtype))
    shift = x.flip(0)
    y = gpu.relu_drop(device_x, torch.empty_like(device_x), *words, residual=shift.to(DEVICE))
    total = (x + shift).relu()
    total = total if x.dtype == torch.float64 else total.float()
    yield f"residual, {name}", same_bits(y.cpu(), torch.where(kept, total * rate.scale, 0).to(x.dtype))
    table = normal_quantiles()
    noise = table[random16(x.shape[0], x[0].numel(), key).view(x.shape)] * 0.5 + 1
    deviation = torch.tensor([0.5], dtype=torch.float64)
    y = gpu.gaussian(device_x, torch.empty_like(device_x), words[0], deviation, table.to(DEVICE))
    yield f"Gaussian, {name}", same_bits(y.cpu(), (wide * noise).to(x.dtype))


def check_far_units() -> tuple[str, bool]:
    """Compare the last units of more than 2**32: none of the kernels' offsets may wrap."""
    n, rate, last = (1 << 32) + 4099, Rate.of(P), 9001
    x = torch.ones(n, dtype=torch.bfloat16, device=DEVICE)
    gpu.drop(x, x, key_of(KEY), rate_of(rate))
    kept = keep(last, 1, rate, Key(KEY.seed, KEY.site, KEY.step, n - last)).view(-1)
    return "the last of 2**32 + 4,099 units", torch.equal(x[n - last :].cpu() != 0, kept)


def check_graph() -> Iterator[tuple[str, bool]]:
    """Replay one CUDA graph with keys and rates changed in place, forward and backward."""
    x = torch.randn(1 << 20, device=DEVICE)
    y, dx = torch.empty_like(x), torch.empty_like(x)
    key, rate = key_of(KEY).to(DEVICE), rate_of(Rate.of(P)).to(DEVICE)

    def step() -> None:
        gpu.relu_drop(x, y, key, rate)
        gpu.where_positive(x, y, dx, rate)

    step()  # compiles
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for number, p in enumerate((0.1, 0.5, 0.001, 1.0, 0.0)):
        new, new_rate = Key(KEY.seed, KEY.site, number, number), Rate.of(p)
        key.copy_(key_of(new))
        rate.copy_(rate_of(new_rate))
        graph.replay()
        kept = keep(len(x), 1, new_rate, new).view(-1)
        expected = torch.where(kept, x.cpu().relu() * new_rate.scale, 0)
        yield f"CUDA graph, step {number}, p {p}", same_bits(y.cpu(), expected)
        gradient = torch.where(expected > 0, x.cpu() * new_rate.scale, 0)
        yield f"CUDA graph's gradient, step {number}, p {p}", same_bits(dx.cpu(), gradient)


# ---------------------------------------------------------------- times


class Row(NamedTuple):
    """One line of the table."""

    dtype: torch.dtype
    name: str
    passes: int  # how many times the activation's size is read or written at least
    call: Callable[[], Any]


class Drop(torch.autograd.Function):
    """Dropout that saves its key alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, key: Tensor, rate: Tensor) -> Tensor:
        """Thin x."""
        ctx.words = key, rate
        return gpu.drop(x, torch.empty_like(x), key, rate)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        """Thin dy."""
        return gpu.drop(dy, torch.empty_like(dy), *ctx.words), None, None


class ReLUDrop(torch.autograd.Function):
    """ReLU and dropout that save their output alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, key: Tensor, rate: Tensor) -> Tensor:
        """Thin max(x, 0)."""
        y = gpu.relu_drop(x, torch.empty_like(x), key, rate)
        ctx.save_for_backward(y)
        ctx.rate = rate
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        """Let dy through where the output is positive."""
        (y,) = ctx.saved_tensors
        return gpu.where_positive(dy, y, torch.empty_like(dy), ctx.rate), None, None


def rows(dtype: torch.dtype, units: int) -> Iterator[Row]:
    """Yield what is timed for one type: first the copy, then task by task."""
    x = torch.randn(units, dtype=torch.float32, device=DEVICE).to(dtype)
    y, dy, key, rate = torch.empty_like(x), torch.ones_like(x), key_of(KEY), rate_of(Rate.of(P))
    leaf = x.detach().requires_grad_()

    def both(function: Callable[[Tensor], Tensor]) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(function(leaf), leaf, dy)

    def pair(x: Tensor) -> Tensor:
        return F.dropout(F.relu(x), P)

    compiled = torch.compile(lambda x: F.dropout(x, P))
    fine = rate_of(Rate.of(P, bits=32))
    yield Row(dtype, "copy", 2, lambda: y.copy_(x))
    yield Row(dtype, "dropout: dropkit, into given memory", 2, lambda: gpu.drop(x, y, key, rate))
    yield Row(dtype, "dropout: dropkit", 2, lambda: gpu.drop(x, torch.empty_like(x), key, rate))
    yield Row(dtype, "dropout: torch eager", 2, lambda: F.dropout(x, P))
    if not INTERPRET:
        yield Row(dtype, "dropout: torch compiled", 2, lambda: compiled(x))
    yield Row(dtype, "dropout, 32 bits a unit: dropkit", 2, lambda: gpu.drop(x, y, key, fine))
    yield Row(dtype, "dropout forward + backward: dropkit", 4, both(lambda x: Drop.apply(x, key, rate)))
    yield Row(dtype, "dropout forward + backward: torch eager", 4, both(lambda x: F.dropout(x, P)))
    if not INTERPRET:
        yield Row(dtype, "dropout forward + backward: torch compiled", 4, both(compiled))
    yield Row(dtype, "ReLU + dropout: dropkit, fused", 2, lambda: gpu.relu_drop(x, torch.empty_like(x), key, rate))
    yield Row(dtype, "ReLU + dropout: torch eager pair", 2, lambda: pair(x))
    yield Row(
        dtype, "ReLU + dropout forward + backward: dropkit, fused", 5, both(lambda x: ReLUDrop.apply(x, key, rate))
    )
    yield Row(dtype, "ReLU + dropout forward + backward: torch eager pair", 5, both(pair))
    yield Row(
        dtype,
        "add + ReLU + dropout: dropkit, fused",
        3,
        lambda: gpu.relu_drop(x, torch.empty_like(x), key, rate, residual=dy),
    )
    yield Row(dtype, "add + ReLU + dropout: torch eager", 3, lambda: pair(x + dy))
    # Two other kernels: images in channels-last memory, by unit and by channel.
    image = x.view(-1, 8, 8, 32).movedim(3, 1) if INTERPRET else x.view(-1, 56, 56, 64).movedim(3, 1)
    yield Row(dtype, "dropout, channels-last: dropkit", 2, lambda: gpu.drop(image, torch.empty_like(image), key, rate))
    yield Row(
        dtype,
        "dropout2d, channels-last: dropkit",
        2,
        lambda: gpu.drop_channels(image, torch.empty_like(image), key, rate),
    )
    yield Row(dtype, "dropout2d, channels-last: torch eager", 2, lambda: F.dropout2d(image, P))
    plain = x.view(image.shape)
    yield Row(dtype, "dropout2d: dropkit", 2, lambda: gpu.drop_channels(plain, torch.empty_like(plain), key, rate))
    yield Row(dtype, "dropout2d: torch eager", 2, lambda: F.dropout2d(plain, P))
    table, deviation = normal_quantiles().to(DEVICE), torch.tensor([0.5], dtype=torch.float64)
    yield Row(dtype, "Gaussian: dropkit", 2, lambda: gpu.gaussian(x, torch.empty_like(x), key, deviation, table))


def sweep(dtype: torch.dtype, units: int) -> Iterator[Row]:
    """Yield the plain kernel with other tiles than its own."""
    x = torch.randn(units, dtype=torch.float32, device=DEVICE).to(dtype)
    y, key, rate = torch.empty_like(x), key_of(KEY), rate_of(Rate.of(P))

    def call(groups: int, warps: int) -> None:
        former = gpu.GROUPS, gpu._OPTIONS["num_warps"]
        gpu.GROUPS, gpu._OPTIONS["num_warps"] = groups, warps
        gpu.drop(x, y, key, rate)
        gpu.GROUPS, gpu._OPTIONS["num_warps"] = former

    yield Row(dtype, "copy", 2, lambda: y.copy_(x))
    for warps in (2, 4, 8):
        for per_thread in (1, 2, 4):
            groups = 32 * warps * per_thread
            name = f"dropout: dropkit, tiles of {groups} groups, {warps} warps"
            yield Row(dtype, name, 2, lambda groups=groups, warps=warps: call(groups, warps))


def milliseconds(call: Callable[[], Any], repeats: int, flush: Tensor | None) -> tuple[float, float, float]:
    """Return the median and the quartiles of single calls."""
    for _ in range(0 if INTERPRET else 5):
        call()
    taken = [timed(call, flush) for _ in range(repeats)]
    if not INTERPRET:
        torch.cuda.synchronize()
    low, middle, high = quantiles([finish() for finish in taken], n=4, method="inclusive")
    return middle, low, high


def timed(call: Callable[[], Any], flush: Tensor | None) -> Callable[[], float]:
    """Call once, and return what tells the milliseconds once the device is through."""
    if INTERPRET:
        started = time.perf_counter()
        call()
        took = 1000 * (time.perf_counter() - started)
        return lambda: took
    if flush is not None:
        flush.zero_()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    call()
    end.record()
    return lambda: float(start.elapsed_time(end))


def table(lines: Iterator[Row], units: int, repeats: int) -> dict[str, tuple[float, float]]:
    """Time the rows and print them, the copy first; return each one's milliseconds and share of the copy's speed."""
    taken: dict[str, tuple[float, float]] = {}
    copy = 0.0
    for row in lines:
        size = units * torch.empty(0, dtype=row.dtype).element_size()
        flush = None
        if not INTERPRET and size < 4 * torch.cuda.get_device_properties(DEVICE).L2_cache_size:
            flush = torch.empty(256 << 20, dtype=torch.uint8, device=DEVICE)
        middle, low, high = milliseconds(row.call, repeats, flush)
        speed = row.passes * size / middle / 1e6
        copy = copy or speed
        taken[row.name] = middle, speed / copy
        times = f"{middle:.3f} ({low:.3f}-{high:.3f})"
        print(f"| {row.name} | {name_of(row.dtype)} | {times} | {speed:.0f} | {speed / copy:.0%} |", flush=True)
    return taken


def asked(dtype: torch.dtype, taken: dict[str, tuple[float, float]]) -> str:
    """Say how the figures compare with what was asked for."""
    forward, both = taken["dropout: dropkit"][1], taken["dropout forward + backward: dropkit"][1]
    fused, pair = taken["ReLU + dropout: dropkit, fused"][0], taken["ReLU + dropout: torch eager pair"][0]
    return (
        f"{name_of(dtype)}: forward {forward:.0%}, forward + backward {both:.0%} of the copy's bandwidth (asked: 85%); "
        f"fused ReLU + dropout {pair / fused:.2f} times as fast as eager's pair (asked: 1.8)"
    )


def name_of(dtype: torch.dtype) -> str:
    """Return a type's name without the package's."""
    return str(dtype).removeprefix("torch.")


def main() -> int:
    """Check, time, print; returns 1 where a bit differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--units", type=int, help="units of an activation, a multiple of 200,704 [2**28, rounded to it]"
    )
    parser.add_argument("--repeats", type=int, help="timed calls [100]")
    parser.add_argument("--sweep", action="store_true", help="time the plain kernel with other tile sizes too")
    parser.add_argument("--interpret", action="store_true", help="tiny sizes in Triton's interpreter, on the CPU")
    options = parser.parse_args()
    if not INTERPRET and not torch.cuda.is_available():
        parser.error("there is no CUDA GPU here; --interpret tests this script without one")
    units = options.units or (2048 if INTERPRET else 200_704 * 1337)  # 2**28 less .03 %: whole images of 64 x 56 x 56
    repeats = options.repeats or (2 if INTERPRET else 100)
    name = "Triton's interpreter (the times mean nothing)" if INTERPRET else torch.cuda.get_device_name(DEVICE)
    print(f"{name}; torch {torch.__version__}, triton {triton.__version__}, CUDA {torch.version.cuda},")
    print(f"Python {platform.python_version()}; {units:,} units, p = {P}, median (quartiles) of {repeats} calls\n")
    wrong = [what for what, equal in checks() if not equal]
    if not INTERPRET:
        wrong += [what for what, equal in check_graph() if not equal]
        if torch.cuda.mem_get_info()[0] > 24 << 30:
            wrong += [what for what, equal in [check_far_units()] if not equal]
        torch.cuda.empty_cache()
    print(
        "\n".join(["Bits that differ from the reference's:", *wrong]) if wrong else "All bits are the reference's.",
        "\n",
    )
    print("| task | type | ms | GB/s | of the copy's |\n|---|---|---|---|---|")
    summary = []
    for dtype in TYPES:
        summary.append(asked(dtype, table(rows(dtype, units), units, repeats)))
        if options.sweep:
            table(sweep(dtype, units), units, repeats)
    print("", *summary, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
