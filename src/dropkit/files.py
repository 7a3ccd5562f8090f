"""Writing so that a file is whole or not there: temporary file, fsync, rename."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dropkit.errors import DropkitError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say what the system refuses in the block in words that help.

    Raises:
        DropkitError: if the disk is full or the file cannot be written, saying what to do.
    """
    try:
        yield
    except OSError as refusal:
        reason = f"cannot write {str(path)!r}: {(refusal.strerror or str(refusal)).lower()}."
        if refusal.errno in _FULL:
            raise DropkitError(f"{reason} Make room; what was finished is kept, and the same command goes on") from None
        raise DropkitError(f"{reason} Make it writable, or give another folder or file with --out") from None


def write_atomic(path: Path, content: bytes) -> None:
    """Replace the file at `path` by `content`; whoever looks sees the old file or the whole new one.

    Raises:
        DropkitError: if the disk is full, or the folder cannot be written to. The old file stands.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        _remove_parts_of_the_dead(path)
        try:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            _remove(part)
            raise
        _sync_folder(path.parent)


def _remove_parts_of_the_dead(path: Path) -> None:
    """Remove what processes that were killed in the middle of this file left beside it."""
    before, after = f".{path.name}.", ".part"
    with os.scandir(path.parent) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(before) and entry.name.endswith(after)]
    for name in names:
        number = name[len(before) : -len(after)]
        if number.isdecimal() and not _lives(int(number)):
            _remove(path.parent / name)


def _lives(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def append_line(path: Path, line: str) -> None:
    """Add a line to a file; what the system refuses in its middle is taken back.

    Raises:
        DropkitError: as `write_atomic`.
    """
    with writing(path):
        before = path.stat().st_size if path.exists() else 0
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
            with os.fdopen(os.open(path, flags, 0o644), "a", encoding="utf-8") as file:
                file.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):  # it may never have been opened: the first refusal is the one to tell of
                os.truncate(path, before)
            raise


def _remove(path: Path) -> None:
    with suppress(OSError):  # the folder has become read-only: the first refusal is the one to tell of
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut, where the system lets a folder be synced."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON for people and programs: indented, no NaN."""
    text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)
    write_atomic(path, (text + "\n").encode())


AGAIN = "delete its folder and run the command again"
MADE_AGAIN = "delete this file, which can be made again"


def read_json(path: Path, cure: str = AGAIN) -> Any:
    """Return what the JSON file at `path` holds.

    Args:
        path: of the file.
        cure: what to do where it is damaged.

    Raises:
        DropkitError: if the file is missing, cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise DropkitError(f"{path} is damaged ({error}): {cure}") from None
    except RecursionError:
        raise DropkitError(f"{path} is damaged (it is nested without end): {cure}") from None
    except FileNotFoundError:
        raise DropkitError(f"{path} is missing: restore it, or {cure}") from None
    except OSError as error:
        raise DropkitError(f"{path} cannot be read ({error.strerror}): restore it, or {cure}") from None


def read_record(path: Path, cure: str = AGAIN) -> dict[str, Any]:
    """Return the JSON object that the file at `path` holds.

    Raises:
        DropkitError: as `read_json`, and if it is none.
    """
    found = read_json(path, cure)
    if not isinstance(found, dict):
        raise DropkitError(f"{path} is damaged (it is {found!r:.40}): {cure}")
    return found


def make_folder(path: Path) -> None:
    """Create the folder and its parents.

    Raises:
        DropkitError: if it cannot be created or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DropkitError(
            f"cannot use the folder {str(path)!r}: {error.strerror}. Give another one with --out"
        ) from None
    if not os.access(path, os.W_OK):
        raise DropkitError(f"cannot write to the folder {str(path)!r}. Give another one with --out")
