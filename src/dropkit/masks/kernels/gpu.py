"""The Triton kernels: the arithmetic of `dropkit.masks.reference` on GPUs, equal to it bit for bit.

Importing this module imports Triton, so whoever has a CUDA tensor imports it then, and nobody else. The functions
mirror `dropkit.masks.cpu`: they write into `out`, which may be the input itself, and know no autograd. Key (int64 [4]:
seed, site, step, first sample) and rate (int64 [2]: threshold, bits) are read on the host where they are CPU tensors,
without waiting for the device. Where they lie on the device the kernel reads them itself: a CUDA graph replays with
whatever the same memory holds by then, another rate of another width included.

With TRITON_INTERPRET=1 set before the import, the same functions take CPU tensors.
"""

import struct
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dropkit.masks.kernels import gpu_programs as programs
from dropkit.masks.kernels.library import Layout, layout_of
from dropkit.masks.rate import Rate

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
# Of a program: groups of 8 neighbouring units, and warps. A thread holds 16 units: several loads in flight at once.
GROUPS = 256
WARPS = 4
# fused, x * scale + y would be rounded once
_OPTIONS: dict[str, Any] = {"num_warps": WARPS, "enable_fp_fusion": False}


class _Slices(NamedTuple):
    """How an activation is walked through: strides in memory and in units of each index."""

    number: int
    rows: int
    columns: int
    at_slice: int
    at_row: int
    at_column: int
    unit_slice: int
    unit_column: int
    side: int  # numbers that a tile has at most along the index that is contiguous in memory

    @property
    def tile(self) -> tuple[int, int]:
        """Groups of 8 rows, and columns, of one program."""
        groups, width = _power_of_2(_tiles(self.rows, 8)), _power_of_2(self.columns)
        if self.at_row == 1:
            groups = min(groups, self.side // 8)
            return groups, min(width, GROUPS // groups)
        width = min(width, self.side)
        return min(groups, GROUPS // width), width

    def programs(self, more_rows: int = 0) -> int:
        """Return how many tiles there are."""
        groups, width = self.tile
        return self.number * _tiles(self.rows + more_rows, 8 * groups) * _tiles(self.columns, width)


def drop(x: Tensor, out: Tensor, key: Tensor, rate: Tensor, scaled: bool = True) -> Tensor:
    """Write the units of x that are kept, scaled unless told otherwise, into out and zero elsewhere."""
    return _units(x, None, out, key, rate, relu=False, scaled=scaled)


def relu_drop(
    x: Tensor, out: Tensor, key: Tensor, rate: Tensor, scaled: bool = True, residual: Tensor | None = None
) -> Tensor:
    """Write the units of max(x, 0) that are kept, scaled, into out and zero elsewhere.

    With a residual, of max(x + residual, 0): the end of a ResNet's block, where the sum of branch and shortcut goes
    through the ReLU, is a stage's output, and that is where dropout belongs. The sum is rounded to x's type first, so
    the result is that of `relu_drop(x + residual)`. Its sign tells the gradient of both branches (`where_positive`).
    The other order, drop(relu(x)) + residual, occurs in no ResNet: a branch ends in a convolution or a norm, whose
    output is added as it is, and the sum's sign would tell nothing about the mask.
    """
    return _units(x, residual, out, key, rate, relu=True, scaled=scaled)


def drop_channels(x: Tensor, out: Tensor, key: Tensor, rate: Tensor, scaled: bool = True) -> Tensor:
    """Write the channels of x [N, C, ...] that are kept, scaled, into out and zero elsewhere."""
    plain = _plain(x, out)
    if plain is not None:
        return out.copy_(drop_channels(plain, plain, key, rate, scaled))
    layout = layout_of(x)
    if x.numel() and layout is not None:
        if layout.pixels == 1:  # a channel is one number
            return drop(x, out, key, rate, scaled)
        samples, channels, pixels = layout.samples, layout.channels, layout.pixels
        slices = _Slices(1, samples * channels, pixels, 0, pixels, 1, 0, 0, GROUPS)
        if layout.channels_last:
            slices = _Slices(samples, channels, pixels, channels * pixels, 1, channels, channels, 0, 64)
        _launch_grid(x, None, out, slices, channels, key, rate, False, scaled)
    return out


def where_positive(dy: Tensor, y: Tensor, dx: Tensor, rate: Tensor, scaled: bool = True) -> Tensor:
    """Write scale * dy where y is positive into dx, zero elsewhere: the gradient of `relu_drop` from its output y."""
    _check(y, dy, dx)
    if not dy.stride() == y.stride() == dx.stride() or layout_of(y) is None:
        plain = dy.clone(memory_format=torch.contiguous_format)
        return dx.copy_(where_positive(plain, y.contiguous(), plain, rate, scaled))
    n, units = y.numel(), GROUPS * 8
    if n:
        scale = _rate_words(rate, scaled)[2]
        with _on(y):
            programs.where_positive[(_tiles(n, units),)](
                dy, y, dx, n, _resident(rate) if scaled else None, scale, UNITS=units, **_OPTIONS
            )
    return dx


def gaussian(x: Tensor, out: Tensor, key: Tensor, deviation: Tensor, table: Tensor) -> Tensor:
    """Write x * (1 + deviation * table[bits]) into out, with 16 random bits a unit.

    Args:
        x: the activation.
        out: where the result goes.
        key: int64 [4].
        deviation: float64 [1], on the host or on x's device.
        table: float32 [65,536], the quantiles, on x's device.
    """
    plain = _plain(x, out)
    if plain is not None:
        return out.copy_(gaussian(plain, plain, key, deviation, table))
    layout = layout_of(x)
    if x.numel() and layout is not None:
        slices = _Slices(1, x.numel(), 1, 0, 1, 1, 0, 0, 8 * GROUPS)
        if layout.channels_last:
            slices = _channels_last(layout)
        groups, width = slices.tile
        resident = _resident(deviation)
        value = 0.0 if resident is not None else float(deviation)
        words = (_resident(key), *_key_words(key), _units_of(x))
        with _on(x):
            programs.noise[(slices.programs(7),)](
                x, out, table, *slices[1:8], *words, resident, value, GROUPS=groups, WIDTH=width, **_OPTIONS
            )
    return out


def keep(out: Tensor, key: Tensor, rate: Tensor) -> Tensor:
    """Write into out, bool [samples, units] and contiguous, which units are kept (`dropkit.masks.keep`)."""
    if out.numel():
        _launch_line(None, None, out.view(torch.uint8), out.shape[1], key, rate, False, False)
    return out


def _units(
    x: Tensor, residual: Tensor | None, out: Tensor, key: Tensor, rate: Tensor, *, relu: bool, scaled: bool
) -> Tensor:
    plain = _plain(x, out, residual)
    if plain is not None:
        residual = None if residual is None else residual.contiguous()
        return out.copy_(_units(plain, residual, plain, key, rate, relu=relu, scaled=scaled))
    layout = layout_of(x)
    if x.numel() and layout is not None:
        if layout.channels_last:
            _launch_grid(x, residual, out, _channels_last(layout), _units_of(x), key, rate, relu, scaled)
        else:
            _launch_line(x, residual, out, _units_of(x), key, rate, relu, scaled)
    return out


def _launch_line(
    x: Tensor | None, r: Tensor | None, out: Tensor, units: int, key: Tensor, rate: Tensor, relu: bool, scaled: bool
) -> None:
    n = out.numel()
    threshold, bits, scale = _rate_words(rate, scaled)
    words = (_resident(key), *_key_words(key), units, _resident(rate), threshold, bits, scale)
    with _on(out):
        programs.line[(_tiles(n, 8 * GROUPS),)](
            x, r, out, n, *words, BITS=bits, RELU=relu, SCALED=scaled, GROUPS=GROUPS, **_OPTIONS
        )


def _launch_grid(
    x: Tensor,
    r: Tensor | None,
    out: Tensor,
    slices: _Slices,
    units: int,
    key: Tensor,
    rate: Tensor,
    relu: bool,
    scaled: bool,
) -> None:
    groups, width = slices.tile
    threshold, bits, scale = _rate_words(rate, scaled)
    words = (_resident(key), *_key_words(key), units, _resident(rate), threshold, bits, scale)
    flags = {"BITS": bits, "RELU": relu, "SCALED": scaled, "SHARED": slices.unit_column == 0}
    with _on(out):
        programs.grid[(slices.programs(),)](
            x, r, out, *slices[1:8], *words, GROUPS=groups, WIDTH=width, **flags, **_OPTIONS
        )


def _channels_last(layout: Layout) -> _Slices:
    """Return the walk through channels-last memory whose units are single numbers: a row is a pixel."""
    samples, channels, pixels = layout.samples, layout.channels, layout.pixels
    sample = channels * pixels
    return _Slices(samples, pixels, channels, sample, channels, 1, sample, pixels, 64)


def _units_of(x: Tensor) -> int:
    return x.numel() // (x.shape[0] if x.dim() else 1)


def _plain(x: Tensor, out: Tensor, residual: Tensor | None = None) -> Tensor | None:
    """Return a contiguous copy of x where the kernels cannot go from x to out in one pass."""
    _check(x, out, *([] if residual is None else [residual]))
    alike = x.stride() == out.stride() and (residual is None or x.stride() == residual.stride())
    apart = x.data_ptr() == out.data_ptr() or x.untyped_storage().data_ptr() != out.untyped_storage().data_ptr()
    if alike and apart and layout_of(x) is not None:
        return None
    return x.clone(memory_format=torch.contiguous_format)


def _check(x: Tensor, *others: Tensor) -> None:
    """Refuse what the kernels would read or write as something else."""
    if x.dtype not in DTYPES or any(other.dtype != x.dtype or other.shape != x.shape for other in others):
        given = ", ".join(f"{tensor.dtype} {list(tensor.shape)}" for tensor in (x, *others))
        raise TypeError(f"the GPU kernels take tensors of one shape and one type of {DTYPES}, but got {given}")


def _resident(words: Tensor) -> Tensor | None:
    """Return the words if the kernel has to read them itself, on the device."""
    return None if words.device.type == "cpu" else words


def _key_words(key: Tensor) -> list[int]:
    return [0, 0, 0, 0] if _resident(key) is not None else key.tolist()


def _rate_words(rate: Tensor, scaled: bool) -> tuple[int, int, int]:
    """Return threshold, bits and the scale's bit pattern; zeros where the kernel reads them itself."""
    if _resident(rate) is not None:
        return 0, 0, 0 if scaled else _pattern(1.0)
    threshold, bits = rate.tolist()
    return threshold, bits, _pattern(Rate(bits, threshold).scale if scaled else 1.0)


def _pattern(value: float) -> int:
    """Return a float64 as an integer: Triton would take the number itself as float32."""
    return int.from_bytes(struct.pack("<d", value), "little")


def _tiles(number: int, size: int) -> int:
    """Return how many tiles of a size cover a number."""
    return -(-number // size)


def _power_of_2(number: int) -> int:
    """Return the smallest power of two that is not smaller."""
    return 1 << (number - 1).bit_length()


def _on(x: Tensor) -> AbstractContextManager[Any]:
    """Return the context in which Triton launches on the tensor's device."""
    return torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()
