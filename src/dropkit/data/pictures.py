"""Labelled pictures, in memory or on disk, and where they come from."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dropkit.data.sizes import Size, parse_image_size
from dropkit.data.store import DIGEST_BYTES, DiskPixels, Held, in_pieces
from dropkit.errors import DropkitError, unknown

SPLITS = ("train", "val", "test")
SPLIT_OF = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""What folders and files of a split may be called."""

_ALLOWED = (
    "Allowed are 'digits' (built in), an .npz file with the arrays train_images and train_labels, "
    "a folder with a sub-folder for each class, a .parquet file or a folder of such, and hub:ORG/NAME."
)

_NO_DIGESTS = np.empty((0, DIGEST_BYTES), dtype=np.uint8)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Labelled pictures of one size, all splits one after the other.

    >>> pictures = load("digits")
    >>> len(pictures), pictures.shape, pictures.classes
    (1797, (1, 8, 8), 10)
    """

    name: str
    """Short name of the source: "digits", the file's stem or the folder's name."""
    held: Held
    """uint8 [N, C, H, W], C = 1 (grayscale) or 3 (RGB), values 0..255: a tensor, or a file on disk."""
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
    digests: npt.NDArray[np.uint8] = field(default_factory=lambda: _NO_DIGESTS)
    """uint8 [N, 16], a hash of each picture's bytes: equal for byte-identical pictures."""
    skipped: tuple[tuple[str, str], ...] = ()
    """(id, reason) of each file that was left out because it cannot be read."""
    notes: tuple[str, ...] = ()
    """What a person should know of how the data were read, a line each."""
    is_folder: bool = False
    """Whether the pictures came as files (a folder, parquet or the hub) and not as an array."""

    def __post_init__(self) -> None:
        """Take the digests where the maker of the object left them out."""
        if len(self.digests) != len(self.ids):
            object.__setattr__(self, "digests", digests_of(self.held))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def images(self) -> torch.Tensor | None:
        """All pictures uint8 [N, C, H, W] where they are in memory, else None: then `read` them."""
        return None if isinstance(self.held, DiskPixels) else self.held

    def read(self, indices: torch.Tensor | npt.NDArray[np.int64]) -> torch.Tensor:
        """Return the pictures at the indices [n], in their order, uint8 [n, C, H, W], from memory or disk.

        >>> load("digits").read(np.array([3, 1])).shape
        torch.Size([2, 1, 8, 8])
        """
        if isinstance(self.held, DiskPixels):
            return self.held.read(np.asarray(indices))
        return self.held[torch.as_tensor(indices)]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of each picture."""
        _, channels, height, width = self.held.shape
        return channels, height, width

    @property
    def classes(self) -> int:
        """The number of classes, K."""
        return len(self.class_names)

    @property
    def fit(self) -> dict[str, Any]:
        """How a further picture is brought to the size of these: what `dropkit.data.decoding.decode` is told."""
        channels, height, width = self.shape
        return {"method": "resize and centre crop", "size": [height, width], "channels": channels}

    def remove_spool(self) -> None:
        """Delete the file of decoded pictures, where there is one, and its folder where that leaves it empty.

        Who has the file open may go on reading.
        """
        if isinstance(self.held, DiskPixels):
            self.held.remove()


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How pictures are to be read: what `load` was told, checked."""

    size: Size | str | None = None
    """Height and width, "native", or None for the source's own default."""
    on_bad_image: str = "stop"
    stream: str = "auto"
    spool: Path | None = None
    copies: int = 1
    progress: bool = False

    def __post_init__(self) -> None:
        """Refuse what is not among the allowed words."""
        for name, allowed in (("on_bad_image", ("stop", "skip")), ("stream", ("auto", "yes", "no"))):
            if getattr(self, name) not in allowed:
                raise unknown(name, str(getattr(self, name)), allowed)

    def size_or(self, default: Size | None) -> Size | None:
        """Return the size to bring pictures to, None for their own."""
        if self.size is None:
            return default
        return None if isinstance(self.size, str) else self.size


@dataclass(frozen=True, eq=False)
class Part:
    """Pictures of one split, or of all when there are no splits (split is None)."""

    split: str | None
    images: npt.NDArray[np.uint8]
    """[n, C, H, W], with the same C, H and W in all parts."""
    labels: npt.NDArray[np.int64]
    """[n]"""
    ids: tuple[str, ...]


def join(name: str, parts: Sequence[Part], class_names: Sequence[str]) -> Pictures:
    """Put parts that are in memory one after the other.

    Raises DropkitError when there are fewer than two classes.
    """
    require_two_classes(name, class_names)
    held = torch.from_numpy(np.concatenate([part.images for part in parts]))
    labels = np.concatenate([part.labels for part in parts])
    fingerprint, digests = fingerprint_of(held, labels, class_names)
    return Pictures(
        name=name,
        held=held,
        labels=torch.from_numpy(labels),
        class_names=tuple(class_names),
        ids=tuple(picture for part in parts for picture in part.ids),
        given=place_splits([(part.split, len(part.ids)) for part in parts]),
        fingerprint=fingerprint,
        digests=digests,
    )


def require_two_classes(name: str, class_names: Sequence[str]) -> None:
    """Raise when there is nothing to tell apart."""
    if len(class_names) < 2:
        raise DropkitError(
            f"data {name!r} has only the classes {list(class_names)}: at least two classes are needed. "
            "Add pictures of another class."
        )


def place_splits(counts: Sequence[tuple[str | None, int]]) -> dict[str, tuple[int, int]]:
    """Return where each given split starts and stops, from how many pictures each has.

    >>> place_splits([("train", 5), ("test", 3)])
    {'train': (0, 5), 'test': (5, 8)}
    """
    given: dict[str, tuple[int, int]] = {}
    start = 0
    for split, count in counts:
        if split is not None:
            given[split] = (start, start + count)
        start += count
    return given


def fingerprint_of(
    held: Held, labels: npt.NDArray[np.int64], class_names: Sequence[str]
) -> tuple[str, npt.NDArray[np.uint8]]:
    """Return the fingerprint of labelled pictures and the digest of each, in one pass over them."""
    whole = hashlib.sha256(json.dumps([list(held.shape), list(class_names)]).encode())
    digests = digests_of(held, whole)
    whole.update(np.ascontiguousarray(labels, dtype="<i8").data)  # one byte order on every machine
    return whole.hexdigest(), digests


def digests_of(held: Held, whole: Any = None) -> npt.NDArray[np.uint8]:
    """Return the digest of each picture, uint8 [N, 16]; the hash `whole`, where given, takes all their bytes."""
    digests = bytearray()
    for piece in in_pieces(held):
        rows = np.ascontiguousarray(piece).reshape(len(piece), -1)
        if whole is not None:
            whole.update(rows.data)
        for row in rows:
            digests += hashlib.blake2b(row.data, digest_size=DIGEST_BYTES).digest()
    return np.frombuffer(digests, dtype=np.uint8).reshape(-1, DIGEST_BYTES)


def load(
    source: str | Path,
    *,
    image_size: str | int | None = None,
    on_bad_image: str = "stop",
    stream: str = "auto",
    spool: Path | None = None,
    copies: int = 1,
    progress: bool = False,
) -> Pictures:
    """Load labelled pictures as uint8 [N, C, H, W], with the splits that came with them.

    Args:
        source: one of
            - "digits": scikit-learn's 1,797 handwritten digits of 8x8, which need no download. A file or folder of
              that name on disk is given as "./digits";
            - a file that ends with .npz and has MedMNIST's array names (see dropkit.data.arrays.read);
            - a folder with a sub-folder for each class (see dropkit.data.folders.read);
            - a file that ends with .parquet, a folder of such, or "hub:ORG/NAME" (see dropkit.data.hub).
        image_size: "N" or "HEIGHTxWIDTH", to which pictures are scaled and cropped, or "native". Default: native
            for digits and arrays, 64 for pictures that come as files.
        on_bad_image: "stop" raises when files cannot be read, and lists them; "skip" leaves them out and counts them.
        stream: "yes" keeps the decoded pictures in a file on disk and reads them as they are needed, "no" keeps
            them in memory, "auto" streams when they would take more than half of the memory that is available.
        spool: folder for that file, where another process or a later call finds it (`Pictures.remove_spool` deletes
            it). Without one it lies in the folder for temporary files (TMPDIR) and is gone with the process.
        copies: how many processes are to hold the pictures at once.
        progress: show on standard error how far the reading has come.

    Raises:
        DropkitError: when nothing is there or what is there cannot be used; the text says what to do.

    >>> load("digits").class_names
    ('0', '1', '2', '3', '4', '5', '6', '7', '8', '9')
    """
    size = None if image_size is None else parse_image_size(str(image_size))
    how = Reading(size=size, on_bad_image=on_bad_image, stream=stream, spool=spool, copies=copies, progress=progress)
    # The readers are imported on use: scikit-learn and Pillow cost nothing where another source is read.
    if source == "digits":
        from dropkit.data import digits

        return digits.read(how)
    if isinstance(source, str) and source.startswith("hub:"):
        from dropkit.data import hub

        return hub.read(source, how)
    path = Path(source)
    if not str(source).strip() or not _exists(path):
        raise _missing(str(source))
    try:
        return _read_path(path, how)
    except OSError as error:
        raise _unreadable(path, error) from error


def _read_path(path: Path, how: Reading) -> Pictures:
    if path.is_dir():
        from dropkit.data import folders, parquet

        return parquet.read(path, how) if parquet.is_parquet(path) else folders.read(path, how)
    if path.suffix.lower() == ".npz":
        from dropkit.data import arrays

        return arrays.read(path, how)
    if path.suffix.lower() == ".parquet":
        from dropkit.data import parquet

        return parquet.read(path, how)
    raise DropkitError(f"data {str(path)!r} is a file, but not one that ends with .npz or .parquet. {_ALLOWED}")


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
            if not entry.name.startswith(".") and (entry.suffix.lower() in (".npz", ".parquet") or entry.is_dir()):
                candidates.setdefault(entry.name.lower(), str(entry))
    near = get_close_matches(path.name.lower(), candidates, n=1, cutoff=0.5)
    return candidates[near[0]] if near else None
