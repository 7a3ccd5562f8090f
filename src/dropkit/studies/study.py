"""The result of a study: an object that prints well, and whose record is plain JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Study:
    """Trainings that answered one question together.

    Attributes:
        folder: where the study is kept: `study.json`, `report.html`, `runs/`.
        record: what `study.json` holds: policies, figures, verdicts, recommendation, every run.
    """

    folder: Path
    record: dict[str, Any]

    @property
    def page(self) -> Path:
        """The study's page."""
        return self.folder / "report.html"

    @property
    def recommendation(self) -> dict[str, Any]:
        """The policy to use, why, and the command to type next."""
        return dict(self.record["recommendation"])

    def table(self) -> Table:
        """Return the policies side by side, with 95% intervals over seeds."""
        table = Table(box=None, pad_edge=False)
        table.add_column("policy", overflow="fold")
        for name in ("n", "error", "NLL", "ECE", "gap"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in self.record["policies"]:
            table.add_row(*_cells(row))
        return table

    def __str__(self) -> str:
        """Return the table, the verdicts and the recommendation as plain text."""
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

    def print(self, console: Console) -> None:
        """Show the table, the verdicts and the recommendation."""
        console.print(Text(_title(self.record)), soft_wrap=True)
        console.print(Text(self._table_lines()), soft_wrap=True)
        console.print()
        for row in self.record["policies"][1:]:
            console.print(Text(row["verdict"]["sentence"]))
        console.print()
        if len(self.record["looks"]) > 1:
            console.print(Text(describe_looks(self.record["looks"])))
        console.print(Text(self.recommendation["sentence"]))
        console.print(Text(f"Next: {self.recommendation['command']}"), soft_wrap=True)


def describe_looks(looks: Sequence[int]) -> str:
    """Say what several looks at the same test pictures mean for the verdict.

    >>> describe_looks([5, 10])
    'Looked at with 5, then 10 seeds: each further look makes a false positive likelier than 5%.'
    """
    counts = ", then ".join(map(str, looks))
    return f"Looked at with {counts} seeds: each further look makes a false positive likelier than 5%."


def _title(record: dict[str, Any]) -> str:
    data = record["data"]
    return (
        f"{data['name']}: {data['train']:,} training, {data['val']:,} validation, {data['test']:,} test pictures; "
        f"mean of {len(record['seeds'])} seeds with its 95% interval"
    )


def _cells(row: dict[str, Any]) -> list[Text]:
    figures = row["metrics"]
    cells = [row["name"], str(row["n"]), _percent(figures["error"])]
    # Text, not str: rich would read brackets in a policy as markup.
    return [Text(cell) for cell in [*cells, *(_figure(figures[name]) for name in ("nll", "ece", "gap"))]]


def _percent(figure: dict[str, Any]) -> str:
    return _with_interval(figure, 100.0, ".2f", "%")


def _figure(figure: dict[str, Any]) -> str:
    return _with_interval(figure, 1.0, ".3f", "")


def _with_interval(figure: dict[str, Any], scale: float, digits: str, unit: str) -> str:
    """Return a mean and half the width of its interval; numbers that a diverging training left are kept short."""
    if figure["mean"] is None:
        return "-"
    mean = scale * figure["mean"]
    form = digits if abs(mean) < 1e5 else ".1e"
    half = "" if figure["low"] is None else f" ±{scale * figure['high'] - mean:{form}}"
    return f"{mean:{form}}{unit}{half}"
