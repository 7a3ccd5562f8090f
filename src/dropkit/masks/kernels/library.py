"""The C++ kernels, loaded as a shared library and called with data pointers.

The library needs neither torch's headers nor a Python version, so one wheel a platform serves every version of both.
Where it was not built (no compiler when dropkit was installed) or cannot be loaded, `library()` is None and the
reference serves.
"""

import ctypes
import os
import warnings
from ctypes import POINTER, Structure, byref, c_double, c_float, c_int, c_int64, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dropkit.masks import kernels
from dropkit.masks.block_rate import Sizes, clipped
from dropkit.masks.words import MASK64, Draw

NAMES = ("libdropkit_cpu.so", "libdropkit_cpu.dylib", "dropkit_cpu.dll")
ABI = 2
DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
LARGE = 32 << 20  # bytes of memory that an allocator takes from the system for one tensor alone, and gives back with it
REFERENCE_ONLY = "DROPKIT_REFERENCE"  # environment variable: set to 1, no kernel is used


class Mask(Structure):
    """The mask's key and rate, as the library takes them."""

    _fields_ = (
        ("seed", c_uint64),
        ("site", c_uint32),
        ("step", c_uint32),
        ("first", c_uint64),
        ("threshold", c_uint64),
        ("bits", c_int),
    )

    @classmethod
    def of(cls, draw: Draw, units: int) -> "Mask":
        """Return the mask of a draw whose samples have so many units each."""
        first = draw.first_sample * units & MASK64
        return cls(draw.seed, draw.site, draw.step, first, draw.threshold, draw.bits)


class Layout(Structure):
    """How an activation lies in memory, as the library takes it."""

    _fields_ = (("samples", c_int64), ("channels", c_int64), ("pixels", c_int64), ("channels_last", c_int))


class Blocks(Structure):
    """Blocks of a map, as the library takes them: along planes, rows and columns."""

    _fields_ = (("sizes", c_int64 * 3), ("widths", c_int64 * 3), ("shared", c_int))

    @classmethod
    def of(cls, sizes: Sizes, block: Sizes, shared: bool) -> "Blocks":
        """Return the blocks of a map that has one to three axes."""
        ahead = (1,) * (3 - len(sizes))
        return cls((c_int64 * 3)(*ahead, *sizes), (c_int64 * 3)(*ahead, *clipped(sizes, block)), shared)


_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "dropkit_units": (c_void_p, c_void_p, POINTER(Layout), POINTER(Mask), c_double, c_int, c_int, c_int),
    "dropkit_channels": (c_void_p, c_void_p, POINTER(Layout), POINTER(Mask), c_double, c_int, c_int),
    "dropkit_gaussian": (c_void_p, c_void_p, POINTER(Layout), POINTER(Mask), c_void_p, c_float, c_int, c_int),
    "dropkit_keep": (c_void_p, c_int64, POINTER(Mask), c_int),
    "dropkit_huge_pages": (c_void_p, c_int64),
    "dropkit_relu_backward": (c_void_p, c_void_p, c_void_p, c_int64, c_double, c_int, c_int),
    "dropkit_blocks": (c_void_p, c_void_p, POINTER(Layout), POINTER(Blocks), POINTER(Mask), c_int, c_int),
}
_RESULTS = {"dropkit_blocks": c_int}


@cache
def library() -> ctypes.CDLL | None:
    """Return the loaded library, or None where the reference has to serve; warns once in the latter case."""
    if os.environ.get(REFERENCE_ONLY, "0") not in ("", "0"):
        return None
    # An editable install keeps the sources where they are and the library elsewhere: the package has both folders.
    places = [Path(folder) / name for folder in kernels.__path__ for name in NAMES]
    path = next((path for path in places if path.is_file()), None)
    try:
        return _load(path)
    except (OSError, AttributeError) as error:
        reason = str(error)
    warnings.warn(
        f"dropkit's C++ kernels are not available ({reason}): masks are computed by the slower reference, with the "
        "same results. Install a C++ compiler, then dropkit again.",
        stacklevel=2,
    )
    return None


def _load(path: Path | None) -> ctypes.CDLL:
    if path is None:
        raise OSError("they were not built when dropkit was installed")
    # OpenMP's functions are torch's own copy's: it is loaded already, with its symbols for all to see.
    loaded = ctypes.CDLL(str(path))
    if loaded.dropkit_abi() != ABI:
        raise OSError(f"they are of another version: {path.name}")
    loaded.dropkit_isa.restype = ctypes.c_char_p
    loaded.dropkit_use.argtypes = [ctypes.c_char_p]
    for name, types in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = types, _RESULTS.get(name)
    return loaded


def instruction_set() -> str:
    """Return which kernels serve on the CPU: avx512, avx2, portable or reference."""
    loaded = library()
    return "reference" if loaded is None else loaded.dropkit_isa().decode()


def use(name: str) -> bool:
    """Take the kernels of another instruction set from now on, for tests and benchmarks; False where there is none."""
    loaded = library()
    return loaded is not None and loaded.dropkit_use(name.encode()) == 0


def layout_of(x: Tensor) -> Layout | None:
    """Return how x [N, C, ...] lies in memory; None for what is neither contiguous nor channels-last.

    Plain contiguous memory is told as [N, C, pixels] where x has channels, so that whole channels can be dropped.
    """
    samples = x.shape[0] if x.dim() else 1
    channels = x.shape[1] if x.dim() > 1 else 1
    pixels = x.numel() // max(1, samples * channels)
    if x.is_contiguous():
        return Layout(samples, channels, pixels, 0)
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim())
    if last is not None and x.is_contiguous(memory_format=last):
        return Layout(samples, channels, pixels, 1)
    if x.dim() == 3 and x.transpose(1, 2).is_contiguous():
        return Layout(samples, channels, pixels, 1)
    return None


def empty_like(x: Tensor) -> Tensor:
    """Return `torch.empty_like(x)`; large ones on the CPU lie in huge pages where the system has them.

    A fresh output costs more to map, page by page, than to compute.
    """
    out = torch.empty_like(x)
    if x.is_cpu and out.nbytes >= LARGE and (loaded := library()) is not None:
        loaded.dropkit_huge_pages(out.data_ptr(), out.nbytes)
    return out


def units(x: Tensor, out: Tensor, layout: Layout, mask: Mask, scale: float, *, relu: bool = False) -> None:
    """Write the units of x that are kept, scaled, into out, which lies in memory as x does; zero elsewhere."""
    _library().dropkit_units(
        x.data_ptr(), out.data_ptr(), byref(layout), byref(mask), scale, DTYPES[x.dtype], relu, torch.get_num_threads()
    )


def channels(x: Tensor, out: Tensor, layout: Layout, mask: Mask, scale: float) -> None:
    """Write the channels of x that are kept, scaled, into out; zero elsewhere."""
    _library().dropkit_channels(
        x.data_ptr(), out.data_ptr(), byref(layout), byref(mask), scale, DTYPES[x.dtype], torch.get_num_threads()
    )


def gaussian(x: Tensor, out: Tensor, layout: Layout, mask: Mask, table: Tensor, deviation: float) -> None:
    """Write x * (1 + deviation * quantile) into out; table holds 65,536 quantiles in float32."""
    _library().dropkit_gaussian(
        x.data_ptr(),
        out.data_ptr(),
        byref(layout),
        byref(mask),
        table.data_ptr(),
        deviation,
        DTYPES[x.dtype],
        torch.get_num_threads(),
    )


def keep(out: Tensor, mask: Mask) -> None:
    """Write into out, bool and contiguous, which of its units are kept."""
    _library().dropkit_keep(out.data_ptr(), out.numel(), byref(mask), torch.get_num_threads())


def relu_backward(dy: Tensor, y: Tensor, dx: Tensor, scale: float) -> None:
    """Write scale * dy where y is positive, zero elsewhere, into dx; all three lie in memory alike."""
    _library().dropkit_relu_backward(
        dy.data_ptr(), y.data_ptr(), dx.data_ptr(), y.numel(), scale, DTYPES[y.dtype], torch.get_num_threads()
    )


def blocks(x: Tensor, out: Tensor, layout: Layout, shape: Blocks, mask: Mask) -> None:
    """Write x without the blocks that begin at the mask's dropped units into out, each sample scaled."""
    failed = _library().dropkit_blocks(
        x.data_ptr(),
        out.data_ptr(),
        byref(layout),
        byref(shape),
        byref(mask),
        DTYPES[x.dtype],
        torch.get_num_threads(),
    )
    if failed:
        raise MemoryError(f"there is no memory for the masks of {tuple(x.shape)}")


def _library() -> ctypes.CDLL:
    loaded = library()
    if loaded is None:
        raise RuntimeError("dropkit's C++ kernels are not available")
    return loaded
