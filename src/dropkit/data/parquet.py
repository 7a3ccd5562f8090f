"""Pictures from .parquet files, as Hugging Face's datasets writes them."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dropkit.data.pictures import SPLIT_OF, SPLITS, Pictures, Reading
from dropkit.data.tables import Table, read_tables, require_datasets
from dropkit.errors import DropkitError

if TYPE_CHECKING:
    import pyarrow

_ROWS = 64  # that are in memory at once
_BUFFER = 2**20  # bytes read at once of a column, which may be gigabytes long


def is_parquet(folder: Path) -> bool:
    """Say whether a folder holds .parquet files: in itself, in `data`, or in folders named as splits."""
    return bool(_files(folder))


def read(path: Path, how: Reading | None = None) -> Pictures:
    """Return the pictures of a .parquet file, or of a folder of such files.

    Splits are told by the files' names (train-00000-of-00002.parquet, test.parquet) or by those of their folders
    (train/0000.parquet); a single file has none. The column of pictures is the one of type Image, or the one named
    image with each picture's bytes; that of labels is the one of type ClassLabel, or the one named label with numbers
    or text. Needs the extra `hub`.

    Raises DropkitError when the extra is not installed, when a file is damaged, and when columns, labels or splits
    cannot be told.
    """
    datasets = require_datasets("reading .parquet files")
    files = _files(path) if path.is_dir() else [path]
    by_split = _by_split(path, files)
    try:
        tables = [_table(datasets, split, files) for split, files in by_split.items()]
        for table in tables:
            if table.features.keys() != tables[0].features.keys():
                raise _other_columns(path, tables[0], table)
        stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return read_tables(path.stem, tables, ["parquet", stats], how or Reading())
    except (OSError, ValueError) as error:  # pyarrow's errors are of these kinds
        raise DropkitError(f"{str(path)!r} cannot be read as parquet: {error}. Write the files anew.") from error


def _files(folder: Path) -> list[Path]:
    inside = [folder, folder / "data", *(entry for entry in folder.glob("*") if entry.name.lower() in SPLIT_OF)]
    return sorted(file for place in inside for file in place.glob("*.parquet") if not file.name.startswith("."))


def _by_split(path: Path, files: Sequence[Path]) -> dict[str | None, list[Path]]:
    """Return the files of each split, train first."""
    if path.is_file():
        return {None: list(files)}
    found: dict[str | None, list[Path]] = {}
    for file in files:
        found.setdefault(_split(file, path), []).append(file)
    if None in found and len(found) > 1:
        raise DropkitError(
            f"folder {str(path)!r} has {found[None][0].name!r} beside the splits {sorted(filter(None, found))}: begin "
            "the name of each file with train, validation or test, or of none."
        )
    if None not in found and "train" not in found:
        raise DropkitError(
            f"folder {str(path)!r} has {sorted(filter(None, found))} but no train: name the files with the training "
            "pictures train-....parquet."
        )
    return {split: found[split] for split in (None, *SPLITS) if split in found}


def _split(file: Path, root: Path) -> str | None:
    if file.parent not in (root, root / "data"):
        return SPLIT_OF[file.parent.name.lower()]
    match = re.match(r"([a-z]+)(?![a-z])", file.name.lower())
    return SPLIT_OF.get(match[1]) if match else None


def _table(datasets: Any, split: str | None, files: list[Path]) -> Table:
    import pyarrow.parquet

    schema = pyarrow.parquet.read_schema(files[0])
    features = dict(datasets.Features.from_arrow_schema(schema))

    def batches(columns: Sequence[str]) -> Iterator["pyarrow.RecordBatch"]:
        for path in files:
            with pyarrow.parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
                yield from file.iter_batches(batch_size=_ROWS, columns=list(columns), use_threads=False)

    return Table(split, features, batches)


def _other_columns(path: Path, first: Table, other: Table) -> DropkitError:
    return DropkitError(
        f"{str(path)!r}: the {other.split} split has the columns {sorted(other.features)}, and train has "
        f"{sorted(first.features)}: allowed are the same in all."
    )
