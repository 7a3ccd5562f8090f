"""What a person sees while a training runs: a live line in a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

PLAIN_EVERY = 2.0  # seconds between two plain lines


class Display(Protocol):
    """What a training tells while it runs."""

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Say that a step of an epoch is done."""

    def epoch(self, row: dict[str, Any]) -> None:
        """Say what an epoch brought."""


class Silent:
    """Says nothing."""

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Do nothing."""

    def epoch(self, row: dict[str, Any]) -> None:
        """Do nothing."""


class Lines:
    """Plain lines on standard error, at most one every two seconds, and the last epoch's in any case."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.last = -PLAIN_EVERY
        self.unsaid: str | None = None

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Do nothing: epochs are enough in a log."""

    def epoch(self, row: dict[str, Any]) -> None:
        """Print the epoch, unless a line was printed just now."""
        self.unsaid = describe_epoch(row, self.budget)
        if time.monotonic() - self.last >= PLAIN_EVERY:
            self.flush()

    def flush(self) -> None:
        """Print what was held back."""
        if self.unsaid is not None:
            print(self.unsaid, file=sys.stderr, flush=True)  # noqa: T201
            self.last, self.unsaid = time.monotonic(), None


class Live:
    """One live line in a terminal: epoch, step, loss, gap, speed and time left."""

    def __init__(self, progress: Progress, budget: int) -> None:
        self.progress, self.budget = progress, budget
        self.task = progress.add_task("epoch 1", total=None, row="")

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Move the bar."""
        label = f"epoch {epoch}/{self.budget}"
        self.progress.update(self.task, description=label, total=steps, completed=step)

    def epoch(self, row: dict[str, Any]) -> None:
        """Show the epoch's figures."""
        self.progress.update(self.task, row=describe_figures(row, self.budget))


@contextmanager
def training_display(budget: int, *, show: bool) -> Iterator[Display]:
    """Return what shows a training of at most `budget` epochs on standard error."""
    console = Console(stderr=True)
    if not show:
        yield Silent()
    elif console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=8), TextColumn("{task.fields[row]}"))
        with Progress(*columns, console=console, transient=True) as progress:
            yield Live(progress, budget)
    else:
        lines = Lines(budget)
        try:
            yield lines
        finally:
            lines.flush()


def describe_epoch(row: dict[str, Any], budget: int) -> str:
    """Return an epoch as one plain line."""
    return f"epoch {row['epoch']}/{budget} {describe_figures(row, budget)}"


def describe_figures(row: dict[str, Any], budget: int) -> str:
    """Return losses, gap, speed and time left of an epoch."""
    left = (budget - row["epoch"]) * row["seconds"] / row["epoch"]
    return (
        f"val loss {row['val_loss']:.3f} error {row['val_error']:.2%} "
        f"gap {row['val_loss'] - row['train_loss']:+.3f} {row['images_per_second']:,.0f} images/s "
        f"<{duration(left)} left"
    )


def duration(seconds: float) -> str:
    """Return a time as people say it.

    >>> duration(9), duration(250), duration(7500)
    ('9 s', '4 min', '2 h 05 min')
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
