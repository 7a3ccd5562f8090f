"""Augmentation: flips and padded crops, the same for a picture in an epoch whatever happened before; or a user's own.

Which way a picture is changed is a pure function of (seed, epoch, picture), as a mask is of its key. So a resumed
training, or one that is spread over several processes, sees the pictures that it would have seen otherwise.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dropkit.callables import import_function, names_function, place_of
from dropkit.errors import DropkitError, unknown
from dropkit.masks import philox4x32, site_of
from dropkit.masks.philox import MASK32

KEYED = ("flip", "crop")
DEFAULT_OF_FOLDERS = "flip,crop"
MARGIN = 8  # a crop is moved by up to an eighth of the picture's side each way: 4 pixels of 32, as is usual

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Augmentation:
    """What is done to training pictures, batch by batch; evaluation never sees it.

    Attributes:
        seed: of the training.
        flip: mirror every other picture, left to right.
        crop: move the picture by up to an eighth of its height and width; what the move lays bare is mirrored.
        function: the user's own, uint8 [n, C, H, W] to the same, on the CPU.

    Example:
        >>> pictures = torch.arange(2 * 9 * 9, dtype=torch.uint8).view(2, 1, 9, 9)
        >>> change = Augmentation(seed=0, flip=True)
        >>> change(pictures, torch.tensor([17, 3]), epoch=0).shape
        torch.Size([2, 1, 9, 9])
    """

    seed: int
    flip: bool = False
    crop: bool = False
    function: Function | None = None

    @staticmethod
    def parse(text: str, seed: int) -> "Augmentation":
        """Read `none`, `flip`, `crop`, `flip,crop` or `module:function`.

        Raises:
            DropkitError: if it is none of these, or the function cannot be imported.

        Example:
            >>> Augmentation.parse("flip", seed=3).flip
            True
        """
        text = text.strip()
        if text == "none":
            return Augmentation(seed)
        if names_function(text):
            return Augmentation(seed, function=import_function("augment", text))
        words = [word.strip() for word in text.split(",")]
        for word in words:
            if word not in KEYED:
                raise unknown("augmentation", word, ("none", *KEYED, "flip,crop", "module:function"))
        return Augmentation(seed, flip="flip" in words, crop="crop" in words)

    @property
    def changes_nothing(self) -> bool:
        """Whether pictures stay as they are."""
        return not (self.flip or self.crop or self.function)

    def __call__(self, images: Tensor, numbers: Tensor, *, epoch: int) -> Tensor:
        """Return the pictures of a batch as the training is to see them.

        Args:
            images: uint8 [n, C, H, W].
            numbers: int64 [n], which pictures they are.
            epoch: which of the training's epochs, from 0.

        Raises:
            DropkitError: if the user's function returns something else than such pictures.
        """
        if self.function is not None:
            return self._own(images, numbers, epoch)
        if self.changes_nothing:
            return images
        return _gather(images, *self._places(images, numbers, epoch))

    def _places(self, images: Tensor, numbers: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Return from which row [n, H] and column [n, W] each row and column of the result is taken."""
        height, width = images.shape[2:]
        bits = self._bits(numbers.to(images.device), epoch)
        rows = torch.arange(height, device=images.device).expand(len(images), -1)
        columns = torch.arange(width, device=images.device).expand(len(images), -1)
        if self.crop:
            rows = _mirrored(rows + _shift(bits[1], height)[:, None], height)
            columns = _mirrored(columns + _shift(bits[2], width)[:, None], width)
        if self.flip:
            columns = torch.where((bits[0] & 1).bool()[:, None], columns.flip(1), columns)
        return rows, columns

    def _bits(self, numbers: Tensor, epoch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return four words of 32 random bits for each picture."""
        key = (self.seed & MASK32, (self.seed >> 32) & MASK32)
        return philox4x32((numbers & MASK32, 0, site_of("augment"), epoch), key)

    def _call(self, images: Tensor) -> object:
        if self.function is None:
            return images
        try:
            return self.function(images)
        except Exception as error:  # a user's code may raise anything
            raise DropkitError(
                f"the augmentation function {self.function.__name__!r} raised {type(error).__name__}: {error} "
                f"({place_of(error)}). Mend it, and run the command again"
            ) from error

    def try_out(self, images: Tensor) -> None:
        """Call a user's function once, so that its mistakes are found before anything is written.

        Args:
            images: uint8 [n, C, H, W].

        Raises:
            DropkitError: if it raises, or returns something else than such pictures.
        """
        self._own(images, torch.arange(len(images)), 0)

    def _own(self, images: Tensor, numbers: Tensor, epoch: int) -> Tensor:
        if self.function is None or not len(images):
            return images
        # What the function draws, from whatever generator, is then a function of (seed, epoch, first picture) too.
        with seeded(int(np.random.SeedSequence([self.seed, epoch, int(numbers[0])]).generate_state(1)[0])):
            changed = self._call(images.cpu().clone())
        if not isinstance(changed, Tensor) or changed.dtype != torch.uint8 or changed.shape != images.shape:
            given = f"{changed.dtype} {list(changed.shape)}" if isinstance(changed, Tensor) else type(changed).__name__
            raise DropkitError(
                f"the augmentation function returned {given}, but a batch of uint8 {list(images.shape)} is needed: "
                f"return the pictures in the type and shape in which they came"
            )
        return changed.to(images.device)


def _shift(bits: Tensor, side: int) -> Tensor:
    """Return a whole number from -side/8 to side/8 for each picture, all equally likely."""
    most = side // MARGIN
    return bits % (2 * most + 1) - most  # 2**32 is so much larger that the remainder's bias is below 1e-6


def _mirrored(places: Tensor, side: int) -> Tensor:
    """Reflect places outside 0..side-1 at the border: mirrored pixels disturb less than a black rim."""
    places = places.abs()
    return torch.where(places >= side, 2 * (side - 1) - places, places)


def _gather(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    count, channels, height, width = images.shape
    planes = torch.arange(channels, device=images.device).view(1, -1, 1, 1) * (height * width)
    flat = planes + rows[:, None, :, None] * width + columns[:, None, None, :]
    return images.reshape(count, -1).gather(1, flat.view(count, -1)).view(images.shape)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's, numpy's and Python's global generators inside the block, and restore them after it."""
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - what is called may draw from it
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)  # noqa: NPY002
