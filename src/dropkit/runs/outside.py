"""Pictures of another data set, brought to the size and the colours of a run's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dropkit.data.counting import counting
from dropkit.data.decoding import BadPictureError, decode
from dropkit.data.parquet import is_parquet
from dropkit.data.pictures import load
from dropkit.errors import DropkitError
from dropkit.runs.labelling import find_pictures


@dataclass(frozen=True, eq=False)
class Outside:
    """Pictures that a network was not trained for.

    Attributes:
        name: of the data set.
        found: how many pictures it has.
        chosen: which of them are looked at, sorted indices [M].
        read: from indices [n] to pictures uint8 [n, C, H, W], of the run's size and colours.
        unreadable: files that were tried and could not be read; others were taken in their stead, if there were any.
    """

    name: str
    found: int
    chosen: Tensor
    read: Callable[[Tensor], Tensor]
    unreadable: int = 0


def load_outside(
    source: str, shape: tuple[int, int, int], *, most: int, seed: int, fingerprint: str, progress: bool = False
) -> Outside:
    """Load a data set for a network that was trained on another one.

    Args:
        source: anything that `dropkit train` takes, or any folder with pictures: where they are not in folders of
            classes, or not all of them, those at any depth are taken.
        shape: (C, H, W) of the run's pictures.
        most: pictures to choose at random, if there are more.
        seed: of the choice.
        fingerprint: of the run's own pictures.
        progress: show progress on standard error.

    Raises:
        DropkitError: if nothing can be read there, or it is the run's own data.
    """
    channels, height, width = shape
    folder = _of_files(source)
    try:
        pictures = load(source, image_size=f"{height}x{width}", on_bad_image="skip", progress=progress)
    except DropkitError:
        if folder is None:
            raise
        return _from_files(folder, find_pictures([source]), shape, most=most, seed=seed, progress=progress)
    if pictures.fingerprint == fingerprint:
        raise DropkitError(
            f"--ood {source!r} is the run's own data: give pictures of another kind, which the network has not seen"
        )
    skipped = len(pictures.skipped)
    if folder is not None and len(files := find_pictures([source])) > len(pictures) + skipped:
        return _from_files(folder, files, shape, most=most, seed=seed, progress=progress)
    chosen = _choose(len(pictures), most, seed)
    return Outside(
        pictures.name, len(pictures), chosen, lambda these: recoloured(pictures.read(these), channels), skipped
    )


def _of_files(source: str) -> Path | None:
    """Return the folder that a source names, if its pictures are files that may lie anywhere in it."""
    folder = Path(source)
    named = source == "digits" or source.startswith("hub:") or not source.strip()
    return None if named or not folder.is_dir() or is_parquet(folder) else folder


def _choose(count: int, most: int, seed: int) -> Tensor:
    """Return sorted indices of some of `count` things: of all of them, where there are no more than `most`."""
    if count <= most:
        return torch.arange(count)
    return torch.from_numpy(np.sort(np.random.default_rng(seed).choice(count, most, replace=False)))


def _in_turn(count: int, most: int, seed: int) -> list[int]:
    """Return the indices of `count` things: first those that `_choose` gives, then the others in random order."""
    first = _choose(count, most, seed).numpy()
    others = np.setdiff1d(np.arange(count), first)
    return [*first.tolist(), *np.random.default_rng([seed, 1]).permutation(others).tolist()]


def _from_files(
    folder: Path, files: Sequence[Path], shape: tuple[int, int, int], *, most: int, seed: int, progress: bool
) -> Outside:
    """Return some of a folder's pictures; those that cannot be read give their place to others."""
    channels, height, width = shape

    def picture(index: int) -> Tensor:
        return torch.tensor(decode(files[index], size=(height, width), channels=channels))

    chosen: list[int] = []
    unreadable = 0
    with counting(f"reading {folder.name}", min(most, len(files)), show=progress) as tick:
        for index in _in_turn(len(files), most, seed):
            if len(chosen) == most:
                break
            try:  # now, so that what cannot be read is known before anything is computed
                picture(index)
            except BadPictureError:
                unreadable += 1
            else:
                chosen.append(index)
                tick(1)
    if not chosen:
        raise DropkitError(f"--ood {str(folder)!r} has no picture that can be read: give other data")
    return Outside(
        folder.resolve().name,
        len(files),
        torch.tensor(sorted(chosen)),
        lambda these: torch.stack([picture(index) for index in these.tolist()]),
        unreadable,
    )


def recoloured(pictures: Tensor, channels: int) -> Tensor:
    """Return pictures uint8 [n, C, H, W] with 1 or 3 channels, as `dropkit.data.decoding.decode` makes them.

    >>> recoloured(torch.zeros(2, 3, 5, 7, dtype=torch.uint8), 1).shape
    torch.Size([2, 1, 5, 7])
    """
    if pictures.shape[1] == channels:
        return pictures
    if channels == 3:
        return pictures.expand(-1, 3, -1, -1)
    rows = np.ascontiguousarray(pictures.permute(0, 2, 3, 1).numpy())
    return torch.from_numpy(np.stack([_grey(row) for row in rows]))[:, None]


def _grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels).convert("L"))
