"""What a person sees while pictures are read: nothing for two seconds, then how far it has come."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

QUIET_FOR = 2.0  # seconds
PLAIN_EVERY = 5.0  # seconds between two plain lines

Tick = Callable[[int], None]
"""Called with how many more are done."""


@contextmanager
def counting(what: str, total: int, *, show: bool) -> Iterator[Tick]:
    """Show on standard error how many of `total` are done, if it takes over two seconds.

    >>> with counting("reading pictures", 7, show=False) as tick:
    ...     tick(7)
    """
    if not show:
        yield lambda count: None
        return
    console = Console(stderr=True)
    if console.is_terminal:
        with _live(what, total, console) as tick:
            yield tick
    else:
        yield _Lines(what, total)


class _Lines:
    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.done = what, total, 0
        self.next = time.monotonic() + QUIET_FOR

    def __call__(self, count: int) -> None:
        self.done += count
        if time.monotonic() >= self.next:
            print(f"{self.what}: {self.done:,} of {self.total:,}", file=sys.stderr, flush=True)  # noqa: T201
            self.next = time.monotonic() + PLAIN_EVERY


@contextmanager
def _live(what: str, total: int, console: Console) -> Iterator[Tick]:
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True)
    task = progress.add_task(what, total=total)
    began = time.monotonic()
    shown = False

    def tick(count: int) -> None:
        nonlocal shown
        progress.advance(task, count)
        if not shown and time.monotonic() - began >= QUIET_FOR:
            progress.start()
            shown = True

    try:
        yield tick
    finally:
        if shown:
            progress.stop()
