"""What a person sees while a study runs: how many trainings are done, how far the others are, how long it takes."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dropkit.runs.display import duration
from dropkit.runs.record import RunFolder

LOOK_EVERY = 2.0  # seconds between two looks at the records of the running trainings
PLAIN_EVERY = 15.0  # seconds between two plain lines while no training ends


@contextmanager
def watch(names: Mapping[Path, str], *, show: bool) -> Iterator[Callable[[Path], None]]:
    """Show the trainings, by folder and name, on standard error; yield what is called with each folder that is done.

    The trainings are followed through their records on disk, wherever they run.
    """
    if not show or not names:
        yield lambda folder: None
        return
    board = _Board(names)
    stop = threading.Event()
    thread = threading.Thread(target=board.follow, args=(stop,), daemon=True)
    with board:
        thread.start()
        try:
            yield board.done
        finally:
            stop.set()
            thread.join()


class _Board:
    """The state of a study's trainings on the screen."""

    def __init__(self, names: Mapping[Path, str]) -> None:
        self.names = names
        self.finished: set[Path] = set()
        self.began = time.monotonic()
        self.last_line = self.began
        console = Console(stderr=True)
        self.progress = None
        if console.is_terminal:
            columns = (TextColumn("trainings"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self.progress = Progress(*columns, TextColumn("{task.fields[now]}"), console=console, transient=True)
            self.task = self.progress.add_task("", total=len(names), now="")

    def __enter__(self) -> "_Board":
        if self.progress is not None:
            self.progress.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self.progress is not None:
            self.progress.stop()

    def done(self, folder: Path) -> None:
        """Say that a training is done."""
        self.finished.add(folder)
        spent = time.monotonic() - self.began
        left = spent / len(self.finished) * (len(self.names) - len(self.finished))
        line = f"{len(self.finished)}/{len(self.names)} trainings, {duration(left)} left: {self.names[folder]} is done"
        if self.progress is not None:
            self.progress.update(self.task, completed=len(self.finished), now=f"about {duration(left)} left")
        else:
            self._say(line)

    def follow(self, stop: threading.Event) -> None:
        """Look at the records of the running trainings until told to stop."""
        while not stop.wait(LOOK_EVERY):
            now = self._running()
            if self.progress is not None:
                self.progress.update(self.task, now="; ".join(now))
            elif now and time.monotonic() - self.last_line >= PLAIN_EVERY:
                self._say("; ".join(now))

    def _running(self) -> list[str]:
        """Return a few words for each training that is under way."""
        words = []
        for path, name in self.names.items():
            folder = RunFolder(path)
            if path in self.finished or not folder.begun or folder.finished:
                continue
            rows = folder.read_metrics()
            if rows:
                words.append(f"{name} epoch {rows[-1]['epoch']}: val error {rows[-1]['val_error']:.2%}")
        return words

    def _say(self, line: str) -> None:
        self.last_line = time.monotonic()
        print(line, file=sys.stderr, flush=True)  # noqa: T201
