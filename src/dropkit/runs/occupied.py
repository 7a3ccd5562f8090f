"""One process at a time works in a folder: the others are told so, and write nothing."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from dropkit.errors import DropkitError
from dropkit.files import writing

try:
    import fcntl
except ImportError:  # Windows: folders are not held there
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
_PAUSE = 0.05  # seconds between two tries

_held: set[Path] = set()


@contextmanager
def occupied(folder: Path, *, patience: float = 0.0) -> Iterator[None]:
    """Hold a folder while the block runs. The system lets go of it when the process ends, however it ends.

    Within the process that holds it already the block simply runs.

    Args:
        folder: of a run or study; it exists.
        patience: seconds to wait for another process to leave it.

    Raises:
        DropkitError: if another process works in it, naming that.
    """
    path = folder.resolve() / LOCK
    if fcntl is None or path in _held:
        yield
        return
    file = _take(path, time.monotonic() + patience)
    _held.add(path)
    try:
        _sign(file)
        yield
    finally:
        _held.discard(path)
        with suppress(OSError):  # a folder that became read-only meanwhile: the lock goes with the process
            path.unlink(missing_ok=True)
        with suppress(OSError):
            file.close()


def _sign(file: IO[str]) -> None:
    """Say who holds the folder: for the others' message alone, so that a full disk does not matter."""
    with suppress(OSError):
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()


def _take(path: Path, deadline: float) -> IO[str]:
    """Return the lock's file, once it is this process's."""
    while True:
        with writing(path):
            file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read(200).strip()
            file.close()
            if time.monotonic() > deadline:
                raise DropkitError(
                    f"another dropkit ({holder or 'unknown process'}) is at work in {str(path.parent)!r}: wait until "
                    f"it is done or stop it, or give another folder with --out"
                ) from None
            time.sleep(_PAUSE)
            continue
        if _is_there(path, file):
            return file
        file.close()  # its owner has just removed it: whoever comes next would take a new one


def _is_there(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
