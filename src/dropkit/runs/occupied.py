"""One process at a time works in a folder: the others are told so, and write nothing."""

import os
import socket
import stat
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

_held: dict[Path, int] = {}  # and the process that holds it: a forked one has to ask for itself


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
    if fcntl is None or _held.get(path) == os.getpid():
        yield
        return
    file = _take(path, time.monotonic() + patience)
    _held[path] = os.getpid()
    try:
        _sign(file)
        yield
    finally:
        _held.pop(path, None)
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
            file = _opened(path)
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


def _opened(path: Path) -> IO[str]:
    """Open the lock's file, and no other: in a folder that somebody sent it may be a link to anything.

    Raises:
        DropkitError: if it is no file of its own.
        OSError: if it cannot be opened.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags, 0o644)
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(handle)
        raise DropkitError(f"{str(path)!r} is no file of its own: remove it")
    return os.fdopen(handle, "r+", encoding="utf-8")


def _is_there(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
