"""The test pictures that evidence is measured on: all of a run's, or of many some that the seed chooses."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dropkit.data.pictures import Pictures, load
from dropkit.data.split import Split
from dropkit.files import read_record
from dropkit.runs.features import image_size_of
from dropkit.runs.inference import ReadyNetwork
from dropkit.runs.record import RunFolder
from dropkit.runs.run import Run

MOST = 2000  # pictures: an error of 10% is then known within 1.3 points
BATCH, BATCH_OF_DEVICE = 128, 1024


class TestPictures:
    """Test pictures of a run.

    Args:
        run: the run.
        pictures: all of its pictures.
        seed: chooses among them where there are more than 2,000: the same ones for all runs that share the split.

    Attributes:
        indices: of the pictures [N], sorted.
        labels: of the pictures [N].
        of: how many test pictures there are.
    """

    __test__ = False  # no test class, whatever pytest reads from its name

    def __init__(self, run: Run, pictures: Pictures, seed: int) -> None:
        split = Split.from_json(read_record(RunFolder(run.folder).split), pictures)
        test: NDArray[np.int64] = split.test
        if len(test) > MOST:
            test = np.sort(np.random.default_rng(seed).choice(test, MOST, replace=False))
        self.indices = torch.from_numpy(test)
        self.labels = pictures.labels[self.indices]
        self.of = len(split.test)
        self._pictures = pictures

    def __len__(self) -> int:
        """Return N."""
        return len(self.indices)

    def batches(self, network: ReadyNetwork, most: int | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Yield places among the pictures, and the pictures there as the network takes them [B, C, H, W].

        Args:
            network: the run's network.
            most: pictures of a batch, at most.
        """
        size = BATCH if network.device.type == "cpu" else BATCH_OF_DEVICE
        size = min(size, most or size)
        for start in range(0, len(self), size):
            place = slice(start, min(start + size, len(self)))
            yield place, network.normalised(self._pictures.read(self.indices[place]))

    def example(self, network: ReadyNetwork) -> Tensor:
        """Return two pictures [2, C, H, W], or the only one."""
        return network.normalised(self._pictures.read(self.indices[:2]))


def load_pictures(run: Run, *, progress: bool) -> Pictures:
    """Return the pictures that a run was trained on.

    Raises:
        DropkitError: if they are not there any more.
    """
    config: Any = run.config
    return load(
        config.data,
        image_size=image_size_of(config),
        on_bad_image=config.on_bad_image,
        stream=config.stream,
        progress=progress,
    )
