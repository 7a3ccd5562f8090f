"""What a figure of the guide is made of: runs that are kept as JSON, a drawing of them, words that quote them."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.utils import PlotlyJSONEncoder

from dropkit.files import read_json
from dropkit.runs.intervals import mean_interval

GUIDE = Path(__file__).resolve().parents[1]
MEASURED, IMAGES = GUIDE / "measured", GUIDE / "images"
QUOTE = re.compile(r"(<!-- measured: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Figure:
    """A figure of the guide.

    Attributes:
        name: of the picture, the record and the quotation.
        chapter: the page that shows it.
        measure: makes the runs; returns their figures as plain JSON.
        draw: from these figures to a plotly figure of WIDTH by its own height.
        quote: from these figures to the Markdown that the chapter quotes.
    """

    name: str
    chapter: str
    measure: Callable[[], dict[str, Any]]
    draw: Callable[[dict[str, Any]], go.Figure]
    quote: Callable[[dict[str, Any]], str]

    @property
    def record(self) -> Path:
        """Where the runs' figures are kept."""
        return MEASURED / f"{self.name}.json"

    @property
    def picture(self) -> Path:
        """Where the drawing is kept."""
        return IMAGES / f"{self.name}.svg"

    def values(self) -> dict[str, Any]:
        """Return what the runs gave when they were last made."""
        return dict(read_json(self.record)["values"])

    def quotation(self) -> str:
        """Return what the chapter quotes."""
        return self.quote(self.values())

    def digest(self) -> str:
        """Return a short hash of the drawing: the picture carries it, so that an old picture is told from a new one."""
        drawn = json.dumps(self.draw(self.values()).to_plotly_json(), cls=PlotlyJSONEncoder, sort_keys=True)
        return hashlib.sha256(drawn.encode()).hexdigest()[:16]


def quoted(text: str, quotes: Mapping[str, Callable[[], str]]) -> str:
    """Return a chapter with its quotations brought up to date.

    Args:
        text: the chapter, with `<!-- measured: NAME -->` and `<!-- end -->` around each quotation.
        quotes: makes the quotation of each name.
    """
    return QUOTE.sub(lambda found: f"{found[1]}\n{quotes[found[2]]().strip()}\n\n{found[4]}", text)


def with_interval(values: Sequence[float], scale: float = 1.0, digits: int = 2, unit: str = "") -> str:
    """Return the mean over seeds and half the width of its 95% interval (Student's t), as the guide's tables show it.

    >>> with_interval([0.1, 0.2, 0.3], 100, 1, "%")
    '20.0% ±24.8'
    """
    mean, low, _ = mean_interval([scale * value for value in values])
    half = "" if low is None else f" ±{mean - low:.{digits}f}"
    return f"{mean:.{digits}f}{unit}{half}"


def change(values: Sequence[float], others: Sequence[float], scale: float = 1.0, digits: int = 2) -> str:
    """Return the mean of `values` less `others`, paired by seed, with its 95% interval.

    >>> change([3.0, 4.0, 5.0], [1.0, 2.0, 2.0], digits=1)
    '+2.3 [+0.9, +3.8]'
    """
    bounds = mean_interval([scale * (a - b) for a, b in zip(values, others, strict=True)])
    mean, low, high = (f"{round(bound, digits) + 0.0:+.{digits}f}" for bound in bounds)  # + 0.0: no minus before 0
    return f"{mean} [{low}, {high}]"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
