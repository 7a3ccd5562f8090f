"""Pictures from an .npz file with MedMNIST's array names."""

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dropkit.errors import DropkitError, unknown
from dropkit.runs.pictures import SPLITS, Part, Pictures, join

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


def read(path: Path) -> Pictures:
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
    arrays = _arrays(path)
    _check_names(path, arrays)
    parts = [_part(path, arrays, split) for split in SPLITS if f"{split}_images" in arrays]
    for part in parts:
        if part.images.shape[1:] != parts[0].images.shape[1:]:
            raise _wrong(
                path,
                f"{part.split}_images",
                f"pictures of {_size(part.images)} (channels x height x width)",
                f"those of train_images, {_size(parts[0].images)}",
                "Bring all pictures to one size",
            )
    return join(path.stem, parts, _class_names(path, arrays.get("class_names"), parts))


def _arrays(path: Path) -> dict[str, Array]:
    """Read all arrays of known names; others are only named, so that an error can list them."""
    try:
        # opened here, because numpy leaves a file open in which it finds no archive
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array, not an archive of named ones")
            with archive:
                return {name: archive[name] if name in _NAMES else np.empty(0) for name in archive.files}
    except _DAMAGED as error:
        raise DropkitError(
            f"{str(path)!r} cannot be read as .npz ({error}): the file is damaged, or holds objects where "
            "plain arrays are allowed. Write it anew with numpy.savez, strings as an array of dtype str."
        ) from error


def _check_names(path: Path, arrays: dict[str, Array]) -> None:
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


def _size(images: Array) -> str:
    return "x".join(str(n) for n in images.shape[1:])


def _part(path: Path, arrays: dict[str, Array], split: str) -> Part:
    name = f"{split}_images"
    images = _images(path, name, arrays[name])
    labels = _labels(path, f"{split}_labels", arrays[f"{split}_labels"], len(images))
    return Part(split, images, labels, tuple(f"{name}[{i}]" for i in range(len(images))))


def _images(path: Path, name: str, images: Array) -> npt.NDArray[np.uint8]:
    """Return the images as [N, C, H, W]."""
    if images.dtype != np.uint8:
        cure = "Scale the values to 0..255 and save them with .astype(numpy.uint8)"
        raise _wrong(path, name, f"dtype {images.dtype}", "whole numbers 0..255 as uint8", cure)
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        cure = "Rearrange the axes; pictures have 1 or 3 channels, and they come last"
        if images.ndim == 4 and images.shape[1] in (1, 3):
            cure = f"The channels seem to come first: save {name}.transpose(0, 2, 3, 1)"
        raise _wrong(path, name, f"shape {list(images.shape)}", "[N, H, W], [N, H, W, 1] and [N, H, W, 3]", cure)
    if images.size == 0:
        cure = "Leave the split out or fill it"
        raise _wrong(path, name, f"shape {list(images.shape)}", "one picture or more of one pixel or more", cure)
    channels_last = images if images.ndim == 4 else images[..., None]
    return np.ascontiguousarray(channels_last.transpose(0, 3, 1, 2))


def _labels(path: Path, name: str, labels: Array, count: int) -> npt.NDArray[np.int64]:
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


def _class_names(path: Path, names: Array | None, parts: list[Part]) -> list[str]:
    """Return the names given, or "0", "1", ...; every label has one."""
    pictures = sum(len(part.ids) for part in parts)
    if names is None:
        classes = max(int(part.labels.max()) for part in parts) + 1
        allowed = f"0 up to the number of pictures, {pictures}, less 1"
    else:
        _check_class_names(path, names)
        classes = len(names)
        allowed = f"0..{classes - 1}, as class_names has {classes} names"
    for part in parts:
        where = int(part.labels.argmax())
        # without names a few stray labels must not become millions of classes
        if part.labels[where] >= (pictures if names is None else classes):
            given = f"the label {part.labels[where]} at [{where}]"
            raise _wrong(path, f"{part.split}_labels", given, allowed, "Number the classes from 0 without gaps")
    return [str(i) for i in range(classes)] if names is None else [str(name) for name in names]


def _check_class_names(path: Path, names: Array) -> None:
    if names.ndim != 1 or names.dtype.kind != "U":
        given = f"shape {list(names.shape)} and dtype {names.dtype}"
        raise _wrong(path, "class_names", given, "[K] strings", "Save numpy.array(names, dtype=str)")
    repeated = sorted({str(name) for name in names if (names == name).sum() > 1})
    if repeated:
        given = f"{', '.join(map(repr, repeated))} more than once"
        raise _wrong(path, "class_names", given, "K different names", "Give each class a name of its own")
