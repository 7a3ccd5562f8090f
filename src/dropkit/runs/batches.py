"""Pictures on the device: kept as uint8, normalised when a batch is read, ordered by (seed, epoch) alone."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from dropkit.data.pictures import Pictures
from dropkit.data.split import Split
from dropkit.runs.augment import Augmentation
from dropkit.runs.distributed import Share

PIECE = 1024  # pictures read at a time where all are looked at


class Batches:
    """The pictures of one split of the data, ready to be read in batches.

    Args:
        pictures: all pictures.
        split: which of them are for training, validation and test.
        device: where they are kept and normalised.
        augmentation: what training pictures go through; evaluation does not.
        statistics: mean and standard deviation of red, green and blue, of values from 0 to 1, by which pictures are
            normalised; grey ones become coloured. None takes those of the training pictures, of as many channels as
            they have.
        features: float32 [N, F] of all pictures; they are then read in the place of the pictures.
    """

    def __init__(
        self,
        pictures: Pictures,
        split: Split,
        device: torch.device,
        augmentation: Augmentation | None = None,
        *,
        statistics: tuple[Sequence[float], Sequence[float]] | None = None,
        features: Tensor | None = None,
    ) -> None:
        self.pictures = pictures
        self.device = device
        self.features = None if features is None else features.to(device)
        # What streams from disk is read batch by batch; all else is on the device from the start.
        held = pictures.images if features is None else None
        self.images = None if held is None else held.to(device)
        self.labels = pictures.labels.to(device)
        self.augmentation = augmentation
        self.train = torch.from_numpy(split.train)
        self.val = torch.from_numpy(split.val)
        self.test = torch.from_numpy(split.test)
        found = _statistics(pictures, self.train) if statistics is None else _given(*statistics)
        self.mean, self.inverse_std = (value.to(device) for value in found)
        # As large as the validation set, so that the gap compares two measurements of the same precision.
        chosen = np.random.default_rng([split.seed, len(split.train)]).permutation(len(split.train))
        self.train_probe = self.train[np.sort(chosen[: len(split.val)])]

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised pictures, float32 [n, C, H, W] in channels-last memory format, and labels [n].

        Where there are features, they take the pictures' place: float32 [n, F].
        """
        places = indices.to(self.device)
        if self.features is not None:
            return self.features[places], self.labels[places]
        return self._normalised(self._raw(indices)), self.labels[places]

    def read_to_train(self, indices: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Return pictures and labels as `read` does, the pictures augmented as they are in this epoch."""
        if self.augmentation is None or self.augmentation.changes_nothing:
            return self.read(indices)
        changed = self.augmentation(self._raw(indices), indices, epoch=epoch)
        return self._normalised(changed), self.labels[indices.to(self.device)]

    def class_weights(self) -> Tensor:
        """Return a weight for each class [K]: inversely proportional to its training pictures, 1 for equal classes."""
        count = torch.bincount(self.pictures.labels[self.train], minlength=self.pictures.classes)
        return (len(self.train) / (self.pictures.classes * count)).float().to(self.device)

    def weight_of(self, share: Share, batch: Tensor, class_weights: Tensor | None) -> Tensor:
        """Return what the mean loss of a share of a batch counts for in the batch's, on the device.

        Args:
            share: which pictures of the batch.
            batch: indices of all of them.
            class_weights: by which the loss weighs its pictures [K]; None for all alike.
        """
        if not share.counts:
            return torch.zeros((), device=self.device)
        if class_weights is None:
            return torch.full((), (share.stop - share.start) / len(batch), device=self.device)
        weights = class_weights[self.labels[batch.to(self.device)]]
        return weights[share.start : share.stop].sum() / weights.sum()

    def _raw(self, indices: Tensor) -> Tensor:
        if self.images is None:
            return self.pictures.read(indices).to(self.device)
        return self.images[indices.to(self.device)]

    def _normalised(self, raw: Tensor) -> Tensor:
        # A grey picture becomes a coloured one where the statistics are of colours.
        x = raw.expand(-1, len(self.mean), -1, -1)
        # Rearranged while it is a quarter as large.
        x = x.contiguous(memory_format=torch.channels_last).to(torch.float32)
        return x.sub_(self.mean).mul_(self.inverse_std)

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


def _given(mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Return mean and 1 / standard deviation [C, 1, 1] of values from 0 to 255."""
    return 255 * torch.tensor(mean).view(-1, 1, 1), 1 / (255 * torch.tensor(std).view(-1, 1, 1))


def _statistics(pictures: Pictures, train: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and 1 / standard deviation of each channel [C, 1, 1] over the training pictures."""
    # A histogram of the 256 possible values gives both exactly, without a float copy of the pictures.
    counts = torch.zeros(pictures.shape[0], 256, dtype=torch.float64)
    for part in train.split(PIECE):
        for channel, values in enumerate(pictures.read(part).unbind(1)):
            counts[channel] += torch.bincount(values.reshape(-1).to(torch.int64), minlength=256)
    values = torch.arange(256, dtype=torch.float64)
    total = counts.sum(1)
    mean = counts @ values / total
    variance = (counts * (values - mean[:, None]) ** 2).sum(1) / total
    inverse_std = torch.where(variance > 0, 1.0 / variance.sqrt(), 1.0)
    return mean.float().view(-1, 1, 1), inverse_std.float().view(-1, 1, 1)
