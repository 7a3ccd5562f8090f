"""The definition of every mask in plain torch operations: what the kernels must equal bit for bit.

`keep` and `random16` say which units are kept and which noise they get; the functions below them write that into an
activation, and are what serves where there is no kernel (no compiler at install, other devices, other dtypes).
"""

import math
from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor

from dropkit.masks.block_rate import Sizes, clipped, places
from dropkit.masks.keys import Key
from dropkit.masks.philox import MASK32, philox4x32
from dropkit.masks.rate import Rate
from dropkit.masks.selection import select, zeros
from dropkit.masks.words import MASK64, Draw

# Numbers handled in one operation on the CPU: they stay in a core's cache, and torch wakes its threads only
# for more, which on small pieces costs more than it saves, above all on a busy machine.
_PIECE = 1 << 15


def keep(samples: int, units: int, rate: Rate, key: Key, device: torch.device | str = "cpu") -> Tensor:
    """Return which units are kept: bool [samples, units], true for kept.

    Unit u of sample s has the index e = (first_sample + s) * units + u, below 2**64. With 16-bit rates its random
    bits are half-word e & 7 of Philox block e >> 3, with 32-bit rates word e & 3 of block e >> 2; the counter of a
    block is (its lower 32 bits, its upper 32 bits, site, step) and Philox's key is the seed. The unit is
    dropped when its bits are below the threshold.

    Args:
        samples: number of samples, dimension 0 of the activation.
        units: number of units of one sample, counted in logical order whatever the memory format.
        rate: the threshold and its width.
        key: seed, site, step and the number of the first sample.
        device: where the mask is computed.

    >>> from dropkit.masks.rate import Rate
    >>> keep(2, 3, Rate.of(0.5), Key(seed=7)).shape
    torch.Size([2, 3])
    """
    if rate.drops_none or rate.drops_all:
        return torch.full((samples, units), rate.drops_none, dtype=torch.bool, device=device)
    threshold = rate.threshold - (1 << (rate.bits - 1))
    first = key.first_sample * units & MASK64
    kept = torch.empty(_size(samples * units, first, rate.bits), dtype=torch.bool, device=device)
    for bits, out in _pieces(kept, first, rate.bits, key):
        torch.ge(bits, threshold, out=out)
    return _window(kept, first, rate.bits, samples, units)


def random16(samples: int, units: int, key: Key, device: torch.device | str = "cpu") -> Tensor:
    """Return the 16 random bits of each unit, as `keep` takes them at 16 bits: int32 [samples, units], 0 to 65,535."""
    first = key.first_sample * units & MASK64
    random = torch.empty(_size(samples * units, first, 16), dtype=torch.int32, device=device)
    for bits, out in _pieces(random, first, 16, key):
        torch.add(bits.int(), 1 << 15, out=out)
    return _window(random, first, 16, samples, units)


def drop(x: Tensor, out: Tensor, draw: Draw, scaled: bool = True) -> Tensor:
    """Write the units of x that are kept, scaled, into out and zero elsewhere."""
    kept = keep(*_sizes(x), draw.rate, draw.key, x.device).view(x.shape)
    return _write(x, out, kept, draw, scaled)


def drop_channels(x: Tensor, out: Tensor, draw: Draw) -> Tensor:
    """Write the channels of x [N, C, ...] that are kept, scaled, into out and zero elsewhere."""
    kept = keep(x.shape[0], x.shape[1], draw.rate, draw.key, x.device)
    return _write(x, out, kept.view(*x.shape[:2], *[1] * (x.dim() - 2)), draw)


def relu_drop(x: Tensor, out: Tensor, draw: Draw) -> Tensor:
    """Write the units of max(x, 0) that are kept, scaled, into out and zero elsewhere."""
    return drop(x.relu(), out, draw)


def where_positive(dy: Tensor, y: Tensor, dx: Tensor, scale: float) -> Tensor:
    """Write scale * dy where y is positive (or NaN, as torch's ReLU has it) into dx and zero elsewhere."""
    return dx.copy_(select(dy, ~(y <= 0), scale, False))


def gaussian(x: Tensor, out: Tensor, draw: Draw, deviation: float, table: Tensor) -> Tensor:
    """Write x * (1 + deviation * n) into out; n is the number of the table that 16 random bits choose.

    The noise and its product with x are rounded in float32 (with float64 activations in float64), each once.
    """
    chosen = random16(*_sizes(x), draw.key, x.device).view(x.shape)
    noise = table[chosen] * deviation + 1
    wide = x if x.dtype == torch.float64 else x.float()
    return out.copy_(wide * noise)


def drop_blocks(x: Tensor, out: Tensor, draw: Draw, block: Sizes, shared: bool = False) -> Tensor:
    """Write x [N, C, ...] without the dropped blocks into out, each sample scaled by its units / its kept units.

    The scale is divided in float64 and, but for float64 activations, rounded to float32, in which it is multiplied.
    """
    if draw.drops_all:
        return out.copy_(zeros(x, False))
    samples, maps, *sizes = x.shape
    kept = keep_blocks(samples, 1 if shared else maps, tuple(sizes), block, draw.rate, draw.key, x.device)
    counts = kept.flatten(1).sum(1).double()
    # torch divides a number by a tensor as a product with its inverse, rounded twice. Where nothing is kept the scale
    # is infinite, and zero is selected.
    scale = torch.full_like(counts, kept[0].numel()) / counts
    wide = x.dtype in (torch.float64, torch.complex128)
    scaled = x * (scale if wide else scale.float()).view(-1, *[1] * (x.dim() - 1))
    return out.copy_(torch.where(kept, scaled, 0))


def keep_blocks(
    samples: int, maps: int, sizes: Sizes, block: Sizes, rate: Rate, key: Key, device: torch.device | str = "cpu"
) -> Tensor:
    """Return which units are kept by blocks: bool [samples, maps, *sizes], true for kept.

    The units of `keep` are here the places of a map where a block can begin and lie within it, counted in the order
    (map, plane, row, column). Each of them that is dropped drops the block that begins there.

    Args:
        samples: number of samples.
        maps: number of masks of a sample: its channels, or 1 where they share one.
        sizes: of a map along each axis.
        block: its size along each axis; larger than the map it is as large as that.
        rate: of the places.
        key: seed, site, step and the number of the first sample.
        device: where the mask is computed.

    >>> from dropkit.masks.rate import Rate
    >>> keep_blocks(2, 3, (5, 7), (2, 2), Rate.of(0.1), Key(seed=7)).shape
    torch.Size([2, 3, 5, 7])
    """
    begins = places(sizes, block)
    dropped = ~keep(samples, maps * math.prod(begins), rate, key, device).view(samples, maps, *begins)
    for axis, (count, width) in enumerate(zip(begins, clipped(sizes, block), strict=True), 2):
        seeds, shape = dropped, list(dropped.shape)
        shape[axis] = count + width - 1
        dropped = seeds.new_zeros(shape)
        for shift in range(width):
            dropped.narrow(axis, shift, count).logical_or_(seeds)
    return ~dropped


@cache
def quantiles(device: torch.device) -> Tensor:
    """Return the quantiles of a standard normal variable at (i + 1/2) / 65,536, scaled to a variance of exactly one."""
    with torch.inference_mode(False):
        middles = (torch.arange(1 << 16, dtype=torch.float64, device="cpu") + 0.5) / (1 << 16)
        exact = torch.special.ndtri(middles)
        table: Tensor = (exact / exact.square().mean().sqrt()).float()
        return table.to(device)


@cache
def logits(device: torch.device) -> Tensor:
    """Return logit(u) = ln(u / (1 - u)) at u = (i + 1/2) / 65,536, computed in float64 and rounded to float32.

    Chosen by a unit's 16 random bits (`random16`), one of them is its logistic noise. The table is odd to the bit:
    numbers i and 65,535 - i differ in their sign alone.
    """
    with torch.inference_mode(False):
        odd = torch.arange(1, 1 << 17, 2, dtype=torch.float64, device="cpu")  # 2 i + 1, out of 131,072
        table: Tensor = (odd.log() - odd.flip(0).log()).float()
        return table.to(device)


def _write(x: Tensor, out: Tensor, kept: Tensor, draw: Draw, scaled: bool = True) -> Tensor:
    if draw.drops_all:  # an infinity times the scale of 0 would be NaN, and so would its gradient
        return out.copy_(zeros(x, False))
    return out.copy_(select(x, kept, draw.scale if scaled else 1.0, False))


def _sizes(x: Tensor) -> tuple[int, int]:
    """Return samples and units of x, dimension 0 being the samples."""
    return (x.shape[0] if x.dim() else 1), math.prod(x.shape[1:])


def _size(count: int, first: int, bits: int) -> int:
    """Return how many units the blocks have in which `count` units from number `first` lie."""
    lanes = 128 // bits
    return -(-(first % lanes + count) // lanes) * lanes


def _window(whole: Tensor, first: int, bits: int, samples: int, units: int) -> Tensor:
    """Return the units from number `first` on out of whole blocks."""
    ahead = first % (128 // bits)
    return whole[ahead : ahead + samples * units].view(samples, units)


def _pieces(whole: Tensor, first: int, bits: int, key: Key) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the random bits of all blocks piece by piece, each with the piece of `whole` that it decides about."""
    lanes = 128 // bits
    block, blocks = first // lanes, whole.numel() // lanes
    # A GPU wants the rounds whole; only the CPU's interpreter profits from pieces.
    piece = _PIECE if whole.device.type == "cpu" else max(whole.numel(), 1)
    for start in range(0, blocks, piece):
        count = min(piece, blocks - start)
        random = _signed_bits(block + start, count, bits, key, whole.device)
        part = whole[start * lanes : (start + count) * lanes]
        yield from zip(random.split(piece), part.split(piece), strict=True)


def _signed_bits(block: int, count: int, bits: int, key: Key, device: torch.device | str) -> Tensor:
    """Return the random bits of `count` blocks from number `block`, in the order of the units.

    They are integers of 16 or 32 bits with the topmost bit flipped: torch compares signed integers only, and
    the flip maps the order of the unsigned ones onto theirs.
    """
    index = torch.arange(block & MASK32, (block & MASK32) + count, dtype=torch.int64, device=device)
    upper = (index >> 32) + (block >> 32)
    w0, w1, w2, w3 = philox4x32((index.bitwise_and_(MASK32), upper, key.site, key.step), key.words)
    # Word 0 below word 1 in one int64, whose bytes read as int16 or int32 come in the order of the lanes.
    # That is so on little-endian machines, the only ones for which torch is released.
    pairs = torch.empty(count, 2, dtype=torch.int64, device=device)
    flip = -0x7FFF7FFF7FFF8000 if bits == 16 else -0x7FFFFFFF80000000
    for column, (low, high) in enumerate(((w0, w1), (w2, w3))):
        pairs[:, column] = high.bitwise_left_shift_(32).bitwise_or_(low).bitwise_xor_(flip)
    return pairs.view(torch.int16 if bits == 16 else torch.int32).flatten()
