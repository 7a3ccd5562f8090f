"""The definition of every mask in plain torch integer operations: what the kernels must equal bit for bit."""

import torch
from torch import Tensor

from dropkit.masks.keys import Key
from dropkit.masks.philox import MASK32, philox4x32
from dropkit.masks.rate import Rate

# Numbers handled in one operation on the CPU: they stay in a core's cache, and torch wakes its threads only
# for more, which on small pieces costs more than it saves, above all on a busy machine.
_PIECE = 1 << 15


def keep(samples: int, units: int, rate: Rate, key: Key, device: torch.device | str = "cpu") -> Tensor:
    """Return which units are kept: bool [samples, units], true for kept.

    Unit u of sample s has the index e = (first_sample + s) * units + u. With 16-bit rates its random bits are
    half-word e & 7 of Philox block e >> 3, with 32-bit rates word e & 3 of block e >> 2; the counter of a
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
    lanes = 128 // rate.bits
    first = key.first_sample * units
    block, ahead = divmod(first, lanes)
    blocks = -(-(ahead + samples * units) // lanes)
    kept = torch.empty(blocks * lanes, dtype=torch.bool, device=device)
    # A compiler fuses the rounds by itself and a GPU wants them whole; only the CPU's interpreter profits.
    whole = torch.compiler.is_compiling() or torch.device(device).type != "cpu"
    piece = max(kept.numel(), 1) if whole else _PIECE
    for start in range(0, blocks, piece):
        count = min(piece, blocks - start)
        bits = _signed_bits(block + start, count, rate.bits, key, device)
        part = kept[start * lanes : (start + count) * lanes]
        for some, out in zip(bits.split(piece), part.split(piece), strict=True):
            torch.ge(some, rate.threshold - (1 << (rate.bits - 1)), out=out)
    return kept[ahead : ahead + samples * units].view(samples, units)


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
