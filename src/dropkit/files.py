"""Writing so that a file is whole or not there: temporary file, fsync, rename."""

import json
import os
from pathlib import Path
from typing import Any

from dropkit.errors import DropkitError


def write_atomic(path: Path, content: bytes) -> None:
    """Replace the file at `path` by `content`; whoever looks sees the old file or the whole new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


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


def read_json(path: Path) -> Any:
    """Return what the JSON file at `path` holds.

    Raises:
        DropkitError: if the file is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise DropkitError(f"{path} is damaged ({error}): delete its folder and run the command again") from None


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
