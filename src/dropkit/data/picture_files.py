"""Many picture files to pixels of one size: looked through once for size and colour, then decoded by threads."""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from dropkit.data.counting import counting
from dropkit.data.decoding import BadPictureError, Header, Pixels, decode, pillow_quiet, read_header
from dropkit.data.pictures import Reading
from dropkit.data.sizes import FOLDER_SIZE, Size, describe_size
from dropkit.data.store import Shape
from dropkit.errors import DropkitError

_MOST_THREADS = 8
_AHEAD = 4  # pictures in the making for each thread: enough to keep all busy, few enough to be small

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass
class PictureFiles:
    """Picture files that are decoded when asked for.

    Args:
        name: of the source, for messages.
        ids: of the pictures.
        files: yields each picture's path or content, in the order of the ids, as often as asked.
    """

    name: str
    ids: tuple[str, ...]
    files: Callable[[], Iterable[Path | bytes]]
    bad: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    native: bool = False
    """Whether pictures are kept at their own size: known when they have been surveyed."""

    def survey(self, how: Reading) -> Shape:
        """Read every header; return one channel where all pictures are gray, and the size asked for or their own."""
        headers: dict[int, Header] = {}
        with counting("looking at pictures", len(self.ids), show=how.progress) as tick:
            for index, found in enumerate(in_order(_header, self.files())):
                tick(1)
                if isinstance(found, Header):
                    headers[index] = found
                else:
                    self.bad[index] = found.reason
        channels = 1 if all(header.gray for header in headers.values()) else 3
        size = how.size_or(FOLDER_SIZE)
        self.native = size is None
        if size is None:
            size = self._own_size(headers)
        elif how.size is None:
            self._note_small(headers, size)
        return (channels, *size)

    def pieces(self, shape: Shape) -> Iterator[tuple[int, Pixels]]:
        """Yield the pictures one by one; a bad one as a block of none."""
        channels, height, width = shape

        def pixels(file: Path | bytes) -> Pixels | BadPictureError:
            try:
                return decode(file, size=None if self.native else (height, width), channels=channels)
            except BadPictureError as error:
                return error

        last = 0
        for index, found in enumerate(in_order(pixels, self.files())):
            if isinstance(found, BadPictureError):
                self.bad[index] = found.reason
                yield 1, np.empty((0, *shape), dtype=np.uint8)
                continue
            if found.shape != shape:  # EXIF's turn may stand behind the pixels, where the survey does not look
                raise self._different((height, width), self.ids[last], found.shape[1:], self.ids[index])
            last = index
            yield 1, found[None]

    def _own_size(self, headers: dict[int, Header]) -> Size:
        """Return the one size that all pictures have."""
        sizes: dict[Size, int] = {}
        for index, header in headers.items():
            sizes.setdefault(header.size, index)
        if len(sizes) > 1:
            (one, first), (other, second) = list(sizes.items())[:2]
            raise self._different(one, self.ids[first], other, self.ids[second])
        return next(iter(sizes), FOLDER_SIZE)

    def _different(self, one: Size, first: str, other: Size, second: str) -> DropkitError:
        side = min(*one, *other)
        return DropkitError(
            f"the pictures in {self.name!r} have different sizes: {first!r} is {describe_size(one)}, {second!r} is "
            f"{describe_size(other)} (width x height). Pictures are kept as they are only where all have one size: "
            f"give --image-size N, such as {side}, to bring them to NxN"
        )

    def _note_small(self, headers: dict[int, Header], size: Size) -> None:
        sizes = Counter(header.size for header in headers.values())
        if len(sizes) == 1:
            (own,) = sizes
            if own != size and own[0] <= size[0] and own[1] <= size[1]:
                self.notes.append(
                    f"every picture is {describe_size(own)} and is enlarged to {describe_size(size)}: "
                    "--image-size native trains on them as they are"
                )


def in_order(function: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """Yield function(item) for each item, in order, computed by threads a few items ahead.

    >>> list(in_order(abs, [-3, 2, -1]))
    [3, 2, 1]
    """
    threads = min(_MOST_THREADS, _usable_cpus())
    waiting: deque[Future[Out]] = deque()
    # Warnings are silenced around all threads: see pillow_quiet.
    with pillow_quiet(), ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > threads * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _header(file: Path | bytes) -> Header | BadPictureError:
    try:
        return read_header(file)
    except BadPictureError as error:
        return error


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
