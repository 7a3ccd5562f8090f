"""Pictures of another data set, brought to the size and the colours of a run's."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dropkit.data.counting import counting
from dropkit.data.decoding import BadPictureError, decode
from dropkit.data.folders import SUFFIXES
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
    """

    name: str
    found: int
    chosen: Tensor
    read: Callable[[Tensor], Tensor]


def load_outside(
    source: str, shape: tuple[int, int, int], *, most: int, seed: int, fingerprint: str, progress: bool = False
) -> Outside:
    """Load a data set for a network that was trained on another one.

    Args:
        source: anything that `dropkit train` takes, or a folder with pictures and no classes.
        shape: (C, H, W) of the run's pictures.
        most: pictures to choose at random, if there are more.
        seed: of the choice.
        fingerprint: of the run's own pictures.
        progress: show progress on standard error.

    Raises:
        DropkitError: if nothing can be read there, or it is the run's own data.
    """
    if _has_no_classes(Path(source)):
        return _from_files(Path(source), shape, most=most, seed=seed, progress=progress)
    channels, height, width = shape
    pictures = load(source, image_size=f"{height}x{width}", on_bad_image="skip", progress=progress)
    if pictures.fingerprint == fingerprint:
        raise DropkitError(
            f"--ood {source!r} is the run's own data: give pictures of another kind, which the network has not seen"
        )
    chosen = _choose(len(pictures), most, seed)
    return Outside(pictures.name, len(pictures), chosen, lambda these: recoloured(pictures.read(these), channels))


def _choose(count: int, most: int, seed: int) -> Tensor:
    """Return sorted indices of some of `count` things: of all of them, where there are no more than `most`."""
    if count <= most:
        return torch.arange(count)
    return torch.from_numpy(np.sort(np.random.default_rng(seed).choice(count, most, replace=False)))


def _has_no_classes(folder: Path) -> bool:
    """Whether a folder has pictures but not two folders, which might be classes."""
    if not folder.is_dir():
        return False
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    folders = [entry for entry in entries if entry.is_dir()]
    pictures = any(entry.suffix.lower() in SUFFIXES for entry in entries if not entry.is_dir())
    return pictures and len(folders) < 2


def _from_files(folder: Path, shape: tuple[int, int, int], *, most: int, seed: int, progress: bool) -> Outside:
    """Return the pictures of a folder, at any depth, without those that cannot be read."""
    files = find_pictures([str(folder)])
    channels, height, width = shape

    def picture(index: int) -> Tensor:
        return torch.tensor(decode(files[index], size=(height, width), channels=channels))

    chosen = []
    candidates = _choose(len(files), most, seed)
    with counting(f"reading {folder.name}", len(candidates), show=progress) as tick:
        for index in candidates.tolist():
            try:  # now, so that what cannot be read is known before anything is computed
                picture(index)
                chosen.append(index)
            except BadPictureError:
                pass
            tick(1)
    if not chosen:
        raise DropkitError(f"--ood {str(folder)!r} has no picture that can be read: give other data")
    return Outside(
        folder.resolve().name,
        len(files),
        torch.tensor(chosen),
        lambda these: torch.stack([picture(index) for index in these.tolist()]),
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
