"""The result of a study: an object that prints well, and whose record is plain JSON."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dropkit.report.numbers import duration, plural
from dropkit.studies.rounds import describe_rounds

UNEQUAL = 1.5  # times as many test pictures in the largest class as in the smallest: the balanced error is shown


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
        columns = _columns(self.record)
        for name in ("n", *columns):
            table.add_column(name, justify="right", no_wrap=True)
        for row in self.record["policies"]:
            # Text, not str: rich would read brackets in a policy as markup.
            cells = [row["name"], str(row["n"]), *(form(row["metrics"][key]) for key, form in columns.values())]
            table.add_row(*map(Text, cells))
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
        if "sweep" in self.record:
            console.print(Text(self.record["sweep"]["sentence"]))
        if "look" in self.record:  # the first version's records say nothing of a first look
            console.print(Text(self.record["look"]))
        search = self.record.get("search")
        if search:
            for line in _search_lines(search):
                console.print(Text(line))
        console.print(Text(self.recommendation["sentence"]))
        console.print(Text(f"Next: {self.recommendation['command']}"), soft_wrap=True)
        if search:
            use = search["use"]
            console.print(Text(f"To train with {use['policy']} ({use['why']}):\n{search['train']}"), soft_wrap=True)
            console.print(Text(f"In Python:\n{search['python']}"), soft_wrap=True)


def _search_lines(search: dict[str, Any]) -> list[str]:
    """Say what a search found, what it took, and which of its choices mattered."""
    spent, whole, saved = search["spent"], search["whole"], search["saved"]
    cost = (
        f"{plural(spent['epochs'], 'epoch')} in {duration(spent['seconds'])} of training, where "
        f"{plural(len(search['trials']), 'whole training')} would have taken {plural(whole['epochs'], 'epoch')} in "
        f"{duration(whole['seconds'])}: {f'{saved:.0%} saved' if saved > 0 else 'nothing saved'}."
    )
    shares = [
        f"{row['name']} {row['share']:.0%} ({100 * row['low']:.0f} to {row['high']:.0%})"
        for row in search["importance"]
    ]
    mattered = f"What makes the validation loss vary, with 95% intervals: {', '.join(shares)}."
    return [search["sentence"], cost, *([mattered] if shares else [])]


def describe_looks(looks: Sequence[int], pictures: int, unit: str = "seed", *, judged: bool = True) -> str:
    """Say how often the test pictures were looked at, and what several looks mean for the verdict if there is any.

    >>> describe_looks([5], 10000)
    'Look 1 at these 10,000 test pictures.'
    >>> print(describe_looks([5, 10], 10000).replace(". ", ".\\n"))
    Look 2 at these 10,000 test pictures.
    Looked at with 5, then 10 seeds: each further look makes a false positive likelier than 5%.
    """
    first = f"Look {len(looks)} at these {pictures:,} test pictures."
    if len(looks) == 1 or not judged:
        return first
    counts = ", then ".join(map(str, looks))
    return f"{first} Looked at with {counts} {unit}s: each further look makes a false positive likelier than 5%."


def _title(record: dict[str, Any]) -> str:
    data, folds = record["data"], record.get("folds")
    splits = f"{data['train']:,} training, {data['val']:,} validation, {data['test']:,} test pictures"
    if folds is None:
        return f"{data['name']}: {splits}; mean of {len(record['seeds'])} seeds with its 95% interval"
    rounds = describe_rounds(folds["repetitions"], folds["k"])
    return f"{data['name']}: {rounds}, each of some {splits}; mean of them with its 95% interval"


def _columns(record: dict[str, Any]) -> dict[str, tuple[str, Callable[[dict[str, Any]], str]]]:
    """Return the table's columns: what each is called, which figure it shows, and how that is written."""
    unequal = record["metric"] == "balanced-error" or (record.get("imbalance") or 1.0) >= UNEQUAL
    return {
        "error": ("error", _percent),
        **({"balanced": ("balanced_error", _percent)} if unequal else {}),
        "NLL": ("nll", _figure),
        "ECE": ("ece", _figure),
        "gap": ("gap", _figure),
    }


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
    if figure["low"] is None:
        return f"{mean:{form}}{unit}"
    low, high = scale * figure["low"], scale * figure["high"]
    if f"{high - mean:{form}}" == f"{mean - low:{form}}":
        return f"{mean:{form}}{unit} ±{high - mean:{form}}"
    return f"{mean:{form}}{unit} ({low:{form}} to {high:{form}})"  # an end was cut at what is possible
