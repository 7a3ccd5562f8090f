"""What `dropkit uncertainty` prints: the figures as tables, which read well in a terminal and in a file."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from dropkit.data.names import printable

SIGNALS = {
    "single_entropy": "entropy of the single pass",
    "entropy": "entropy of the average",
    "mutual_information": "mutual information",
}


def print_uncertainty(record: dict[str, Any], console: Console) -> None:
    """Print a record of `dropkit.runs.uncertainty.measure`."""
    for number, (title, table) in enumerate(tables(record)):
        console.print(("\n" if number else "") + title, markup=False, highlight=False, soft_wrap=True)
        console.print(_at_natural_width(table), soft_wrap=True, markup=False, highlight=False)
    for note in record["notes"]:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)


def tables(record: dict[str, Any]) -> Iterator[tuple[str, Table]]:
    """Yield each table with its title."""
    yield (
        f"{record['test']:,} test pictures, {record['samples']} thinned networks; temperatures T fitted on "
        f"{record['validation']:,} validation pictures",
        _methods(record),
    )
    yield "averages of k thinned networks, ± standard error over groups of draws", _averages(record)
    ood = record["ood"]
    if ood is not None:
        yield (
            f"telling {ood['pictures']:,} pictures of {printable(ood['name'])} from the test pictures: AUROC, 1 is "
            "perfect, 0.5 is chance",
            _ood(ood),
        )


def way_name(record: dict[str, Any], way: str) -> str:
    """Return what a way to predict is called."""
    return "single pass" if way == "single" else f"average of {record['samples']}"


def _methods(record: dict[str, Any]) -> Table:
    table = _table("prediction", ["T", "error", "NLL", "Brier", "ECE", "ECE (mass)", "AURC"])
    for row in record["methods"]:
        numbers = [_number(row[key]) for key in ("nll", "brier", "ece", "ece_mass")]
        cells = [f"{row['temperature']:.2f}", f"{row['error']:.2%}", *numbers, _number(row["aurc"], 4)]
        table.add_row(way_name(record, row["way"]), *cells)
    return table


def _averages(record: dict[str, Any]) -> Table:
    table = _table("k", ["groups", "error", "±", "NLL", "±"])
    for row in record["averages"]:
        error_se = "" if row["error_se"] is None else f"{row['error_se']:.2%}"
        nll_se = "" if row["nll_se"] is None else f"{row['nll_se']:.3f}"
        table.add_row(str(row["k"]), str(row["groups"]), f"{row['error']:.2%}", error_se, _number(row["nll"]), nll_se)
    single = record["methods"][0]
    table.add_row("single pass", "", f"{single['error']:.2%}", "", _number(single["nll"]), "")
    return table


def _ood(ood: dict[str, Any]) -> Table:
    table = _table("by", ["AUROC"])
    for signal, value in ood["auroc"].items():
        table.add_row(SIGNALS[signal], _number(value))
    return table


def _at_natural_width(table: Table) -> str:
    """Return the table as text that no narrow terminal squeezes."""
    wide = Console(width=400, force_terminal=False, color_system=None)
    with wide.capture() as captured:
        wide.print(table)
    return "\n".join(line.strip() for line in captured.get().strip().splitlines())


def _number(value: float | None, places: int = 3) -> str:
    return "infinite" if value is None else f"{value:.{places}f}"


def _table(first: str, others: Sequence[str]) -> Table:
    table = Table(box=box.MARKDOWN)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table
