"""Ctrl-C and SIGTERM wait until what is being written is written, or until a training can go on from where it is."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM, as a machine that is taken away sends it: whatever Ctrl-C ends in order, it does, too."""


@contextmanager
def terminated_in_order() -> Iterator[None]:
    """Raise `Terminated` in the block where SIGTERM would end the process at once."""
    if not _hears_signals() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def deferred_interrupt() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM until the end of the block.

    Outside the main thread Python delivers no signals, and the block runs as it is.
    """
    with _deferred(signal.SIGINT), _deferred(signal.SIGTERM):
        yield


@contextmanager
def deferred_termination() -> Iterator[Callable[[], bool]]:
    """Hold back SIGTERM until the end of the block; yield what says whether it has come."""
    with _deferred(signal.SIGTERM) as pending:
        yield lambda: bool(pending)


@contextmanager
def _deferred(which: signal.Signals) -> Iterator[list[Any]]:
    """Gather a signal while the block runs, and let it have its effect afterwards."""
    pending: list[Any] = []
    if not _hears_signals():
        yield pending
        return
    former = signal.signal(which, lambda number, frame: pending.append((number, frame)))
    try:
        yield pending
    finally:  # also after an error in the block: the signal is not lost
        signal.signal(which, signal.SIG_DFL if former is None else former)
        if pending and former != signal.SIG_IGN:
            if callable(former):
                former(*pending[0])
            else:
                os.kill(os.getpid(), which)  # the system's own way


def _hears_signals() -> bool:
    return threading.current_thread() is threading.main_thread()


def _raise_terminated(number: int, frame: Any) -> None:
    raise Terminated
