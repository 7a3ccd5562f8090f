"""Pictures of another data set, brought to the size and the colours of a run's."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dropkit.data.pictures import Pictures, load
from dropkit.errors import DropkitError


@dataclass(frozen=True, eq=False)
class Outside:
    """Pictures that a network was not trained for.

    Attributes:
        pictures: of the run's size.
        chosen: which of them are looked at, sorted indices [M].
        channels: the run's.
    """

    pictures: Pictures
    chosen: Tensor
    channels: int

    def read(self, indices: Tensor) -> Tensor:
        """Return pictures, uint8 [n, C, H, W] with the run's C."""
        return recoloured(self.pictures.read(indices), self.channels)


def load_outside(
    source: str, shape: tuple[int, int, int], *, most: int, seed: int, fingerprint: str, progress: bool = False
) -> Outside:
    """Load a data set for a network that was trained on another one.

    Args:
        source: anything that `dropkit train` takes.
        shape: (C, H, W) of the run's pictures.
        most: pictures to choose at random, if there are more.
        seed: of the choice.
        fingerprint: of the run's own pictures.
        progress: show progress on standard error.

    Raises:
        DropkitError: if nothing can be read there, or it is the run's own data.
    """
    channels, height, width = shape
    pictures = load(source, image_size=f"{height}x{width}", on_bad_image="skip", progress=progress)
    if pictures.fingerprint == fingerprint:
        raise DropkitError(
            f"--ood {source!r} is the run's own data: give pictures of another kind, which the network has not seen"
        )
    if len(pictures) <= most:
        chosen = np.arange(len(pictures))
    else:
        chosen = np.sort(np.random.default_rng(seed).choice(len(pictures), most, replace=False))
    return Outside(pictures, torch.from_numpy(chosen), channels)


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
