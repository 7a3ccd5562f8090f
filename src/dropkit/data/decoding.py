"""One picture file to pixels: whatever its mode, depth, orientation and size."""

import io
import stat
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

# The last two are imported for what it does: it makes their formats known.
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin  # noqa: F401

from dropkit.data.sizes import Size
from dropkit.errors import DropkitError

Pixels = npt.NDArray[np.uint8]
PictureFile = Path | bytes | BinaryIO

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is read, by content and not by name. Pillow knows more, some of which start other programs."""

MOST_PIXELS = 89_478_485
"""Pixels that one picture may have in memory. A JPEG file may have twice as many: it is read at a fraction."""

_GRAY = frozenset(["1", "L", "LA", "La"])
_DEEP_GRAY = frozenset(["I;16", "I;16L", "I;16B", "I;16N"])
_DEEP_IN_32 = frozenset(["PNG", "PPM"])  # formats whose 16-bit pixels Pillow may hold in 32 bits
_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF's orientation; 1 is upright
_SIDEWAYS = 5  # from here on, height and width change places
_ORIENTATION_TAG = 0x0112
_ROWS = 256  # how many are scaled from 16 to 8 bits at once


class BadPictureError(DropkitError):
    """A file that cannot be used as a picture; `reason` says why, without the file's name."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the picture cannot be read: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class Header:
    """What a file says of its picture before it is decoded."""

    size: Size
    gray: bool


def decode(file: PictureFile, *, size: Size | None = None, channels: int | None = None) -> Pixels:
    """Return a picture's pixels, uint8 [C, H, W].

    EXIF orientation is applied. What is transparent is laid on white, as viewers show it. 16-bit values are
    divided by 257 (65535 becomes 255) and rounded. Palettes and CMYK become RGB. Of an animation the first
    picture is taken. A JPEG file that is much larger than needed is decoded at a fraction of its size.

    Args:
        file: a path, a file's content, or an open file.
        size: height and width to which the picture is scaled (bicubic, its shape kept, so that it covers them)
            and then cropped about its centre. None keeps its own.
        channels: 1 for grayscale, 3 for RGB, None for what the picture has.

    Raises:
        BadPictureError: if the file is missing, empty, cut short, damaged, no picture in one of FORMATS, has 32 bits
            a channel or too many pixels.

    >>> content = io.BytesIO()
    >>> Image.new("LA", (7, 5), (31, 0)).save(content, "PNG")
    >>> decode(content.getvalue()).shape, int(decode(content.getvalue()).min())
    ((1, 5, 7), 255)
    """
    with _opened(file) as image:
        if size is not None:
            image.draft(None, (2 * max(size), 2 * max(size)))  # twice the size leaves the scaling something to do
        _refuse_large(image.size)
        with _MEMORY.take(image.width * image.height):
            image.load()
            turn = _orientation(image)
            plain = _plain(image)
            if size is not None:
                plain = ImageOps.fit(plain, size if turn >= _SIDEWAYS else size[::-1], Image.Resampling.BICUBIC)
            if turn in _TURN:
                plain = plain.transpose(_TURN[turn])
            return _with_channels(_on_white(plain), channels)


def read_header(file: PictureFile) -> Header:
    """Return size (as shown, after EXIF's turn) and colour of a picture without decoding it.

    Raises:
        BadPictureError: as `decode` does, where the header tells.
    """
    with _opened(file) as image:
        size = (image.height, image.width)
        # Pillow turns TIFF itself, and would decode a PNG file to look for what stands behind its pixels
        told = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
        turned = told and _orientation(image) >= _SIDEWAYS
        gray = image.mode in _GRAY or image.mode in _DEEP_GRAY or image.mode == "I"
        return Header(size[::-1] if turned else size, gray)


def resize(pictures: Pixels, size: Size) -> Pixels:
    """Return decoded pictures [n, C, H, W] brought to another size, as `decode` does it.

    >>> resize(np.zeros((2, 3, 5, 7), np.uint8), (4, 4)).shape
    (2, 3, 4, 4)
    """
    out = np.empty((*pictures.shape[:2], *size), dtype=np.uint8)
    for picture, place in zip(pictures, out, strict=True):
        image = Image.fromarray(picture[0] if len(picture) == 1 else np.ascontiguousarray(picture.transpose(1, 2, 0)))
        place[...] = _first_axis(ImageOps.fit(image, size[::-1], Image.Resampling.BICUBIC))
    return out


@contextmanager
def _opened(file: PictureFile) -> Iterator[Image.Image]:
    """Open a picture; whatever goes wrong until the block ends is the picture's fault."""
    try:
        with pillow_quiet(), Image.open(_source(file), formats=FORMATS) as image:
            yield image
    except BadPictureError:
        raise
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
        raise BadPictureError(_reason(error)) from None


def _source(file: PictureFile) -> Path | BinaryIO:
    if isinstance(file, Path):
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe would never end
            raise BadPictureError("it is not a file")
        empty = found.st_size == 0
    else:
        empty = isinstance(file, bytes) and not file
    if empty:
        raise BadPictureError("the file is empty")
    return io.BytesIO(file) if isinstance(file, bytes) else file


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its text repeats the path
        return f"no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} picture, or damaged at its beginning"
    if isinstance(error, Image.DecompressionBombError):
        return f"its header tells of more than {2 * MOST_PIXELS:,} pixels"
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _refuse_large(size: tuple[int, int]) -> None:
    if size[0] * size[1] > MOST_PIXELS:
        raise BadPictureError(f"it has {size[0]}x{size[1]} pixels, more than {MOST_PIXELS:,}: make it smaller")


def _orientation(image: Image.Image) -> int:
    try:
        turn = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # EXIF that cannot be read turns nothing; the picture itself may be whole
        return 1
    return turn if turn in _TURN else 1


def _plain(image: Image.Image) -> Image.Image:
    """Return a decoded picture in one of the modes L, La, RGB and RGBa, 8 bits a channel.

    La and RGBa are Pillow's modes for colours multiplied by their opacity: these may be scaled.
    """
    mode = image.mode
    if mode in _DEEP_GRAY or (mode == "I" and image.format in _DEEP_IN_32):
        return _from_16_bits(image)
    if mode in ("I", "F"):
        raise BadPictureError(f"its pixels are of Pillow's mode {mode}, 32 bits each: save it with 8 or 16 bits")
    if mode in ("LA", "La") or (mode in ("1", "L") and "transparency" in image.info):
        return image.convert("LA").convert("La") if mode != "La" else image
    if mode in _GRAY:
        return image.convert("L") if mode != "L" else image
    if mode in ("RGBA", "RGBa", "PA") or "transparency" in image.info:
        return image.convert("RGBA").convert("RGBa") if mode != "RGBa" else image
    return image.convert("RGB") if mode != "RGB" else image


def _from_16_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    clear = image.info.get("transparency")  # in PNG the one level that is transparent
    out = np.empty(values.shape, dtype=np.uint8)
    for start in range(0, len(values), _ROWS):
        rows = values[start : start + _ROWS].astype(np.int64).clip(0, 65535)
        out[start : start + _ROWS] = (rows + 128) // 257
        if isinstance(clear, int):
            out[start : start + _ROWS][rows == clear] = 255
    return Image.fromarray(out)


def _first_axis(image: Image.Image) -> Pixels:
    """Return an image's channels [C, H, W]."""
    values: Pixels = np.asarray(image)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode not in ("La", "RGBa"):
        return image
    values = np.asarray(image).astype(np.uint16)
    shown = (values[..., :-1] + (255 - values[..., -1:])).clip(0, 255).astype(np.uint8)
    return Image.fromarray(shown[..., 0] if shown.shape[-1] == 1 else shown)


def _with_channels(image: Image.Image, channels: int | None) -> Pixels:
    if channels == 1 and image.mode == "RGB":
        image = image.convert("L")
    values = _first_axis(image)
    if channels == 3 and len(values) == 1:
        values = np.repeat(values, 3, axis=0)
    return np.ascontiguousarray(values)


class _Budget:
    """So many pixels may be in decoding at once, in all threads together; a larger picture waits and goes alone."""

    def __init__(self, pixels: int) -> None:
        self.total = self.free = pixels
        self.changed = threading.Condition()

    @contextmanager
    def take(self, pixels: int) -> Iterator[None]:
        share = min(pixels, self.total)
        with self.changed:
            self.changed.wait_for(lambda: self.free >= share)
            self.free -= share
        try:
            yield
        finally:
            with self.changed:
                self.free += share
                self.changed.notify_all()


_MEMORY = _Budget(MOST_PIXELS)


class _Quiet:
    """Pillow's warnings are off while at least one block is open.

    Filters belong to the process, not to the thread: threads that each saved and restored them would restore
    them in the wrong order. So the first block to open saves, the last to close restores.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open = 0
        self.saved: Any = None

    def __enter__(self) -> None:
        with self.lock:
            if self.open == 0:
                self.saved = warnings.catch_warnings()
                self.saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self.open += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.open -= 1
            if self.open == 0:
                self.saved.__exit__(None, None, None)
                self.saved = None


_QUIET = _Quiet()


@contextmanager
def pillow_quiet() -> Iterator[None]:
    """Silence Pillow's warnings inside the block: what matters in them is told as a bad picture."""
    if getattr(sys.flags, "context_aware_warnings", False):  # each thread has filters of its own
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    else:
        with _QUIET:
            yield
