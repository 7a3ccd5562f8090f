"""Which pictures are for training, validation and test: given with the data, or made by seed and class."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array

from dropkit.data.dealing import PERCENT, cut, deal, deal_across, fold_targets, split_targets
from dropkit.data.grouping import groups_of, identical, together
from dropkit.data.pictures import SPLITS, Pictures
from dropkit.data.split_notes import count_duplicates, note_groups, notes_on
from dropkit.errors import DropkitError

Indices = npt.NDArray[np.int64]

FEWEST_OF_CLASS = 7
"""Distinct pictures that a class needs where splits are made: of fewer, 15 % is less than one."""

_SHOWN = 10
_FOLDED = "test: fold"  # how `how` begins where the test split is a fold

Targets = Callable[[Indices, int], Indices]
"""From how many pictures each class has [K], and how many sides there are, to how many go to each side [K, sides]."""


@dataclass(frozen=True, eq=False)
class Split:
    """The pictures of each split as sorted index arrays into Pictures; no picture is in two of them.

    >>> from dropkit.data.pictures import load
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
    duplicates: int = 0
    """Test pictures that are byte-identical to a training picture: only where the splits came with the data."""
    notes: tuple[str, ...] = ()
    """What a person should know of the split, a line each."""

    def to_json(self, pictures: Pictures) -> dict[str, Any]:
        """Return what split.json holds: seed, how, the data's fingerprint and the pictures' ids by split."""
        ids = {split: [pictures.ids[i] for i in getattr(self, split)] for split in SPLITS}
        return {"seed": self.seed, "how": self.how, "fingerprint": pictures.fingerprint, **ids}

    @classmethod
    def from_json(cls, obj: Any, pictures: Pictures) -> "Split":
        """Return the split that to_json wrote for the same pictures.

        Raises DropkitError when the split belongs to other data, or when it is damaged.

        >>> from dropkit.data.pictures import load
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
        parts = dict(zip(SPLITS, (train, val, test), strict=True))
        duplicates = count_duplicates(pictures, parts, "test")
        notes = notes_on(pictures, parts, folded=obj["how"].startswith(_FOLDED))
        return cls(train, val, test, obj["seed"], obj["how"], duplicates, tuple(notes))


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


def make_split(
    pictures: Pictures,
    *,
    seed: int,
    max_train: int | None = None,
    group: str | None = None,
    fold: str | None = None,
) -> Split:
    """Divide pictures into training, validation and test.

    Splits that came with the data stay as they came. A missing one is made of 15 % of the training pictures;
    where both are missing, the pictures are divided 70/15/15. Made splits are stratified by class: each class
    has its share in each, to within one picture where the pictures differ. Byte-identical pictures stay on one
    side (where they bear different labels, they count for the class of the first), and every class is in every
    made split.

    group, a regular expression that is searched in the pictures' ids, keeps the pictures of one group on one side
    of every made split; shares are then kept as nearly as the groups allow. See dropkit.data.grouping.groups_of.

    fold, such as "2/5", takes as test split the second of five parts of the pictures, drawn with the seed and alike
    for all five; 15 % of the rest are for validation.

    max_train cuts the training split to a stratified subset of so many pictures, and a made validation split
    in the same proportion; the test split and given ones stay whole.

    The same pictures and arguments give the same split on every machine.

    Raises DropkitError when a class has fewer than seven distinct pictures (or fewer than there are folds) and splits
    are to be made, when its groups do not suffice for every split, and when an argument cannot be used.

    >>> from dropkit.data.pictures import load
    >>> split = make_split(load("digits"), seed=0, max_train=200)
    >>> len(split.train), len(split.val), len(split.test)
    (200, 43, 269)
    """
    _check_number("seed", seed, at_least=0)
    groups = None if group is None else groups_of(pictures, group)
    deck = _Deck(pictures, pictures.labels.numpy(), _order(len(pictures), seed), groups, seed)
    parts = {split: np.arange(*place, dtype=np.int64) for split, place in pictures.given.items()}
    made = [split for split in SPLITS[1:] if split not in parts]
    if fold is not None:
        part, folds = _parse_fold(fold, pictures)
        parts.update(deck.take_fold(parts.get("train", deck.all), part, folds))
    wanted = [split for split in made if split not in parts]
    if wanted:
        # a fold was taken from enough; what it leaves may be fewer
        parts.update(deck.make(parts.get("train", deck.all), wanted, fewest=FEWEST_OF_CLASS if fold is None else 2))
    how = _how(pictures, made, group, fold)
    if max_train is not None:
        how += _cut(parts, made, deck.labels, deck.order, max_train)
    _require_every_class(pictures, deck.labels[parts["train"]])
    train, val, test = (parts[split] for split in SPLITS)
    duplicates = count_duplicates(pictures, parts, "test")
    notes = notes_on(pictures, parts, folded=fold is not None)
    notes += [] if groups is None else note_groups(groups, parts)
    return Split(train, val, test, seed, how, duplicates, tuple(notes))


def _cut(parts: dict[str, Indices], made: Sequence[str], labels: Indices, order: Indices, max_train: int) -> str:
    """Cut the training split, and a made validation split in proportion; say so in a sentence."""
    whole = len(parts["train"])
    _check_max_train(max_train, labels[parts["train"]])
    parts["train"] = cut(parts["train"], labels, order, max_train)
    if "val" in made:
        wanted = (2 * len(parts["val"]) * max_train + whole) // (2 * whole)  # rounded half up
        parts["val"] = cut(parts["val"], labels, order, wanted)
    which = "train and val" if "val" in made else "train"
    return f" Of {whole} training pictures {max_train} were kept: {which} cut by class."


def _parse_fold(text: str, pictures: Pictures) -> tuple[int, int]:
    """Return (part, folds) of "part/folds"."""
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text, re.ASCII)
    part, folds = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= part <= folds or folds < 2:
        raise DropkitError(f"fold is {text!r}: allowed is I/K with 1 <= I <= K and K at least 2, such as 2/5.")
    if "test" in pictures.given:
        raise DropkitError(
            f"data {pictures.name!r} come with a test split, and folds would make others: leave folds out, or put all "
            "pictures together, without splits."
        )
    return part, folds


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


def _how(pictures: Pictures, made: Sequence[str], group: str | None, fold: str | None) -> str:
    if not made:
        return "train, val and test as they came with the data."
    rule = "stratified by class, identical pictures kept together"
    if group is not None:
        rule = f"stratified by class, identical pictures and those of one group ({group}) kept together"
    start, stop = pictures.given.get("train", (0, len(pictures)))
    if fold is not None:
        part, _, folds = fold.partition("/")
        val = f"val made: {PERCENT} % of the rest" if "val" in made else "val as it came with the data"
        return f"{_FOLDED} {part} of {folds} of {stop - start} pictures; {val}; {rule}."
    if len(made) == 2:
        return f"train, val and test made: 70/15/15 of {len(pictures)} pictures, {rule}."
    kept = "test" if made == ["val"] else "val"
    return f"{kept} as it came with the data; {made[0]} made: 15 % of {stop - start} training pictures, {rule}."


@dataclass(frozen=True, eq=False)
class _Deck:
    """Pictures to be dealt out to splits."""

    pictures: Pictures
    labels: Indices
    order: Indices
    groups: Indices | None
    seed: int

    @property
    def all(self) -> Indices:
        """Every picture."""
        return np.arange(len(self.pictures), dtype=np.int64)

    def take_fold(self, pool: Indices, part: int, folds: int) -> dict[str, Indices]:
        """Divide the pictures of pool into so many folds, one of which is for test, and leave the rest."""
        self._require_enough(pool, max(FEWEST_OF_CLASS, folds))
        sides = self._divide(pool, folds, fold_targets)
        return {"train": np.sort(np.concatenate([*sides[: part - 1], *sides[part:]])), "test": sides[part - 1]}

    def make(self, pool: Indices, wanted: Sequence[str], *, fewest: int = FEWEST_OF_CLASS) -> dict[str, Indices]:
        """Divide the pictures of pool into train and the splits wanted."""
        self._require_enough(pool, fewest)
        return dict(zip(["train", *wanted], self._divide(pool, 1 + len(wanted), split_targets), strict=True))

    def _divide(self, pool: Indices, count: int, targets: Targets) -> list[Indices]:
        """Divide the pictures of pool into so many parts."""
        stay = together(pool, identical(self.pictures, pool), self.groups)
        head, number = np.unique(stay, return_inverse=True)
        several = self.groups is not None and bool((self.labels[pool] != self.labels[stay]).any())
        side = self._across(pool, number, count, targets) if several else self._by_class(head, number, count, targets)
        return [pool[side[number] == i] for i in range(count)]

    def _by_class(self, head: Indices, number: Indices, count: int, targets: Targets) -> Indices:
        """Return each group's side where every group counts for the class of its first picture."""
        size = np.bincount(number)
        head_class = self.labels[head]
        classes = self.pictures.classes
        self._require_groups(np.bincount(head_class, minlength=classes), count)
        pictures_of = np.bincount(head_class, weights=size, minlength=classes).astype(np.int64)
        wanted = targets(pictures_of, count)
        # the large groups first, while every split can still take them; groups of one size at random
        sequence = np.lexsort((self.order[head], -size))
        side = np.empty(len(head), dtype=np.int64)
        for label in range(classes):
            members = sequence[head_class[sequence] == label]
            side[members] = deal(size[members].tolist(), wanted[label].tolist())
        return side

    def _across(self, pool: Indices, number: Indices, count: int, targets: Targets) -> Indices:
        """Return each group's side where groups hold pictures of several classes."""
        labels = self.labels[pool]
        shape = (int(number.max()) + 1, self.pictures.classes)
        content = coo_array((np.ones(len(pool), dtype=np.int64), (number, labels)), shape=shape).tocsr()
        self._require_groups(np.asarray((content > 0).sum(axis=0)).ravel(), count)
        wanted = targets(np.bincount(labels, minlength=shape[1]), count)
        side = deal_across(content, wanted, self.seed)
        if side is None:
            raise DropkitError(
                f"data {self.pictures.name!r}: the groups could not be divided so that every class is in each of "
                f"{count} splits. Make the groups smaller, or give the splits yourself."
            )
        return side

    def _require_enough(self, pool: Indices, needed: int) -> None:
        """Raise when a class has fewer distinct pictures in pool than needed."""
        head = identical(self.pictures, pool)
        classes = self.pictures.classes
        distinct = np.bincount(self.labels[np.unique(head)], minlength=classes)
        pairs = np.unique(np.stack([head, self.labels[pool]]), axis=1)
        own = np.bincount(pairs[1], minlength=classes)
        few = [
            f"{self.pictures.class_names[i]!r} has {own[i]}"
            + (
                f" ({own[i] - distinct[i]} of which count for another class that has them too)"
                if own[i] > distinct[i]
                else ""
            )
            for i in np.flatnonzero(distinct < needed)
        ]
        if few:
            raise DropkitError(
                f"data {self.pictures.name!r}: where splits are made, a class needs {needed} distinct pictures or "
                f"more, but {_capped(few)}. Add pictures, leave the class out, or give the splits yourself."
            )

    def _require_groups(self, found: npt.NDArray[Any], needed: int) -> None:
        few = [f"{self.pictures.class_names[i]!r} has {found[i]}" for i in np.flatnonzero(found < needed)]
        if few:
            raise DropkitError(
                f"data {self.pictures.name!r}: a class needs pictures of {needed} groups or more to be in each of "
                f"{needed} splits, but {_capped(few)}. Make the groups smaller, add pictures, or give the splits "
                "yourself."
            )


def _capped(few: list[str]) -> str:
    more = f" and {len(few) - _SHOWN} more classes have too few" if len(few) > _SHOWN else ""
    return ", ".join(few[:_SHOWN]) + more
