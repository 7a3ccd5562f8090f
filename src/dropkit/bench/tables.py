"""The record as tables, which read well in a terminal and as Markdown."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


def print_tables(record: dict[str, Any], console: Console) -> None:
    """Print what was timed, where, and how to read it."""
    for line in heading(record):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    for title, table in tables(record):
        console.print(f"\n{title}", markup=False, highlight=False)
        console.print(_at_natural_width(table), soft_wrap=True, markup=False, highlight=False)


def heading(record: dict[str, Any]) -> Iterator[str]:
    """Yield the lines above the tables."""
    where = record["environment"]
    yield (
        f"dropkit {where['dropkit']} ({record['kernels']} kernels), torch {where['torch']}; {where['cpu']}, "
        f"{where['cores']} cores, {where['threads']} threads; device {where['device']}"
    )
    yield (
        f"p = {record['p']:g}; median over n rounds, in each of which all of a table's group take turns, with its "
        "quartiles; x: times the first of the group, the median of the rounds' ratios"
    )
    if record["note"]:
        yield f"note: {record['note']}"


def tables(record: dict[str, Any]) -> Iterator[tuple[str, Table]]:
    """Yield each table with its title."""
    by_task = lambda row: (row["dtype"], row["task"])  # noqa: E731
    for (dtype, task), rows in groupby(record["masks"], by_task):
        yield f"{dtype}, {task}", _mask_table(list(rows))
    by_network = lambda row: (row["network"], row["memory_format"])  # noqa: E731
    for (network, memory_format), rows in groupby(record["networks"], by_network):
        yield f"a training step of {network}, {memory_format}", _network_table(rows)


def _mask_table(rows: list[dict[str, Any]]) -> Table:
    saved = any(row["bytes_saved"] is not None for row in rows)
    table = _table("units", "", "time", "quartiles", "n", "GB/s", "x", *["saved for backward"] * saved)
    before = None
    for row in rows:
        cells = [f"{row['units']:,}" if row["units"] != before else "", row["name"], *_times(row)]
        table.add_row(*cells, f"{row['gb_per_second']:.1f}", _ratio(row), *[_bytes(row["bytes_saved"])] * saved)
        before = row["units"]
    return table


def _network_table(rows: Iterable[dict[str, Any]]) -> Table:
    table = _table("dropout", "time", "quartiles", "n", "x")
    for row in rows:
        table.add_row(row["name"], *_times(row), _ratio(row))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=box.MARKDOWN)
    for name in columns:
        table.add_column(name, justify="left" if name in ("", "dropout") else "right")
    return table


def _times(row: dict[str, Any]) -> tuple[str, str, str]:
    return duration(row["seconds"]), f"{duration(row['low'])} to {duration(row['high'])}", str(row["n"])


def _ratio(row: dict[str, Any]) -> str:
    return f"{row['ratio']:.2f}x" if row["ratio"] < 9.95 else f"{row['ratio']:.0f}x"


def duration(seconds: float) -> str:
    """Return a short time with its unit.

    >>> duration(0.0000123), duration(0.25), duration(3)
    ('12.3 us', '250 ms', '3.00 s')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size or unit == "us":
            value = seconds / size
            break
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"


def _bytes(count: int | None) -> str:
    return "-" if count is None else f"{count:,} B"


def _at_natural_width(table: Table) -> str:
    """Return the table as text that no narrow terminal squeezes."""
    wide = Console(width=400, force_terminal=False, color_system=None)
    with wide.capture() as captured:
        wide.print(table)
    return "\n".join(line.strip() for line in captured.get().strip().splitlines())
