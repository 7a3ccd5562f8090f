"""Pictures from the Hugging Face hub."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dropkit.data.pictures import SPLIT_OF, SPLITS, Pictures, Reading
from dropkit.data.tables import Table, describe_other_splits, read_tables, require_datasets
from dropkit.errors import DropkitError

if TYPE_CHECKING:
    import pyarrow

_ROWS = 64


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
    if not how.progress:
        datasets.disable_progress_bars()
    try:
        found = datasets.load_dataset(name, configuration)
    except Exception as error:  # the package raises what the hub, the network or the files lead it to
        told = str(error).strip() or type(error).__name__
        raise DropkitError(
            f"data {source!r} cannot be loaded from the hub: {told}. Check the name and the network; a configuration "
            "is chosen by hub:ORG/NAME:CONFIGURATION."
        ) from error
    by_split = {split: found[key] for split in SPLITS for key in found if SPLIT_OF.get(key) == split}
    if "train" not in by_split:
        raise DropkitError(f"data {source!r} have the splits {list(found)} and no 'train': nothing can be learned.")
    other = Counter({key: len(found[key]) for key in found if key not in SPLIT_OF})
    tables = [_table(split, dataset) for split, dataset in by_split.items()]
    stamp = [source, [[split, len(dataset), dataset._fingerprint] for split, dataset in by_split.items()]]
    return read_tables(name.rpartition("/")[2], tables, stamp, how, describe_other_splits(other))


def _table(split: str, dataset: Any) -> Table:
    def batches(columns: Sequence[str]) -> Iterator["pyarrow.Table"]:
        whole = [column.partition(".")[0] for column in columns]
        yield from dataset.select_columns(whole).with_format("arrow").iter(batch_size=_ROWS)

    return Table(split, dict(dataset.features), batches)
