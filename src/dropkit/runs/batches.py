"""Pictures on the device: kept as uint8, normalised when a batch is read, ordered by (seed, epoch) alone."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from dropkit.runs.pictures import Pictures
from dropkit.runs.split import Split


class Batches:
    """The pictures of one split of the data, ready to be read in batches.

    Args:
        pictures: all pictures.
        split: which of them are for training, validation and test.
        device: where they are kept and normalised.
    """

    def __init__(self, pictures: Pictures, split: Split, device: torch.device) -> None:
        self.images = pictures.images.to(device)
        self.labels = pictures.labels.to(device)
        self.train = torch.from_numpy(split.train)
        self.val = torch.from_numpy(split.val)
        self.test = torch.from_numpy(split.test)
        self.mean, self.inverse_std = (value.to(device) for value in _statistics(pictures.images, self.train))
        # As large as the validation set, so that the gap compares two measurements of the same precision.
        chosen = np.random.default_rng([split.seed, len(split.train)]).permutation(len(split.train))
        self.train_probe = self.train[np.sort(chosen[: len(split.val)])]

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised pictures, float32 [n, C, H, W] in channels-last memory format, and labels [n]."""
        indices = indices.to(self.images.device)
        x = self.images[indices].to(torch.float32).sub_(self.mean).mul_(self.inverse_std)
        return x.contiguous(memory_format=torch.channels_last), self.labels[indices]

    def steps(self, batch_size: int) -> int:
        """How many batches an epoch has."""
        return max(1, -(-len(self.train) // batch_size) - (len(self.train) % batch_size == 1))

    def epoch(self, seed: int, epoch: int, batch_size: int) -> Iterator[Tensor]:
        """Yield the indices of each batch of one epoch; the order is a function of (seed, epoch) alone."""
        order = np.random.default_rng([seed, epoch]).permutation(len(self.train))
        count = self.steps(batch_size)
        for step in range(count):
            # A single picture left over joins the batch before it: batch-norm cannot train on one value.
            stop = (step + 1) * batch_size if step + 1 < count else None
            yield self.train[order[step * batch_size : stop]]


def _statistics(images: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and 1 / standard deviation of each channel [C, 1, 1] over the training pictures."""
    values = torch.arange(256, dtype=torch.float64)
    means, inverses = [], []
    for channel in range(images.shape[1]):
        # A histogram of the 256 possible values gives both exactly, without a float copy of the pictures.
        counts = torch.bincount(images[train, channel].reshape(-1).to(torch.int64), minlength=256).double()
        mean = (counts * values).sum() / counts.sum()
        variance = (counts * (values - mean) ** 2).sum() / counts.sum()
        means.append(mean)
        inverses.append(1.0 / variance.sqrt() if variance > 0 else torch.ones(()))
    shape = (len(means), 1, 1)
    return torch.stack(means).float().view(shape), torch.stack(inverses).float().view(shape)
