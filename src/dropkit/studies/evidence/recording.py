"""What a layer's units do on pictures: observations, in memory that no network exceeds."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dropkit.errors import DropkitError
from dropkit.masks import site_of
from dropkit.runs.inference import ReadyNetwork
from dropkit.studies.evidence.layers import Layer
from dropkit.studies.evidence.pictures import TestPictures

NUMBERS = 1 << 23  # kept of a layer: 64 MiB in float64
UNITS = 2048  # correlations of 2,048 units with one another take 32 MiB


@dataclass(frozen=True, eq=False)
class Observations:
    """What units did: each place of each picture is an observation of all of them.

    Attributes:
        values: [N, P, C], float64: P places of N pictures, C units.
        units: how many the layer has; C of them were chosen where it has more than 2,048.
    """

    values: NDArray[np.float64]
    units: int


def observe(
    network: ReadyNetwork,
    layer: Layer,
    pictures: TestPictures,
    *,
    seed: int = 0,
    tick: Callable[[int], None] = lambda count: None,
) -> Observations:
    """Return what a layer's units do on pictures, in eval mode.

    Of maps with many places some are chosen, the same ones in every picture, and of a layer with many units some: by
    the seed and the layer's path alone, so that the same command sees the same.

    Args:
        network: the network.
        layer: the layer.
        pictures: the pictures.
        seed: chooses places and units.
        tick: called with how many pictures more are done.

    Raises:
        DropkitError: if an activation is not finite.
    """
    keeper = _Keeper(layer, len(pictures), seed)
    with torch.inference_mode(), layer.watched(network.model, keeper):
        for place, batch in pictures.batches(network):
            keeper.place = place
            network.model(batch)
            tick(len(batch))
    return keeper.observations()


class _Keeper:
    """Keeps the observations of one layer; the first batch tells how many places and units there are."""

    def __init__(self, layer: Layer, pictures: int, seed: int) -> None:
        self.layer = layer
        self.pictures = pictures
        self.rng = np.random.default_rng([seed, site_of(layer.path)])
        self.place = slice(0, 0)
        self.values = np.zeros((0, 0, 0))
        self.units = 0

    def __call__(self, value: Tensor) -> None:
        found = self.layer.by_unit(value)
        if not self.units:
            self._begin(found)
        chosen = found[:, self.places][..., self.chosen]
        self.values[self.place] = chosen.double().cpu().numpy()

    def _begin(self, found: Tensor) -> None:
        _, places, self.units = found.shape
        kept = min(self.units, UNITS)
        units = np.sort(self.rng.permutation(self.units)[:kept])
        self.chosen = torch.from_numpy(units) if kept < self.units else slice(None)
        most = max(1, min(places, NUMBERS // (self.pictures * kept)))
        # The same ones of every picture: units' pictures are shuffled to see what the layout of maps gives by chance.
        self.places = torch.from_numpy(np.sort(self.rng.permutation(places)[:most]))
        self.values = np.empty((self.pictures, most, kept))

    def observations(self) -> Observations:
        """Return what was kept."""
        if not np.isfinite(self.values).all():
            raise DropkitError(
                f"the layer {self.layer.path!r} makes numbers that are not finite on the test pictures: nothing can be "
                "said of its units. Train with a lower --lr"
            )
        return Observations(self.values, self.units)
