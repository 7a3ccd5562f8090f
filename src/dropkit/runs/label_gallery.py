"""The gallery of predictions: the surest and the least sure pictures of however many, kept while the labels go by."""

import heapq
import math
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dropkit.data.decoding import BadPictureError, decode, read_header
from dropkit.data.png import data_uri
from dropkit.data.sizes import Size
from dropkit.errors import DropkitError
from dropkit.files import read_record
from dropkit.runs.labelling import Label
from dropkit.runs.record import RunFolder
from dropkit.runs.run import Run

SUREST, UNSURE = 60, 200  # pictures that the page shows of many: it stays small enough to be opened
THUMBNAIL = 96  # pixels a side, at most
NAME = "predictions.html"
LEVEL = 0.95  # of the intervals that `dropkit.predict` gives

Entry = tuple[float, int, Path, Label]
"""Entropy, place in the order of the files, file, label: no two have the same first two."""


class LabelGallery:
    """Keeps the pictures that the page is going to show, and counts all.

    Args:
        files: the pictures, in the order of their labels.
        path: where the page is to be.

    Raises:
        DropkitError: if the page could not be written there.
    """

    def __init__(self, files: Sequence[Path], path: Path) -> None:
        _require_place(path)
        self.files = files
        self.path = path
        self.began = time.perf_counter()
        self.read = self.errors = 0
        self.classes: Counter[str] = Counter()
        self._surest: list[Entry] = []
        self._unsure: list[Entry] = []

    def watch(self, labels: Iterable[Label]) -> Iterator[Label]:
        """Yield the labels as they come, one for each file."""
        for place, (file, label) in enumerate(zip(self.files, labels, strict=True)):
            self._take(place, file, label)
            yield label

    def _take(self, place: int, file: Path, label: Label) -> None:
        if label.entropy is None or label.class_name is None:
            self.errors += 1
            return
        self.read += 1
        self.classes[label.class_name] += 1
        entropy = label.entropy if math.isfinite(label.entropy) else math.inf
        # heapq keeps the smallest on top, which is the first to go; of the surest it is the one with most entropy.
        _keep(self._surest, (-entropy, -place, file, label), SUREST)
        _keep(self._unsure, (entropy, place, file, label), UNSURE)

    def chosen(self) -> tuple[list[Entry], list[Entry]]:
        """Return the surest pictures and the least sure ones, by entropy; all in the first list where it is few."""
        surest = sorted((-entropy, -place, file, label) for entropy, place, file, label in self._surest)
        known = {place for _, place, _, _ in surest}
        unsure = sorted(entry for entry in self._unsure if entry[1] not in known)
        return (surest + unsure, []) if self.read <= SUREST + UNSURE else (surest, unsure)

    def record(self, run: Run, samples: int, seed: int = 0) -> dict[str, Any]:
        """Return what the page shows, as plain JSON."""
        data = run.summary["data"]
        surest, unsure = self.chosen()
        shape = (data["shape"][0], data["shape"][1], data["shape"][2])
        return {
            "kind": "predictions",
            "dropkit": read_record(RunFolder(run.folder).environment)["dropkit"],
            "network": {
                "data": data["name"],
                "policy": run.config.dropout,
                "model": run.config.model,
                "seed": run.config.seed,
                "run": str(run.folder),
            },
            "samples": samples,
            "seed": seed if samples else None,
            "level": LEVEL,
            "of_classes": data["classes"],
            "read": self.read,
            "errors": self.errors,
            "classes": dict(self.classes.most_common()),
            "surest": [_row(entry, shape) for entry in surest],
            "unsure": [_row(entry, shape) for entry in unsure],
            "seconds": time.perf_counter() - self.began,
        }

    def write(self, run: Run, samples: int, seed: int = 0) -> Path:
        """Write the page; return its path."""
        from dropkit.report.page import write_page

        return write_page(self.record(run, samples, seed), self.path)


def _keep(heap: list[Entry], entry: Entry, most: int) -> None:
    if len(heap) < most:
        heapq.heappush(heap, entry)
    else:
        heapq.heappushpop(heap, entry)


def _row(entry: Entry, shape: tuple[int, int, int]) -> dict[str, Any]:
    _, _, file, label = entry
    sampled = {} if label.sampled is None else vars(label.sampled)
    return {
        "picture": label.picture,
        "class": label.class_name,
        "probability": label.probability,
        **sampled,
        "entropy": label.entropy,
        "image": _thumbnail(file, shape),
    }


def _thumbnail(file: Path, shape: tuple[int, int, int]) -> str | None:
    """Return what the network was shown of a picture, cut and in its colours, but not as coarse."""
    channels, height, width = shape
    try:
        size = _thumbnail_size(read_header(file).size, (height, width))
        return data_uri(decode(file, size=size, channels=channels), most=None)
    except BadPictureError:  # it may be gone by now
        return None


def _thumbnail_size(picture: Size, shown: Size) -> Size:
    """Return the size of a thumbnail: of the cut that the network sees, no larger than the picture has it.

    >>> _thumbnail_size((600, 800), (32, 32)), _thumbnail_size((28, 28), (32, 32))
    ((96, 96), (28, 28))
    """
    height, width = shown
    scale = min(picture[0] / height, picture[1] / width, THUMBNAIL / max(height, width))
    return max(1, round(scale * height)), max(1, round(scale * width))


def _require_place(path: Path) -> None:
    """Refuse a place for the page before the pictures are read."""
    if path.is_dir():
        raise DropkitError(f"the gallery must be a file, but {str(path)!r} is a folder: add a name such as {NAME}")
    if path.suffix.lower() not in (".html", ".htm"):
        raise DropkitError(
            f"the gallery is a page, but {str(path)!r} does not end with .html: give a name such as {NAME}"
        )
    if not path.parent.is_dir():
        raise DropkitError(f"there is no folder {str(path.parent)!r} for the gallery: make it, or give another name")
    if not os.access(path.parent, os.W_OK):
        raise DropkitError(
            f"cannot write to the folder {str(path.parent)!r}, where the gallery is to stand: change its permissions, "
            "or name a file in another folder with --out"
        )
