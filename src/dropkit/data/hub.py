"""Pictures from the Hugging Face hub."""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dropkit.data.pictures import SPLIT_OF, SPLITS, Pictures, Reading
from dropkit.data.tables import Table, describe_other_splits, read_tables, require_datasets
from dropkit.errors import DropkitError

if TYPE_CHECKING:
    import pyarrow

_ROWS = 64
_LOGGERS = ("datasets", "huggingface_hub", "httpx", "httpcore", "urllib3")


def read(source: str, how: Reading) -> Pictures:
    """Return the pictures of "hub:ORG/NAME", or of one configuration of it, "hub:ORG/NAME:CONFIGURATION".

    They are downloaded once and kept where the package `datasets` keeps them (HF_HOME). Columns are found as in
    .parquet files (see dropkit.data.parquet.read). Splits other than train, validation and test are left alone. Needs
    the extra `hub`.

    Raises DropkitError when the extra is not installed, when nothing of that name can be loaded, and when columns or
    labels cannot be told.
    """
    datasets = require_datasets(f"data {source!r}")
    match = re.fullmatch(r"hub:([\w.-]+(?:/[\w.-]+)?)(?::([\w.+-]+))?", source)
    if match is None:
        raise DropkitError(f"data {source!r}: allowed is hub:ORG/NAME, or hub:ORG/NAME:CONFIGURATION.")
    name, configuration = match[1], match[2]
    _refuse_local(source, name)
    if not how.progress:
        datasets.disable_progress_bars()
    try:
        with _quiet():
            found = datasets.load_dataset(name, configuration)
    except Exception as error:  # the package raises what the hub, the network or the files lead it to
        raise _not_loaded(source, error) from error
    by_split = {split: found[key] for split in SPLITS for key in found if SPLIT_OF.get(key) == split}
    if "train" not in by_split:
        raise DropkitError(f"data {source!r} have the splits {list(found)} and no 'train': nothing can be learned.")
    other = Counter({key: len(found[key]) for key in found if key not in SPLIT_OF})
    tables = [_table(split, dataset) for split, dataset in by_split.items()]
    stamp = [source, [[split, len(dataset), dataset._fingerprint] for split, dataset in by_split.items()]]
    return read_tables(name.rpartition("/")[2], tables, stamp, how, describe_other_splits(other))


def _refuse_local(source: str, name: str) -> None:
    """Refuse the name of something that is here: `datasets` would read that, and not what the hub has."""
    if Path(name).exists():
        raise DropkitError(
            f"data {source!r} are on the hub, but there is {name!r} in the working folder too: give './{name}' to read "
            "that, or work in another folder to read what the hub has."
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the packages tell of each attempt off the terminal: what comes of it is told once."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _not_loaded(source: str, error: Exception) -> DropkitError:
    if _is_of_network(error):
        return DropkitError(
            f"data {source!r} cannot be loaded: the Hugging Face hub could not be reached. Check the network; data "
            "that "
            "were loaded once are kept and need none."
        )
    told = str(error).strip() or type(error).__name__
    return DropkitError(
        f"data {source!r} cannot be loaded from the hub: {told}. Check the name and the network; a configuration "
        "is chosen by hub:ORG/NAME:CONFIGURATION."
    )


def _is_of_network(error: BaseException | None) -> bool:
    """Tell whether an error, or what caused it, is one of those of Python, httpx or requests on connections."""
    while error is not None:
        if {"ConnectionError", "TransportError"} & {kind.__name__ for kind in type(error).__mro__}:
            return True
        error = error.__cause__
    return False


def _table(split: str, dataset: Any) -> Table:
    def batches(columns: Sequence[str]) -> Iterator["pyarrow.Table"]:
        whole = [column.partition(".")[0] for column in columns]
        yield from dataset.select_columns(whole).with_format("arrow").iter(batch_size=_ROWS)

    return Table(split, dict(dataset.features), batches)
