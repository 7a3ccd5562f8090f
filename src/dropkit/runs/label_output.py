"""Labels on standard output, as they come: aligned text, CSV or JSON."""

import csv
import io
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dropkit.data.names import printable
from dropkit.runs.labelling import Label, Sampled

COLUMNS = ("picture", "class", "probability", "second_class", "second_probability")
SAMPLED_COLUMNS = (
    *("samples", "interval_low", "interval_high", "std", "entropy", "expected_entropy", "mutual_information"),
    "variation_ratio",
)
SHOWN_EVERY = 2.0  # seconds
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what makes a spreadsheet compute a cell
_WIDEST_PATH = 60


def print_labels(labels: Iterable[Label], total: int, form: str, *, sampled: bool = False) -> int:
    """Print labels on standard output, and how far it is on standard error; return how many are errors.

    Args:
        labels: as they come.
        total: how many will come.
        form: `text`, `csv` or `json`.
        sampled: whether thinned networks were drawn, so that CSV has columns for what they say.
    """
    errors = 0

    def counted() -> Iterator[Label]:
        nonlocal errors
        for label in followed(labels, total):
            errors += label.error is not None
            yield label

    lines = as_csv(counted(), sampled=sampled) if form == "csv" else FORMS[form](counted())
    for line in lines:
        print(line)  # noqa: T201
    if errors:
        print(f"{errors:,} of {total:,} pictures could not be read", file=sys.stderr)  # noqa: T201
    return errors


def as_text(labels: Iterable[Label]) -> Iterator[str]:
    """Yield a line for each label: path, class, probability, and the next class."""
    width = 0
    for label in labels:
        path = printable(label.picture)
        width = max(width, min(len(path), _WIDEST_PATH))  # paths to come are not known yet: the column grows
        path = path.ljust(width)
        if label.error is not None:
            yield f"{path}  cannot be read: {printable(label.error)}"
            continue
        (first, p), (second, q) = list(label.probabilities.items())[:2]
        yield f"{path}  {p:6.1%}{_between(label)}  {printable(first)}  ({printable(second)} {q:.1%}){_spread(label)}"


def _between(label: Label) -> str:
    if label.sampled is None:
        return ""
    low, high = label.sampled.interval
    return f" [{low:6.1%} to {high:6.1%}]"


def _spread(label: Label) -> str:
    if label.sampled is None:
        return ""
    figures = label.sampled
    return (
        f"  entropy {figures.entropy:.3f}, mutual information {figures.mutual_information:.3f}, std {figures.std:.3f}"
    )


def as_csv(labels: Iterable[Label], *, sampled: bool = False) -> Iterator[str]:
    """Yield lines of CSV, a heading first. No cell begins as a formula does: spreadsheets would compute it.

    Args:
        labels: as they come.
        sampled: whether thinned networks were drawn, so that there are columns for what they say.
    """
    extra = SAMPLED_COLUMNS if sampled else ()
    yield _csv_line([*COLUMNS, *extra, "error"])
    for label in labels:
        best = [cell for name, value in list(label.probabilities.items())[:2] for cell in (name, f"{value:.6f}")]
        cells = best + (_sampled_cells(label.sampled) if label.sampled is not None else [])
        blank = [""] * (len(COLUMNS) - 1 + len(extra) - len(cells))
        yield _csv_line([label.picture, *cells, *blank, label.error or ""])


def _sampled_cells(figures: Sampled) -> list[str]:
    values = (*figures.interval, figures.std, figures.entropy, figures.expected_entropy, figures.mutual_information)
    return [str(figures.samples), *(f"{value:.6f}" for value in (*values, figures.variation_ratio))]


def as_json(labels: Iterable[Label]) -> Iterator[str]:
    """Yield the lines of one JSON list, an object for each label."""
    before = "["
    for label in labels:
        yield f"{before}{json.dumps(label.as_json())}"
        before = ","
    yield "[]" if before == "[" else "]"


FORMS: dict[str, Callable[[Iterable[Label]], Iterator[str]]] = {"text": as_text, "csv": as_csv, "json": as_json}


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    # The module quotes a cell with a line end only where that is one of its own ends of lines.
    writer = csv.writer(line, lineterminator="\r\n")
    writer.writerow([f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in cells])
    return line.getvalue().removesuffix("\r\n")


def followed(labels: Iterable[Label], total: int) -> Iterator[Label]:
    """Yield the labels, and show how many there were: a bar in a terminal, else a plain line now and then.

    Where standard output is a terminal, the rows themselves show how far it is.
    """
    console = Console(stderr=True)
    if sys.stdout.isatty():
        yield from labels
    elif console.is_terminal:
        columns = (TextColumn("pictures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            yield from progress.track(labels, total=total)
    else:
        yield from _with_lines(labels, total)


def _with_lines(labels: Iterable[Label], total: int) -> Iterator[Label]:
    last = time.monotonic()
    for number, label in enumerate(labels, 1):
        yield label
        if time.monotonic() - last >= SHOWN_EVERY:
            print(f"{number:,} of {total:,} pictures", file=sys.stderr, flush=True)  # noqa: T201
            last = time.monotonic()
