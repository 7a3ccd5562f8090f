"""Pictures in the rows of tables, as Hugging Face's datasets keeps them: which columns hold them, and what they say."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dropkit.data.listing import Listing, gather
from dropkit.data.picture_files import PictureFiles
from dropkit.data.pictures import Pictures, Reading
from dropkit.errors import DropkitError, missing_extra

if TYPE_CHECKING:
    import pyarrow

Labels = npt.NDArray[np.int64]

_LABEL_NAMES = ("label", "labels", "class", "category", "target", "fine_label")
_IMAGE_NAMES = ("image", "img", "images", "picture")


@dataclass(frozen=True)
class Table:
    """One split of the data, or all of it, read a few rows at a time."""

    split: str | None
    features: dict[str, Any]
    """Column name to Hugging Face feature."""
    batches: Callable[[Sequence[str]], Iterator["pyarrow.RecordBatch | pyarrow.Table"]]
    """Yields the rows of some columns; "image.path" means that field alone."""


@dataclass(frozen=True)
class Columns:
    """Which columns hold what."""

    image: str
    nested: bool
    """Whether a picture is a record of bytes and path, and not bytes alone."""
    label: str
    names: tuple[str, ...] | None
    """The classes in the order of their numbers, where the table has them."""


def require_datasets(what: str) -> Any:
    """Return the package `datasets`, or raise the error that names the extra it comes with."""
    try:
        import datasets
    except ImportError:
        raise missing_extra(what, "hub") from None
    return datasets


def read_tables(
    name: str, tables: Sequence[Table], stamp: list[Any], how: Reading, notes: Sequence[str] = ()
) -> Pictures:
    """Return the pictures of tables that have the same columns.

    Args:
        name: of the data.
        tables: train first.
        stamp: what changes when the data do, JSON-writable.
        how: how to read them.
        notes: what a person should know of them.

    Raises:
        DropkitError: if it is not clear which columns hold pictures and labels, or labels cannot be used.
    """
    columns = find_columns(name, tables[0].features)
    left_out: list[str] = []
    kept: list[Table] = []
    values: list[Any] = []
    ids: list[str] = []
    counts: list[tuple[str | None, int]] = []
    for table in tables:
        found, paths = _look_through(table, columns)
        if table.split != "train" and len(found) and all(value == -1 for value in found):
            left_out.append(f"the {table.split} split has no labels (all are -1) and was left out.")
            continue
        kept.append(table)
        values += found
        ids += [f"{table.split or name}[{i}]" + (f" {path}" if path else "") for i, path in enumerate(paths)]
        counts.append((table.split, len(found)))
    labels, names = _classes(name, values, ids, columns)
    listing = Listing(
        name=name,
        class_names=names,
        counts=counts,
        labels=labels,
        ids=tuple(ids),
        source=PictureFiles(name, tuple(ids), lambda: _contents(kept, columns)),
        stamp=stamp,
        is_folder=True,
        notes=[*notes, *left_out],
    )
    return gather(listing, how)


def find_columns(name: str, features: dict[str, Any]) -> Columns:
    """Return the columns that hold pictures and labels."""
    datasets = require_datasets(f"data {name!r}")
    images = [column for column, feature in features.items() if isinstance(feature, datasets.Image)]
    if not images:  # tables that other programs wrote
        images = [column for column in features if column.lower() in _IMAGE_NAMES and _holds_bytes(features[column])]
    image = _one(name, "pictures", images, features, _IMAGE_NAMES)
    nested = not _is_value(features[image], "binary", "large_binary")
    labels = [column for column, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    if not labels:
        kinds = ("int", "uint", "string", "large_string", "bool")
        labels = [c for c in features if c.lower() in _LABEL_NAMES and _is_value(features[c], *kinds)]
    label = _one(name, "labels", labels, features, _LABEL_NAMES)
    feature = features[label]
    names = tuple(feature.names) if isinstance(feature, datasets.ClassLabel) else None
    return Columns(image, nested, label, names)


def _is_value(feature: Any, *kinds: str) -> bool:
    kind = getattr(feature, "dtype", None)
    return isinstance(kind, str) and kind.rstrip("0123456789") in kinds


def _holds_bytes(feature: Any) -> bool:
    return "bytes" in feature if isinstance(feature, dict) else _is_value(feature, "binary", "large_binary")


def _one(name: str, what: str, found: list[str], features: dict[str, Any], preferred: Sequence[str]) -> str:
    """Return the one column found, or the first of the preferred names among several."""
    if len(found) > 1:
        found = [column for column in preferred if column in found][:1] or found
    if len(found) == 1:
        return found[0]
    held = ", ".join(f"{column!r} ({_kind(feature)})" for column, feature in features.items())
    which = f"several columns of {what}: {', '.join(map(repr, found))}" if found else f"no column of {what}"
    raise DropkitError(
        f"data {name!r} have {which}; their columns are {held}. Needed are one of type Image, or named 'image' with "
        "each picture's bytes, and one of type ClassLabel, or named 'label' with numbers or text: rename or drop "
        "columns."
    )


def _kind(feature: Any) -> str:
    return str(getattr(feature, "dtype", None) or type(feature).__name__)


def _look_through(table: Table, columns: Columns) -> tuple[list[Any], list[str | None]]:
    """Return label and file name of each row, without the pictures."""
    labels: list[Any] = []
    paths: list[str | None] = []
    wanted = [columns.label, *([f"{columns.image}.path"] if columns.nested else [])]
    for batch in table.batches(wanted):
        labels += batch.column(columns.label).to_pylist()
        if columns.nested:
            rows = batch.column(columns.image).to_pylist()
            paths += [row and row.get("path") and Path(row["path"]).name for row in rows]
    return labels, paths or [None] * len(labels)


def _classes(name: str, values: list[Any], ids: list[str], columns: Columns) -> tuple[Labels, tuple[str, ...]]:
    """Return each row's label and the classes' names."""
    if not values:
        raise DropkitError(f"data {name!r} have no rows: nothing can be learned from them.")
    without = [i for i, value in enumerate(values) if value is None]
    if without:
        raise DropkitError(
            f"data {name!r}: {len(without):,} of {len(values):,} rows have no label, such as {ids[without[0]]!r}. "
            "Drop these rows."
        )
    if isinstance(values[0], str):
        names = tuple(sorted(set(values)))
        number = {text: i for i, text in enumerate(names)}
        return np.array([number[text] for text in values], dtype=np.int64), names
    largest = np.iinfo(np.int64).max  # uint64 goes beyond, where no label is allowed
    labels = np.array([min(value, largest) for value in values], dtype=np.int64)
    names = columns.names or tuple(map(str, range(min(int(labels.max()) + 1, len(labels)))))
    wrong = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if len(wrong):
        raise DropkitError(
            f"data {name!r}: the label of {ids[wrong[0]]!r} is {int(values[wrong[0]])}; allowed are "
            f"0..{len(names) - 1} "
            f"({len(wrong):,} {'row has' if len(wrong) == 1 else 'rows have'} others). "
            "Number the classes from 0 without gaps, or drop these rows."
        )
    return labels, names


def _contents(tables: Iterable[Table], columns: Columns) -> Iterator[Path | bytes]:
    """Yield each row's picture: its content, or the path where the table has only that."""
    for table in tables:
        for batch in table.batches([columns.image]):
            for value in batch.column(columns.image):
                row = value.as_py() or b""
                if isinstance(row, dict):
                    row = row.get("bytes") or (Path(row["path"]) if row.get("path") else b"")
                yield row


def describe_other_splits(other: Counter[str]) -> list[str]:
    """Return a note on splits that are neither training, validation nor test."""
    if not other:
        return []
    listed = ", ".join(f"{split!r} ({count:,} rows)" for split, count in other.items())
    return [f"left alone, as they are neither train, validation nor test: {listed}"]
