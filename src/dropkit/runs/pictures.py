"""Labelled pictures in memory, and where they come from: digits, an .npz file or a folder."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from dropkit.errors import DropkitError

SPLITS = ("train", "val", "test")

_ALLOWED = (
    "Allowed are 'digits' (built in), an .npz file with the arrays train_images and train_labels, "
    "or a folder with a sub-folder for each class."
)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Labelled pictures of one size, all splits one after the other.

    >>> pictures = load("digits")
    >>> len(pictures), pictures.shape, pictures.classes
    (1797, (1, 8, 8), 10)
    """

    name: str
    """Short name of the source: "digits", the file's stem or the folder's name."""
    images: torch.Tensor
    """uint8 [N, C, H, W], C = 1 (grayscale) or 3 (RGB), values 0..255."""
    labels: torch.Tensor
    """int64 [N], each 0..K-1."""
    class_names: tuple[str, ...]
    """The K >= 2 classes in the order of their labels."""
    ids: tuple[str, ...]
    """What split.json calls each picture: a path relative to the folder, or "train_images[17]"."""
    given: dict[str, tuple[int, int]]
    """The splits that came with the data, {"train": (start, stop), ...}; empty when none did."""
    fingerprint: str
    """sha256 over shape, images, labels and class names: changed data has another one."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of each picture."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def classes(self) -> int:
        """The number of classes, K."""
        return len(self.class_names)


@dataclass(frozen=True, eq=False)
class Part:
    """What a reader found of one split, or of all pictures when the source has no splits (split is None)."""

    split: str | None
    images: npt.NDArray[np.uint8]
    """[n, C, H, W], with the same C, H and W in all parts."""
    labels: npt.NDArray[np.int64]
    """[n]"""
    ids: tuple[str, ...]


def join(name: str, parts: Sequence[Part], class_names: Sequence[str]) -> Pictures:
    """Put the parts of one source one after the other and take their fingerprint.

    Raises DropkitError when there are fewer than two classes.
    """
    if len(class_names) < 2:
        raise DropkitError(
            f"data {name!r} has only the classes {list(class_names)}: at least two classes are needed. "
            "Add pictures of another class."
        )
    images = np.concatenate([part.images for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    given: dict[str, tuple[int, int]] = {}
    start = 0
    for part in parts:
        if part.split is not None:
            given[part.split] = (start, start + len(part.ids))
        start += len(part.ids)
    return Pictures(
        name=name,
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels),
        class_names=tuple(class_names),
        ids=tuple(picture for part in parts for picture in part.ids),
        given=given,
        fingerprint=_fingerprint(images, labels, class_names),
    )


def _fingerprint(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], class_names: Sequence[str]) -> str:
    digest = hashlib.sha256(json.dumps([list(images.shape), list(class_names)]).encode())
    digest.update(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(labels, dtype="<i8").data)  # one byte order on every machine
    return digest.hexdigest()


def load(source: str | Path) -> Pictures:
    """Load labelled pictures as uint8 [N, C, H, W], with the splits that came with them.

    source is one of
    - "digits": scikit-learn's 1,797 handwritten digits of 8x8, which need no download. A file or folder of
      that name on disk is given as "./digits";
    - a file that ends with .npz and has MedMNIST's array names (see dropkit.runs.arrays.read);
    - a folder with a sub-folder for each class (see dropkit.runs.folders.read).

    Raises DropkitError when nothing is there or what is there cannot be used; the text says what to do.

    >>> load("digits").class_names
    ('0', '1', '2', '3', '4', '5', '6', '7', '8', '9')
    """
    # The readers are imported on use: scikit-learn and Pillow cost nothing where another source is read.
    if source == "digits":
        from dropkit.runs import digits

        return digits.read()
    path = Path(source)
    if not str(source).strip() or not _exists(path):
        raise _missing(str(source))
    if path.is_dir():
        from dropkit.runs import folders

        try:
            return folders.read(path)
        except OSError as error:
            raise _unreadable(path, error) from error
    if path.suffix.lower() == ".npz":
        from dropkit.runs import arrays

        return arrays.read(path)
    raise DropkitError(f"data {str(source)!r} is a file, but not one that ends with .npz. {_ALLOWED}")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError) as error:  # a name that is too long, a folder that may not be entered
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DropkitError:
    return DropkitError(f"data {str(path)!r} cannot be read: {error}. Check the path and its permissions.")


def _missing(source: str) -> DropkitError:
    path = Path(source)
    cure = _nearest(path)
    if cure is not None:
        cure = f"Did you mean {cure!r}?"
    elif not path.parent.is_dir():
        cure = f"Check the path: there is no folder {str(path.parent)!r} either."
    else:
        cure = "Check the path."
    return DropkitError(f"data {source!r}: there is no such file or folder. {_ALLOWED} {cure}")


def _nearest(path: Path) -> str | None:
    """Return the source nearest in name to a path at which nothing is, None where nothing comes near."""
    candidates = {"digits": "digits"} if str(path.parent) == "." else {}
    if path.parent.is_dir():
        for entry in sorted(path.parent.iterdir()):
            if not entry.name.startswith(".") and (entry.suffix.lower() == ".npz" or entry.is_dir()):
                candidates.setdefault(entry.name.lower(), str(entry))
    near = get_close_matches(path.name.lower(), candidates, n=1, cutoff=0.5)
    return candidates[near[0]] if near else None
