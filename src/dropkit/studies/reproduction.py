"""The result of a reproduction: an object that prints well, and whose record is plain JSON."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dropkit.report.numbers import duration, plural
from dropkit.studies.reproduction_words import our_figure, paper_figure


@dataclass(frozen=True)
class Reproduction:
    """A table or figure of a paper, trained again.

    Attributes:
        folder: where it is kept: `reproduction.json`, `report.html`, `runs/`.
        record: what `reproduction.json` holds: rows, claims, what differs, every run.
    """

    folder: Path
    record: dict[str, Any]

    @property
    def page(self) -> Path:
        """The reproduction's page."""
        return self.folder / "report.html"

    @property
    def diverged(self) -> bool:
        """Whether the loss of any training stopped being a number."""
        return any(run["status"] == "diverged" for run in self.record["runs"])

    def table(self) -> Table:
        """Return ours beside the paper's, with 95% intervals over seeds."""
        measures = {row["measure"] for row in self.record["rows"]}
        table = Table(box=None, pad_edge=False)
        table.add_column("", overflow="fold")
        columns = ["n", "ours", "the paper's"]
        for name in columns if len(measures) == 1 else ["measure", *columns]:
            table.add_column(name, justify="right" if name != "measure" else "left", no_wrap=True)
        for row in self.record["rows"]:
            measure = [] if len(measures) == 1 else [row["measure"]]
            # Text, not str: rich would read brackets in a policy as markup.
            cells = [row["name"], *measure, str(row["n"]), our_figure(row), paper_figure(row)]
            table.add_row(*map(Text, cells))
        return table

    def print(self, console: Console) -> None:
        """Show the table, what it says, and what differs from the paper."""
        record = self.record
        console.print(Text(_title(record)), soft_wrap=True)
        console.print(Text(self._table_lines()), soft_wrap=True)
        console.print()
        beside = [row for row in record["rows"] if row["paper"] is not None]
        for row in beside:
            console.print(Text(row["sentence"]))
        if beside:
            console.print()
        for claim in record["claims"]:
            console.print(Text(claim["sentence"]))
        for mark in record["marks"]:
            console.print(Text(mark_line(mark)))
        console.print("\nWhat is not as in the paper:")
        for sentence in record["differences"]:
            console.print(Text(f"- {sentence}"))
        console.print(Text(f"\n{len(record['runs'])} trainings, {duration(record['seconds'])} of training summed."))

    def __str__(self) -> str:
        """Return all of it as plain text."""
        console = Console(width=120, force_terminal=False, color_system=None)
        with console.capture() as captured:
            self.print(console)
        return captured.get().rstrip()

    def _table_lines(self) -> str:
        """Return the table at its natural width: in a narrow terminal rich would squeeze columns to single letters."""
        wide = Console(width=400, force_terminal=False, color_system=None)
        with wide.capture() as captured:
            wide.print(self.table())
        return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())


def mark_line(mark: dict[str, Any]) -> str:
    """Say whether a mark is reached.

    >>> mark_line({"sentence": "L2: at or under 1.77%", "reached": True})
    'Mark reached: L2: at or under 1.77%.'
    """
    words = {True: "Mark reached", False: "Mark not reached", None: "Mark still open"}[mark["reached"]]
    return f"{words}: {mark['sentence']}."


def _title(record: dict[str, Any]) -> str:
    seeds = plural(len(record["seeds"]), "seed")
    return f"{record['title']} ({record['where']}), {record['budget']} budget; mean over {seeds} with its 95% interval"
