"""Pictures from an .npz file with MedMNIST's array names."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from dropkit.data.listing import Listing, fitted, gather
from dropkit.data.pictures import SPLITS, Pictures, Reading
from dropkit.data.store import Pixels, Shape
from dropkit.errors import DropkitError, unknown

_NAMES = (*(f"{split}_{what}" for split in SPLITS for what in ("images", "labels")), "class_names")
# what numpy and zipfile raise at damaged files
_DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)

Array = npt.NDArray[Any]

_PIECE = 32 * 2**20  # bytes that are read at once
_SLAB_PIECE = 256 * 2**20  # of pictures in Fortran's order, for each of which the whole array is gone through


def read(path: Path, how: Reading | None = None) -> Pictures:
    """Return the pictures of an .npz file, as numpy.savez writes it.

    The file holds train_images and train_labels, if there are such splits val_* and test_* too, and if the
    classes have names class_names: K strings, without which the classes are called "0", "1" up to the largest
    label. Images are uint8 [N, H, W] or [N, H, W, C] with C = 1 or 3, of one size in all splits; labels are
    whole numbers of any integer type, [N] or [N, 1], counted from 0. Source of the names: MedMNIST v2 (Yang
    et al., Scientific Data 10, 2023, 41).

    Raises DropkitError when the file is damaged or holds pickled objects, when an array is missing, unknown
    or of the wrong rank, type or length, and when a label is negative or has no class name.

    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "tiny.npz"
    ...     np.savez(path, train_images=np.zeros((4, 5, 7), np.uint8), train_labels=[0, 1, 0, 1])
    ...     read(path).shape
    (1, 5, 7)
    """
    with _archive(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        _check_names(path, names)
        members = [_member(path, archive, split) for split in SPLITS if f"{split}_images" in names]
        given = _array(archive, "class_names") if "class_names" in names else None
        labels = [_labels(path, archive, member) for member in members]
    for member in members:
        if member.picture != members[0].picture:
            raise _wrong(
                path,
                member.name,
                f"pictures of {_size(member)} (channels x height x width)",
                f"those of train_images, {_size(members[0])}",
                "Bring all pictures to one size",
            )
    stat = path.stat()
    listing = Listing(
        name=path.stem,
        class_names=tuple(_class_names(path, given, members, labels)),
        counts=[(member.split, member.count) for member in members],
        labels=np.concatenate(labels),
        ids=tuple(f"{member.name}[{i}]" for member in members for i in range(member.count)),
        source=_Arrays(path, members),
        stamp=["npz", str(path.resolve()), stat.st_size, stat.st_mtime_ns],
    )
    return gather(listing, how or Reading())


@dataclass(frozen=True)
class _Member:
    """The images of one split, as the header in the archive describes them."""

    split: str
    stored: tuple[int, ...]
    """[N, H, W] or [N, H, W, C]"""
    fortran: bool

    @property
    def name(self) -> str:
        return f"{self.split}_images"

    @property
    def count(self) -> int:
        return self.stored[0]

    @property
    def picture(self) -> Shape:
        """Channels, height, width."""
        return (self.stored[3] if len(self.stored) == 4 else 1, self.stored[1], self.stored[2])


@dataclass
class _Arrays:
    """The images of an archive, read in pieces: the whole is never in memory beside what it is read into."""

    path: Path
    members: list[_Member]
    bad: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def survey(self, how: Reading) -> Shape:
        """Return the size asked for, else the pictures' own."""
        channels, height, width = self.members[0].picture
        return (channels, *(how.size_or(None) or (height, width)))

    def pieces(self, shape: Shape) -> Iterator[tuple[int, Pixels]]:
        """Yield the pictures of all splits."""
        with _archive(self.path) as archive:
            for member in self.members:
                read = _pieces_by_slab if member.fortran else _pieces
                for block in read(archive, member):
                    yield len(block), fitted(block, shape)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open the archive; what fails until the block ends is damage."""
    try:
        # opened here, because zipfile leaves a file open in which it finds no archive
        with path.open("rb") as file:
            if file.read(6) == b"\x93NUMPY":
                raise ValueError("it holds a single array, not an archive of named ones")
            with zipfile.ZipFile(file) as archive:
                yield archive
    except _DAMAGED as error:
        raise DropkitError(
            f"{str(path)!r} cannot be read as .npz ({error}): the file is damaged, or holds objects where "
            "plain arrays are allowed. Write it anew with numpy.savez, strings as an array of dtype str."
        ) from error


@contextmanager
def _opened(archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    with archive.open(f"{name}.npy") as file:
        yield file
        if file.read(1):  # to the end, where the checksum is compared
            raise ValueError(f"{name} is longer than its header says")


def _array(archive: zipfile.ZipFile, name: str) -> Array:
    """Read a small array whole."""
    with _opened(archive, name) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether the order is Fortran's, and dtype."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"an array of format version {version[0]}.{version[1]}")


def _member(path: Path, archive: zipfile.ZipFile, split: str) -> _Member:
    """Read and check the header of a split's images."""
    name = f"{split}_images"
    with archive.open(f"{name}.npy") as file:
        shape, fortran, dtype = _header(file)
        begin = file.tell()
    _check_images(path, name, shape, dtype)
    if archive.getinfo(f"{name}.npy").file_size != begin + int(np.prod(shape, dtype=object)):
        raise ValueError(f"{name} is not as long as its header says")
    return _Member(split, shape, fortran)


def _pieces(archive: zipfile.ZipFile, member: _Member) -> Iterator[Pixels]:
    """Yield blocks of pictures [n, C, H, W] in order."""
    channels, height, width = member.picture
    record = channels * height * width
    step = max(1, _PIECE // record)
    with _opened(archive, member.name) as file:
        _header(file)
        for start in range(0, member.count, step):
            count = min(step, member.count - start)
            block = _read_bytes(file, count * record).reshape(count, height, width, channels)
            yield block.transpose(0, 3, 1, 2)


def _pieces_by_slab(archive: zipfile.ZipFile, member: _Member) -> Iterator[Pixels]:
    """Yield the blocks of an array in Fortran's order, whose bytes run over the pictures first."""
    channels, height, width = member.picture
    step = max(1, _SLAB_PIECE // (channels * height * width))
    for start in range(0, member.count, step):
        block = np.empty((min(step, member.count - start), channels, height, width), dtype=np.uint8)
        with _opened(archive, member.name) as file:
            _header(file)
            for channel in range(channels):
                for column in range(width):
                    slab = _read_bytes(file, height * member.count).reshape(height, member.count)
                    block[:, channel, :, column] = slab[:, start : start + step].T
        yield block


def _read_bytes(file: IO[bytes], count: int) -> Pixels:
    content = file.read(count)
    if len(content) != count:
        raise EOFError("an array ends too early")
    return np.frombuffer(content, dtype=np.uint8)


def _check_names(path: Path, arrays: list[str]) -> None:
    held = ", ".join(sorted(arrays)) or "no arrays"
    for need in ("train_images", "train_labels"):
        if need not in arrays:
            raise DropkitError(
                f"{str(path)!r} has no array {need!r}; it holds {held}. Allowed are {', '.join(_NAMES)}: "
                "rename the arrays with numpy.savez."
            )
    for name in sorted(arrays):
        if name not in _NAMES:
            raise DropkitError(f"{str(path)!r} holds {held}: {unknown('array', name, _NAMES)}")
    for split in SPLITS:
        images, labels = f"{split}_images", f"{split}_labels"
        if (images in arrays) != (labels in arrays):
            there, lacks = (images, labels) if images in arrays else (labels, images)
            raise DropkitError(f"{str(path)!r} has {there!r} but no {lacks!r}: give both or neither.")


def _wrong(path: Path, name: str, given: str, allowed: str, cure: str) -> DropkitError:
    return DropkitError(f"{str(path)!r}: {name} has {given}; allowed are {allowed}. {cure}.")


def _size(member: _Member) -> str:
    return "x".join(str(n) for n in member.picture)


def _check_images(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects")
    if dtype != np.uint8:
        cure = "Scale the values to 0..255 and save them with .astype(numpy.uint8)"
        raise _wrong(path, name, f"dtype {dtype}", "whole numbers 0..255 as uint8", cure)
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
        cure = "Rearrange the axes; pictures have 1 or 3 channels, and they come last"
        if len(shape) == 4 and shape[1] in (1, 3):
            cure = f"The channels seem to come first: save {name}.transpose(0, 2, 3, 1)"
        raise _wrong(path, name, f"shape {list(shape)}", "[N, H, W], [N, H, W, 1] and [N, H, W, 3]", cure)
    if 0 in shape:
        cure = "Leave the split out or fill it"
        raise _wrong(path, name, f"shape {list(shape)}", "one picture or more of one pixel or more", cure)


def _labels(path: Path, archive: zipfile.ZipFile, member: _Member) -> npt.NDArray[np.int64]:
    name, count = f"{member.split}_labels", member.count
    labels = _array(archive, name)
    if labels.dtype.kind not in "iu":
        cure = "Number the classes from 0 and save the labels with .astype(int)"
        raise _wrong(path, name, f"dtype {labels.dtype}", "whole numbers of any integer type", cure)
    if labels.shape not in ((count,), (count, 1)):
        cure = "Give each picture one label"
        allowed = f"[{count}] and [{count}, 1], as there are {count} pictures"
        raise _wrong(path, name, f"shape {list(labels.shape)}", allowed, cure)
    flat = labels.reshape(-1)
    if flat.min() < 0:
        where = int(flat.argmin())
        cure = "Number the classes from 0"
        raise _wrong(path, name, f"the label {flat[where]} at [{where}]", "0 and above", cure)
    if flat.max() > np.iinfo(np.int64).max:
        cure = "Number the classes from 0"
        raise _wrong(path, name, f"the label {flat.max()}", "0 up to the number of classes less 1", cure)
    return flat.astype(np.int64)


def _class_names(
    path: Path, names: Array | None, members: list[_Member], labels: list[npt.NDArray[np.int64]]
) -> list[str]:
    """Return the names given, or "0", "1", ...; every label has one."""
    pictures = sum(member.count for member in members)
    if names is None:
        classes = max(int(some.max()) for some in labels) + 1
        allowed = f"0 up to the number of pictures, {pictures}, less 1"
    else:
        _check_class_names(path, names)
        classes = len(names)
        allowed = f"0..{classes - 1}, as class_names has {classes} names"
    for member, some in zip(members, labels, strict=True):
        where = int(some.argmax())
        # without names a few stray labels must not become millions of classes
        if some[where] >= (pictures if names is None else classes):
            given = f"the label {some[where]} at [{where}]"
            raise _wrong(path, f"{member.split}_labels", given, allowed, "Number the classes from 0 without gaps")
    return [str(i) for i in range(classes)] if names is None else [str(name) for name in names]


def _check_class_names(path: Path, names: Array) -> None:
    if names.ndim != 1 or names.dtype.kind != "U":
        given = f"shape {list(names.shape)} and dtype {names.dtype}"
        raise _wrong(path, "class_names", given, "[K] strings", "Save numpy.array(names, dtype=str)")
    repeated = sorted({str(name) for name in names if (names == name).sum() > 1})
    if repeated:
        given = f"{', '.join(map(repr, repeated))} more than once"
        raise _wrong(path, "class_names", given, "K different names", "Give each class a name of its own")
