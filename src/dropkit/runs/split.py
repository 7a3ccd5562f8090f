"""Which pictures are for training, validation and test: given with the data, or made by seed and class."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dropkit.errors import DropkitError
from dropkit.runs.pictures import SPLITS, Pictures

Indices = npt.NDArray[np.int64]

_PERCENT = 15  # of the pictures that are divided, for validation and again for test


@dataclass(frozen=True, eq=False)
class Split:
    """The pictures of each split as sorted index arrays into Pictures; no picture is in two of them.

    >>> from dropkit.runs.pictures import load
    >>> split = make_split(load("digits"), seed=0)
    >>> len(split.train), len(split.val), len(split.test)
    (1258, 270, 269)
    """

    train: Indices
    val: Indices
    test: Indices
    seed: int
    """What the made splits were drawn with."""
    how: str
    """Where each split came from, in a sentence."""

    def to_json(self, pictures: Pictures) -> dict[str, Any]:
        """Return what split.json holds: seed, how, the data's fingerprint and the pictures' ids by split."""
        ids = {split: [pictures.ids[i] for i in getattr(self, split)] for split in SPLITS}
        return {"seed": self.seed, "how": self.how, "fingerprint": pictures.fingerprint, **ids}

    @classmethod
    def from_json(cls, obj: Any, pictures: Pictures) -> "Split":
        """Return the split that to_json wrote for the same pictures.

        Raises DropkitError when the split belongs to other data, or when it is damaged.

        >>> from dropkit.runs.pictures import load
        >>> pictures = load("digits")
        >>> split = make_split(pictures, seed=3)
        >>> Split.from_json(split.to_json(pictures), pictures).val.tolist() == split.val.tolist()
        True
        """
        _check_json(obj)
        if obj["fingerprint"] != pictures.fingerprint:
            raise DropkitError(
                f"the split was made for other data than {pictures.name!r}: its fingerprint is "
                f"{obj['fingerprint'][:12]}, that of the data {pictures.fingerprint[:12]}. Give the data as "
                "they were when the split was made, or start anew with a new split."
            )
        place = {name: i for i, name in enumerate(pictures.ids)}
        lost = [name for split in SPLITS for name in obj[split] if name not in place]
        if lost:
            raise _damaged(f"{pictures.name!r} has no picture {lost[0]!r} ({len(lost)} such)")
        train, val, test = (np.array(sorted(place[i] for i in obj[split]), dtype=np.int64) for split in SPLITS)
        if len(np.unique(np.concatenate([train, val, test]))) < len(train) + len(val) + len(test):
            raise _damaged("a picture is listed twice")
        return cls(train, val, test, obj["seed"], obj["how"])


def _damaged(why: str) -> DropkitError:
    return DropkitError(f"the split cannot be used: {why}. Restore split.json, or start anew with a new split.")


def _check_json(obj: Any) -> None:
    if not isinstance(obj, dict):
        raise _damaged(f"it should be a JSON object, but is {type(obj).__name__}")
    kinds: dict[str, type] = {"seed": int, "how": str, "fingerprint": str, **dict.fromkeys(SPLITS, list)}
    for name, kind in kinds.items():
        if not isinstance(obj.get(name), kind):
            raise _damaged(f"its {name!r} is missing or not of type {kind.__name__}")
    for split in SPLITS:
        if not obj[split] or not all(isinstance(name, str) for name in obj[split]):
            raise _damaged(f"its {split!r} should list one id or more, all of them strings")


def make_split(pictures: Pictures, *, seed: int, max_train: int | None = None) -> Split:
    """Divide pictures into training, validation and test.

    Splits that came with the data stay as they came. A missing one is made of 15 % of the training pictures;
    where both are missing, the pictures are divided 70/15/15. Made splits are stratified by class: each class
    has its share in each, to within one picture where the pictures differ and the class has seven or more.
    Byte-identical pictures stay on one side (where they bear different labels, they count for the class of
    the first), and every class is in every made split.

    max_train cuts the training split to a stratified subset of so many pictures, and a made validation split
    in the same proportion; the test split and given ones stay whole.

    The same pictures, seed and max_train give the same split on every machine.

    Raises DropkitError when a class has fewer distinct pictures than there are splits to be in, or when seed
    or max_train cannot be used.

    >>> from dropkit.runs.pictures import load
    >>> split = make_split(load("digits"), seed=0, max_train=200)
    >>> len(split.train), len(split.val), len(split.test)
    (200, 43, 269)
    """
    _check_number("seed", seed, at_least=0)
    labels = pictures.labels.numpy()
    order = _order(len(pictures), seed)
    parts = {split: np.arange(*place, dtype=np.int64) for split, place in pictures.given.items()}
    made = [split for split in ("val", "test") if split not in parts]
    if made:
        pool = parts.get("train", np.arange(len(pictures), dtype=np.int64))
        parts.update(_divide(pictures, labels, pool, order, made))
    how = _how(pictures, made)
    if max_train is not None:
        whole = len(parts["train"])
        _check_max_train(max_train, labels[parts["train"]])
        parts["train"] = _cut(parts["train"], labels, order, max_train)
        if "val" in made:
            wanted = (2 * len(parts["val"]) * max_train + whole) // (2 * whole)  # rounded half up
            parts["val"] = _cut(parts["val"], labels, order, wanted)
        cut = "train and val" if "val" in made else "train"
        how += f" Of {whole} training pictures {max_train} were kept: {cut} cut by class."
    _require_every_class(pictures, labels[parts["train"]])
    return Split(parts["train"], parts["val"], parts["test"], seed, how)


def _require_every_class(pictures: Pictures, trained: Indices) -> None:
    missing = sorted(set(range(pictures.classes)) - set(trained.tolist()))
    if missing:
        names = ", ".join(repr(pictures.class_names[label]) for label in missing[:5])
        raise DropkitError(
            f"data {pictures.name!r} has no training picture of class {names}{', ...' if len(missing) > 5 else ''}: "
            "add some, or leave the class out. Labels count from 0."
        )


def _check_number(name: str, value: int, at_least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < at_least:
        raise DropkitError(f"{name} is {value!r}: allowed is a whole number, {at_least} or more.")


def _check_max_train(max_train: int, labels: Indices) -> None:
    _check_number("max_train", max_train, at_least=1)
    if max_train > len(labels):
        raise DropkitError(
            f"max_train is {max_train}, but the training split has only {len(labels)} pictures: "
            f"give {len(labels)} or less, or leave max_train out."
        )
    classes = len(np.unique(labels))
    if max_train < classes:
        raise DropkitError(
            f"max_train is {max_train}, but the training split has {classes} classes and each needs a "
            f"picture: give {classes} or more."
        )


def _order(count: int, seed: int) -> Indices:
    """Return each picture's place in a random order: the only draw, so that all else follows from it."""
    keys = np.random.Generator(np.random.PCG64(seed)).random(count)
    order = np.empty(count, dtype=np.int64)
    order[np.argsort(keys, kind="stable")] = np.arange(count)
    return order


def _how(pictures: Pictures, made: Sequence[str]) -> str:
    if not made:
        return "train, val and test as they came with the data."
    rule = "stratified by class, identical pictures kept together"
    if len(made) == 2:
        return f"train, val and test made: 70/15/15 of {len(pictures)} pictures, {rule}."
    start, stop = pictures.given["train"]
    kept = "test" if made == ["val"] else "val"
    return f"{kept} as it came with the data; {made[0]} made: 15 % of {stop - start} training pictures, {rule}."


def _divide(
    pictures: Pictures, labels: Indices, pool: Indices, order: Indices, made: Sequence[str]
) -> dict[str, Indices]:
    """Divide the pictures of pool into train and the made splits."""
    group = _identical(pictures, pool)
    head, size = np.unique(group, return_counts=True)
    head_class = labels[head]
    _check_classes(pictures, np.bincount(head_class, minlength=pictures.classes), len(made) + 1)
    pictures_of = np.bincount(head_class, weights=size, minlength=pictures.classes).astype(np.int64)
    targets = _targets(pictures_of, len(made))
    # the large groups first, while every split can still take them; groups of one size at random
    sequence = np.lexsort((order[head], -size))
    side = np.empty(len(pictures), dtype=np.int64)
    for label in range(pictures.classes):
        members = sequence[head_class[sequence] == label]
        side[head[members]] = _deal(size[members].tolist(), targets[label].tolist())
    return {split: pool[side[group] == i] for i, split in enumerate(["train", *made])}


def _identical(pictures: Pictures, pool: Indices) -> Indices:
    """Return for each picture of pool the index of the first picture with the same bytes."""
    images = pictures.images.numpy()
    first: dict[bytes, int] = {}
    digests = (hashlib.blake2b(images[i].tobytes(), digest_size=16).digest() for i in pool)
    return np.array([first.setdefault(d, int(i)) for d, i in zip(digests, pool, strict=True)], dtype=np.int64)


def _check_classes(pictures: Pictures, distinct: npt.NDArray[np.intp], needed: int) -> None:
    few = [f"{pictures.class_names[i]!r} has {distinct[i]}" for i in np.flatnonzero(distinct < needed)]
    if few:
        more = f" and {len(few) - 5} more classes have too few" if len(few) > 5 else ""
        raise DropkitError(
            f"data {pictures.name!r}: a class needs {needed} distinct pictures or more to be in each of "
            f"{needed} splits, but {', '.join(few[:5])}{more}. Add pictures, leave the class out, or give "
            "the splits yourself."
        )


def _targets(count: Indices, made: int) -> Indices:
    """Return how many pictures of each class go to train and to each made split: [K, 1 + made].

    First what is held out of training is fixed, then halved, so that no share is off by one or more.
    """
    percent = _PERCENT * made
    held = _shares(count * percent, 100, (2 * int(count.sum()) * percent + 100) // 200)
    if made == 1:
        return np.stack([count - held, held], axis=1)
    val = _shares(held, 2, (int(held.sum()) + 1) // 2)
    return np.stack([count - held, val, held - val], axis=1)


def _shares(numerator: Indices, denominator: int, total: int) -> Indices:
    """Round numerator / denominator to whole numbers that sum to total, by largest remainder."""
    share = numerator // denominator
    largest = np.argsort(-(numerator % denominator), kind="stable")
    share[largest[: total - int(share.sum())]] += 1
    return share


def _deal(sizes: list[int], targets: list[int]) -> list[int]:
    """Return the side of each group: the one that lacks most, and no side is left empty."""
    lack = list(targets)
    empty = set(range(len(targets)))
    sides = []
    for i, size in enumerate(sizes):
        open_to = empty if len(sizes) - i <= len(empty) else range(len(lack))
        side = max(open_to, key=lambda s: (lack[s], -s))
        lack[side] -= size
        empty.discard(side)
        sides.append(side)
    return sides


def _cut(part: Indices, labels: Indices, order: Indices, wanted: int) -> Indices:
    """Keep so many pictures of part, each class its share and at least one."""
    count = np.bincount(labels[part])
    share = _shares(count * wanted, len(part), wanted)
    share = np.maximum(share, count > 0)
    while share.sum() > max(wanted, np.count_nonzero(count)):
        # what the rare classes were lifted to, the commonest gives
        share[np.argmax(share)] -= 1
    sequence = np.lexsort((order[part], labels[part]))
    start = np.cumsum(count) - count
    rank = np.empty(len(part), dtype=np.int64)
    rank[sequence] = np.arange(len(part)) - np.repeat(start, count)
    return part[rank < share[labels[part]]]
