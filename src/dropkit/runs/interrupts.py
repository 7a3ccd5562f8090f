"""Ctrl-C waits until what is being written is written."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def deferred_interrupt() -> Iterator[None]:
    """Hold back KeyboardInterrupt until the end of the block.

    Outside the main thread Python delivers no signals, and the block runs as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[Any] = []
    former = signal.signal(signal.SIGINT, lambda number, frame: pending.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
    if pending:
        if callable(former):
            former(*pending[0])
        elif former != signal.SIG_IGN:
            raise KeyboardInterrupt
