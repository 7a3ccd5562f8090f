"""What a person should know of a split: pictures on two sides or under two labels, classes missing, few for test."""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from dropkit.data.grouping import identical
from dropkit.data.pictures import SPLITS, Pictures

Indices = npt.NDArray[np.int64]

FEW_TESTED = 100
"""Fewer test pictures than this get a note on how little they tell."""

_SHOWN = 10
_Z95 = 1.96


def notes_on(pictures: Pictures, parts: Mapping[str, Indices], *, folded: bool) -> list[str]:
    """Return the notes on a split, a line each.

    Args:
        pictures: what was divided.
        parts: the pictures of each split.
        folded: whether the test split is one of several folds, which together hold every picture.
    """
    return [
        *_note_duplicates(pictures, parts),
        *_note_several_labels(pictures),
        *_note_classes(pictures, parts),
        *([] if folded else _note_few_tested(pictures, len(parts["test"]))),
    ]


def count_duplicates(pictures: Pictures, parts: Mapping[str, Indices], split: str) -> int:
    """Return how many pictures of val or test are byte-identical to a training picture."""
    if split not in pictures.given:  # made splits keep identical pictures together
        return 0
    seen = {row.tobytes() for row in pictures.digests[parts["train"]]}
    return sum(row.tobytes() in seen for row in pictures.digests[parts[split]])


def note_groups(groups: Indices, parts: Mapping[str, Indices]) -> list[str]:
    """Count the groups that are on two sides, which happens only where splits came with the data."""
    held = {split: np.unique(groups[part]) for split, part in parts.items()}
    notes = []
    for split in SPLITS[1:]:
        both = np.intersect1d(held[split], held["train"])
        if len(both):
            count = int(np.isin(groups[parts[split]], both).sum())
            notes.append(
                f"{len(both):,} groups are in train and in {split} ({count:,} of {len(parts[split]):,} {split} "
                "pictures): the splits came so with the data."
            )
    return notes


def _note_duplicates(pictures: Pictures, parts: Mapping[str, Indices]) -> list[str]:
    notes = []
    for split, called, means in (
        ("test", "test", "test figures are flattered"),
        ("val", "validation", "validation, which chooses the epoch, is flattered"),
    ):
        count = count_duplicates(pictures, parts, split)
        if count:
            which = "picture is" if count == 1 else "pictures are"
            notes.append(
                f"{count:,} of {len(parts[split]):,} {called} {which} also among the training pictures: {means}. "
                "Remove them from one of the two."
            )
    return notes


def _note_several_labels(pictures: Pictures) -> list[str]:
    labels = pictures.labels.numpy()
    first = identical(pictures, np.arange(len(pictures), dtype=np.int64))
    other = np.flatnonzero(labels != labels[first])
    if not len(other):
        return []
    count = int(np.isin(first, first[other]).sum())
    one, two = pictures.ids[first[other[0]]], pictures.ids[other[0]]
    return [
        f"{count:,} pictures bear several labels, such as {one!r} and {two!r}, which are byte-identical: no model can "
        "be right on all of them. Keep each under one label."
    ]


def _note_classes(pictures: Pictures, parts: Mapping[str, Indices]) -> list[str]:
    """Name classes that are missing from a split that came with the data."""
    notes = []
    for split in SPLITS[1:]:
        there = set(pictures.labels.numpy()[parts[split]].tolist())
        missing = [name for label, name in enumerate(pictures.class_names) if label not in there]
        if missing:
            names = ", ".join(map(repr, missing[:_SHOWN])) + (", ..." if len(missing) > _SHOWN else "")
            notes.append(f"the {split} split has no picture of class {names}: its figures say nothing about it.")
    return notes


def _note_few_tested(pictures: Pictures, tested: int) -> list[str]:
    if tested >= FEW_TESTED:
        return []
    points = round(100 * _Z95 * math.sqrt(0.1 * 0.9 / tested))
    # folds are refused where a test split came with the data
    cure = "a larger test split tells more" if "test" in pictures.given else "--folds 5 tests on every picture"
    which = "picture" if tested == 1 else "pictures"
    return [f"with {tested} test {which} an error of 10% is known to within about {points} points: {cure}."]
