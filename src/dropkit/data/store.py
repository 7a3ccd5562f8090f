"""Decoded pictures in memory or in one file on disk, written once, piece by piece, and read by index."""

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from dropkit.data.memory import available_memory
from dropkit.errors import DropkitError
from dropkit.files import make_folder, read_json, write_json

Pixels = npt.NDArray[np.uint8]
Shape = tuple[int, int, int]
"""Channels, height and width."""

DIGEST_BYTES = 16
_PIECE = 32 * 2**20  # bytes read at once where all pictures are gone through
_SPARE = 64 * 2**20  # bytes to leave free on the disk
_PREFIX = ".pictures-"


class DiskPixels:
    """Pictures in a file: uint8 records [C, H, W], one after the other.

    Records are read and not mapped into memory: mapped pages would count as the process's own.
    """

    def __init__(self, file: BinaryIO, count: int, shape: Shape, path: Path | None = None) -> None:
        self.shape = (count, *shape)
        self.record = int(np.prod(shape))
        self.path = path
        self.file = file
        self.lock = threading.Lock()
        weakref.finalize(self, file.close)

    def read(self, indices: npt.NDArray[np.int64]) -> torch.Tensor:
        """Return the pictures [n, C, H, W] at the indices, in their order; any number of threads may read."""
        if len(indices) and not 0 <= indices.min() <= indices.max() < self.shape[0]:
            raise IndexError(f"there are {self.shape[0]} pictures: no index {indices.min()}..{indices.max()}")
        out = torch.empty((len(indices), *self.shape[1:]), dtype=torch.uint8)
        rows = out.numpy().reshape(len(indices), self.record)
        runs = np.flatnonzero(np.diff(indices) != 1) + 1  # neighbours are read in one go
        for start, stop in zip([0, *runs.tolist()], [*runs.tolist(), len(indices)], strict=True):
            if stop > start:
                self._fill(rows[start:stop].data.cast("B"), int(indices[start]) * self.record)
        return out

    def _fill(self, view: memoryview, offset: int) -> None:
        while view:
            got = self._read_into(view, offset)
            if got == 0:
                raise DropkitError(f"the file {self.file.name!r} of decoded pictures was cut short: begin again")
            view, offset = view[got:], offset + got

    def _read_into(self, view: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self.file.fileno(), [view], offset)
        with self.lock:  # the file has one position for all threads
            os.lseek(self.file.fileno(), offset, os.SEEK_SET)
            content = os.read(self.file.fileno(), len(view))
        view[: len(content)] = content
        return len(content)

    def remove(self) -> None:
        """Delete the file, and its folder where that leaves it empty; who has it open may go on reading."""
        if self.path is not None:
            for path in (self.path, _sidecar(self.path)):
                with suppress(OSError):  # Windows keeps a file that is open
                    path.unlink(missing_ok=True)
            with suppress(OSError):  # something else is in it
                self.path.parent.rmdir()


Held = torch.Tensor | DiskPixels
"""Pictures uint8 [N, C, H, W], in memory or on disk."""


def in_pieces(held: Held) -> Iterator[Pixels]:
    """Yield all pictures in order, some megabytes at a time."""
    count = held.shape[0]
    step = max(1, _PIECE // max(1, int(np.prod(held.shape[1:]))))
    for start in range(0, count, step):
        stop = min(start + step, count)
        if isinstance(held, DiskPixels):
            yield held.read(np.arange(start, stop)).numpy()
        else:
            yield held[start:stop].numpy()


class MemoryWriter:
    """Fills one array that was made at the start: nothing is ever held twice."""

    def __init__(self, count: int, shape: Shape) -> None:
        try:
            self.array = np.empty((count, *shape), dtype=np.uint8)
        except (MemoryError, ValueError) as error:
            raise DropkitError(
                f"{count:,} pictures of {'x'.join(map(str, shape))} need {_gigabytes(count * int(np.prod(shape)))} of "
                "memory, which this machine does not give. Read them from disk with --stream yes, or make them "
                "smaller with --image-size"
            ) from error
        self.done = 0

    def append(self, block: Pixels) -> None:
        """Add pictures [n, C, H, W]."""
        self.array[self.done : self.done + len(block)] = block
        self.done += len(block)

    def held(self) -> torch.Tensor:
        """Return what was added."""
        return torch.from_numpy(self.array[: self.done])


class DiskWriter:
    """Writes records to an open file."""

    def __init__(self, file: BinaryIO, shape: Shape) -> None:
        self.file, self.shape, self.done = file, shape, 0

    def append(self, block: Pixels) -> None:
        """Add pictures [n, C, H, W]."""
        try:
            self.file.write(np.ascontiguousarray(block).data)
        except OSError as error:
            written = _gigabytes(self.done * int(np.prod(self.shape)))
            raise DropkitError(
                f"the decoded pictures cannot be written to disk after {written}: {error.strerror}. Make room, or make "
                "the pictures smaller with --image-size"
            ) from error
        self.done += len(block)

    def held(self) -> DiskPixels:
        """Return what was added, to be read while the writer's file is open."""
        self.file.flush()
        return DiskPixels(self.file, self.done, self.shape)


Writer = MemoryWriter | DiskWriter


@dataclass(frozen=True)
class Stored:
    """Decoded pictures and what was found out about them."""

    held: Held
    digests: Pixels
    """[N, 16]"""
    facts: dict[str, Any]
    """JSON-writable."""


class Spool:
    """The file in a run's or a study's folder that holds decoded pictures while they are trained on.

    Its name holds a key made of what the pictures come from and how they are brought to their size, so that a resumed
    run, or another process of the same study, finds it. It lies there whole or not at all.

    Args:
        folder: where it is kept; made where there is none.
        key: hexadecimal.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.path = folder / f"{_PREFIX}{key[:16]}.raw"

    def find(self) -> Stored | None:
        """Return what an earlier call kept, None where nothing (or nothing whole) is there."""
        try:
            facts = read_json(_sidecar(self.path))
            count, *shape = facts["shape"]
            file = self.path.open("rb", buffering=0)
        except (OSError, DropkitError, KeyError, TypeError, ValueError):
            return None
        held = DiskPixels(file, count, tuple(shape), self.path)
        if os.fstat(file.fileno()).st_size != count * (held.record + DIGEST_BYTES):
            return None
        file.seek(count * held.record)
        digests = np.frombuffer(file.read(), dtype=np.uint8).reshape(count, DIGEST_BYTES)
        return Stored(held, digests, facts)

    @contextmanager
    def writing(self, needed: int) -> Iterator[BinaryIO]:
        """Open the file under a temporary name; if the block is left by an error nothing remains.

        Raises DropkitError when there is no room for so many bytes.
        """
        folder = self.path.parent
        require_space(next(place for place in (folder, *folder.resolve().parents) if place.exists()), needed)
        new = not folder.exists()
        make_folder(folder)
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        try:
            with part.open("w+b") as file:
                yield file
        except BaseException:
            part.unlink(missing_ok=True)
            if new:
                with suppress(OSError):  # another process may have put something there
                    folder.rmdir()
            raise

    def keep(self, file: BinaryIO, stored: Stored) -> None:
        """Give the written file its name: first the pictures, then the facts that say they are whole."""
        file.seek(0, os.SEEK_END)
        file.write(stored.digests.tobytes())
        file.flush()
        os.fsync(file.fileno())
        Path(file.name).replace(self.path)
        write_json(_sidecar(self.path), stored.facts)


def _sidecar(path: Path) -> Path:
    return path.with_suffix(".json")


def remove_spools(folder: Path) -> None:
    """Delete all decoded pictures that were kept in a folder, parts left by a killed process included."""
    for path in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            path.unlink(missing_ok=True)


@contextmanager
def nameless_file() -> Iterator[BinaryIO]:
    """Open a file in the folder for temporary files that is gone when it is closed, or when the process ends."""
    file = tempfile.TemporaryFile(prefix=_PREFIX)  # noqa: SIM115
    try:
        yield file
    except BaseException:
        file.close()
        raise


def require_space(folder: Path, needed: int) -> None:
    """Raise if the disk of a folder has no room for so many bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE:
        raise DropkitError(
            f"the pictures do not fit into memory and need {_gigabytes(needed)} on the disk of {str(folder)!r}, which "
            f"has {_gigabytes(free)} free: make room, give a folder on another disk, or make the pictures smaller with "
            "--image-size"
        )


def must_stream(needed: int, copies: int) -> bool:
    """Say whether so many bytes, held by so many processes, are more than half of the memory that is available."""
    return needed * copies > available_memory() // 2


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
