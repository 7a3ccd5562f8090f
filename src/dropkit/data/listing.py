"""From what a source lists to pictures: decoded once, into memory or onto disk."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from dropkit.data.counting import counting
from dropkit.data.pictures import Pictures, Reading, fingerprint_of, place_splits, require_two_classes
from dropkit.data.store import (
    DiskWriter,
    MemoryWriter,
    Pixels,
    Shape,
    Spool,
    Stored,
    Writer,
    must_stream,
    nameless_file,
    require_space,
)
from dropkit.errors import DropkitError

SHOWN_BAD = 20
_SHOWN_SKIPPED = 5
_VERSION = 1  # of how pictures are decoded and kept: another one makes spools of earlier versions unknown

Indices = npt.NDArray[np.int64]


class Source(Protocol):
    """Where pixels come from: looked through once, then read once."""

    def survey(self, how: Reading) -> Shape:
        """Return the shape that every picture is to have."""

    def pieces(self, shape: Shape) -> Iterator[tuple[int, Pixels]]:
        """Yield (how many were gone through, pictures [n, C, H, W]) in order; bad ones are not among the pictures."""

    @property
    def bad(self) -> dict[int, str]:
        """Index and reason of each picture that could not be read, complete when `pieces` has ended."""

    @property
    def notes(self) -> list[str]:
        """What a person should know, complete when `pieces` has ended."""


@dataclass
class Listing:
    """What a reader knows of a source before any pixel is decoded."""

    name: str
    class_names: tuple[str, ...]
    counts: list[tuple[str | None, int]]
    """How many pictures each split has; one None where there are no splits."""
    labels: Indices
    ids: tuple[str, ...]
    source: Source
    stamp: list[Any]
    """JSON-writable; changes when the source does (paths, sizes, times)."""
    is_folder: bool = False
    notes: list[str] = field(default_factory=list)


def gather(listing: Listing, how: Reading) -> Pictures:
    """Decode what is listed, or find it decoded in the spool.

    Raises DropkitError when there are fewer than two classes, when pictures are bad and `how` says stop, when
    skipping leaves a class of the training data empty, and when there is no room.
    """
    require_two_classes(listing.name, listing.class_names)
    spool = None
    if how.spool is not None and how.stream != "no":
        spool = Spool(how.spool, _key(listing, how))
    stored = (spool.find() if spool else None) or _decode(listing, how, spool)
    bad = {int(index): reason for index, reason in stored.facts["bad"].items()}
    _refuse_bad(listing, bad, how)
    kept = np.delete(np.arange(len(listing.ids)), list(bad))
    return Pictures(
        name=listing.name,
        held=stored.held,
        labels=torch.from_numpy(listing.labels[kept]),
        class_names=listing.class_names,
        ids=tuple(listing.ids[i] for i in kept),
        given=place_splits(_kept_counts(listing, kept)),
        fingerprint=stored.facts["fingerprint"],
        digests=stored.digests,
        skipped=tuple((listing.ids[index], reason) for index, reason in bad.items()),
        notes=(*listing.notes, *stored.facts["notes"], *_describe_skipped(listing, bad)),
        is_folder=listing.is_folder,
    )


def _key(listing: Listing, how: Reading) -> str:
    told = [_VERSION, listing.stamp, listing.counts, listing.class_names, how.size]
    digest = hashlib.sha256(json.dumps(told).encode())
    digest.update(np.ascontiguousarray(listing.labels, dtype="<i8").data)
    return digest.hexdigest()


def _decode(listing: Listing, how: Reading, spool: Spool | None) -> Stored:
    shape = listing.source.survey(how)
    count = len(listing.ids)
    needed = count * int(np.prod(shape))
    if how.stream == "no" or (how.stream == "auto" and not must_stream(needed, how.copies)):
        return _fill(listing, how, shape, MemoryWriter(count, shape))
    if spool is None:
        require_space(Path(gettempdir()), needed)
        with nameless_file() as file:
            return _fill(listing, how, shape, DiskWriter(file, shape))
    with spool.writing(needed) as file:
        spool.keep(file, _fill(listing, how, shape, DiskWriter(file, shape)))
    found = spool.find()
    if found is None:
        raise DropkitError(f"the decoded pictures in {str(spool.path)!r} are gone: run the command again")
    return found


def _fill(listing: Listing, how: Reading, shape: Shape, writer: Writer) -> Stored:
    source, total = listing.source, len(listing.ids)
    with counting("reading pictures", total, show=how.progress) as tick:
        for done, block in source.pieces(shape):
            writer.append(block)
            tick(done)
    _refuse_bad(listing, source.bad, how)
    held = writer.held()
    kept = np.delete(np.arange(total), list(source.bad))
    fingerprint, digests = fingerprint_of(held, listing.labels[kept], listing.class_names)
    facts = {
        "shape": list(held.shape),
        "fingerprint": fingerprint,
        "bad": {str(index): reason for index, reason in sorted(source.bad.items())},
        "notes": source.notes,
    }
    return Stored(held, digests, facts)


def _kept_counts(listing: Listing, kept: Indices) -> list[tuple[str | None, int]]:
    edges = np.cumsum([0, *(count for _, count in listing.counts)])
    left = np.diff(np.searchsorted(kept, edges)).tolist()
    return [(split, count) for (split, _), count in zip(listing.counts, left, strict=True)]


def _refuse_bad(listing: Listing, bad: dict[int, str], how: Reading) -> None:
    """Raise when bad pictures are to stop the reading, or when a class or a split has only such."""
    if bad and how.on_bad_image == "stop":
        listed = "".join(f"\n  {listing.ids[i]!r}: {bad[i]}" for i in sorted(bad)[:SHOWN_BAD])
        more = f"\n  and {len(bad) - SHOWN_BAD} more" if len(bad) > SHOWN_BAD else ""
        raise DropkitError(
            f"{len(bad)} of {len(listing.ids):,} pictures in {listing.name!r} cannot be read:{listed}{more}\n"
            "Mend or remove them, or leave them out with --on-bad-image skip."
        )
    kept = np.delete(np.arange(len(listing.ids)), list(bad))
    for split, count in _kept_counts(listing, kept):
        if count == 0:
            where = f"the {split} split of {listing.name!r}" if split else f"{listing.name!r}"
            raise DropkitError(f"no picture of {where} can be read, such as {_first_bad(listing, bad)}.")
    trained = kept[: _kept_counts(listing, kept)[0][1]]  # train comes first; without splits this is all
    empty = set(listing.labels[list(bad)].tolist()) - set(listing.labels[trained].tolist()) if bad else set()
    if empty:
        label = min(empty)
        raise DropkitError(
            f"class {listing.class_names[label]!r} has no training picture left after bad ones were skipped, such as "
            f"{_first_bad(listing, bad, label)}. Mend them, or remove the class."
        )


def _first_bad(listing: Listing, bad: dict[int, str], label: int | None = None) -> str:
    index = min(i for i in bad if label is None or listing.labels[i] == label)
    return f"{listing.ids[index]!r} ({bad[index]})"


def _describe_skipped(listing: Listing, bad: dict[int, str]) -> list[str]:
    if not bad:
        return []
    shown = "; ".join(f"{listing.ids[i]!r} ({bad[i]})" for i in sorted(bad)[:_SHOWN_SKIPPED])
    more = "; ..." if len(bad) > _SHOWN_SKIPPED else ""
    return [f"{len(bad)} of {len(listing.ids):,} pictures cannot be read and were skipped: {shown}{more}"]


@dataclass
class Block:
    """A source that is in memory already: pictures [N, C, H, W]."""

    images: Pixels
    bad: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def survey(self, how: Reading) -> Shape:
        """Return the size asked for, else the pictures' own."""
        channels, height, width = self.images.shape[1:]
        return (channels, *(how.size_or(None) or (height, width)))

    def pieces(self, shape: Shape) -> Iterator[tuple[int, Pixels]]:
        """Yield all of them."""
        yield len(self.images), fitted(self.images, shape)


def fitted(images: Pixels, shape: Shape) -> Pixels:
    """Return pictures [n, C, H, W] in the height and width of `shape`."""
    if images.shape[2:] == shape[1:]:
        return images
    from dropkit.data.decoding import resize

    return resize(images, shape[1:])
