"""A finished run's network, ready for new pictures: where it computes, and what it is to be given."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from dropkit.errors import DropkitError
from dropkit.runs.fitting import pick_device
from dropkit.runs.run import Run
from dropkit.runs.training import say
from dropkit.uncertainty.sampling import Sampler, SamplingWarning


class ReadyNetwork:
    """A run's network on a device, and how pictures are made ready for it.

    Args:
        run: a finished run, whose best weights are used.
        device: where the network computes.

    Raises:
        DropkitError: if the run diverged before it had any weights, or there is no such device.
    """

    def __init__(self, run: Run, device: str = "auto") -> None:
        if run.summary["test"] is None:
            raise DropkitError(
                f"the run in {str(run.folder)!r} diverged before an epoch was finished: it has no network"
            )
        data = run.summary["data"]
        self.channels, *self.size = data["shape"]
        self.class_names: list[str] = data["class_names"]
        self.device = pick_device(device)
        self.mean = torch.tensor(data["mean"], device=self.device).view(-1, 1, 1)
        self.std = torch.tensor(data["std"], device=self.device).view(-1, 1, 1)
        self.model = run.model().to(self.device)

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return pictures as the network takes them, float32 on its device.

        Args:
            pixels: uint8 [..., C, H, W] of the run's size and channels; grey ones become coloured where the network
                reads colours.
        """
        return (pixels.to(self.device).float() - self.mean) / self.std

    def require_dropout(self, seed: int = 0) -> None:
        """Draw two thinned networks, so that what is wrong with them is said before any picture is read.

        Args:
            seed: of the masks that are to be drawn.

        Raises:
            DropkitError: if nothing is dropped, and the message names the cause; or if the seed is none.
        """
        trial = torch.zeros(2, len(self.mean), *self.size, device=self.device)
        sampler = Sampler(self.model, 2, seed)
        sampler(trial)
        for words in sampler.news():
            say(f"note: {words}")


@contextmanager
def said_once() -> Iterator[None]:
    """Silence, inside the block, the warnings that `require_dropout` has passed on: each batch would repeat them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SamplingWarning)
        yield
