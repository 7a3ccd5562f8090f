"""Masks written into activations on the CPU, by the C++ kernels where they can serve and by the reference elsewhere.

All functions write into `out`, which may be the input itself; `dropkit.masks.kernels.gpu` has the same ones. What lies
neither contiguous nor channels-last in memory goes through a contiguous copy.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dropkit.masks import reference
from dropkit.masks.block_rate import Sizes, places
from dropkit.masks.kernels import library
from dropkit.masks.kernels.library import Layout, Mask
from dropkit.masks.rate import Rate
from dropkit.masks.words import SIXTEEN_BITS, AnyKey, Draw

Kernel = Callable[[Tensor, Tensor, Layout], None]


def serves(x: Tensor) -> bool:
    """Whether the C++ kernels take x: they know floating point in CPU memory."""
    return x.is_cpu and x.dtype in library.DTYPES and library.library() is not None


def drop(x: Tensor, out: Tensor, key: AnyKey, rate: Tensor, scaled: bool = True) -> Tensor:
    """Write the units of x that are kept, scaled, into out and zero elsewhere."""
    draw = Draw.of(key, rate)
    if _trivial(x, out, draw):
        return out
    if not serves(x):
        return reference.drop(x, out, draw, scaled)
    scale = draw.scale if scaled else 1.0
    mask = Mask.of(draw, units_of(x))
    return _through(x, out, lambda x, y, layout: library.units(x, y, layout, mask, scale))


def drop_channels(x: Tensor, out: Tensor, key: AnyKey, rate: Tensor) -> Tensor:
    """Write the channels of x [N, C, ...] that are kept, scaled, into out and zero elsewhere."""
    draw = Draw.of(key, rate)
    if _trivial(x, out, draw):
        return out
    if not serves(x):
        return reference.drop_channels(x, out, draw)
    mask = Mask.of(draw, x.shape[1])
    return _through(x, out, lambda x, y, layout: library.channels(x, y, layout, mask, draw.scale))


def relu_drop(x: Tensor, out: Tensor, key: AnyKey, rate: Tensor) -> Tensor:
    """Write the units of max(x, 0) that are kept, scaled, into out and zero elsewhere."""
    draw = Draw.of(key, rate)
    if x.numel() == 0:
        return out
    if draw.drops_none or draw.drops_all or not serves(x):
        return reference.relu_drop(x, out, draw)
    mask = Mask.of(draw, units_of(x))
    return _through(x, out, lambda x, y, layout: library.units(x, y, layout, mask, draw.scale, relu=True))


def where_positive(dy: Tensor, y: Tensor, dx: Tensor, rate: Tensor) -> Tensor:
    """Write dy, scaled, where y is positive into dx, zero elsewhere: the gradient of `relu_drop`, from its output."""
    threshold, bits = rate.tolist()
    scale = Rate(bits, threshold).scale
    readable = library.layout_of(y) is not None and dx.stride() == y.stride()
    if y.numel() and readable and serves(y) and dy.dtype == y.dtype:
        if dy.stride() != y.stride():  # expanded, as a sum's gradient is, or in another memory format
            dy = dx.copy_(dy)
        library.relu_backward(dy, y, dx, scale)
        return dx
    return reference.where_positive(dy, y, dx, scale)


def gaussian(x: Tensor, out: Tensor, key: AnyKey, deviation: Tensor, table: Tensor) -> Tensor:
    """Write x * (1 + deviation * n) into out; the table has the 65,536 values of n that 16 bits a unit choose."""
    draw = Draw.of(key, SIXTEEN_BITS)
    if x.numel() == 0:
        return out
    if not serves(x):
        return reference.gaussian(x, out, draw, float(deviation), table)
    mask, spread = Mask.of(draw, units_of(x)), float(deviation)
    return _through(x, out, lambda x, y, layout: library.gaussian(x, y, layout, mask, table, spread))


def drop_blocks(x: Tensor, out: Tensor, key: AnyKey, rate: Tensor, block: Sizes, shared: bool = False) -> Tensor:
    """Write x [N, C, ...] without the dropped blocks, each sample scaled, into out; `rate` is that of the places."""
    draw, sizes, block = Draw.of(key, rate), tuple(x.shape[2:]), tuple(block)
    if _trivial(x, out, draw):
        return out
    if not serves(x) or not 1 <= len(sizes) <= 3:
        return reference.drop_blocks(x, out, draw, block, shared)
    shape = library.Blocks.of(sizes, block, shared)
    mask = Mask.of(draw, (1 if shared else x.shape[1]) * math.prod(places(sizes, block)))
    return _through(x, out, lambda x, y, layout: library.blocks(x, y, layout, shape, mask))


def units_of(x: Tensor) -> int:
    """Return how many units a sample of x has, dimension 0 being the samples; x is not empty."""
    return x.numel() // (x.shape[0] if x.dim() else 1)


def _trivial(x: Tensor, out: Tensor, draw: Draw) -> bool:
    """Write what needs no mask, if that is so: nothing, everything kept, everything dropped."""
    if x.numel() and not (draw.drops_none or draw.drops_all):
        return False
    if draw.drops_all:
        out.zero_()
    elif out is not x:
        out.copy_(x)
    return True


def _through(x: Tensor, out: Tensor, kernel: Kernel) -> Tensor:
    """Call the kernel on memory that it can read, at once or through a contiguous copy."""
    layout = library.layout_of(x)
    if layout is not None and x.stride() == out.stride() and not _overlap(x, out):
        kernel(x, out, layout)
        return out
    plain = x.clone(memory_format=torch.contiguous_format)
    whole = library.layout_of(plain)
    assert whole is not None
    kernel(plain, plain, whole)
    return out.copy_(plain)


def _overlap(x: Tensor, out: Tensor) -> bool:
    """Whether both, which are dense, share some memory without being the same: x would be overwritten unread."""
    apart = abs(x.data_ptr() - out.data_ptr())
    return 0 < apart < x.numel() * x.element_size()
