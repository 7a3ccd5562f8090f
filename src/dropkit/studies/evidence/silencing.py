"""Co-adaptation seen in the answers: what it costs when a random half of a layer's units is silenced.

Srivastava et al., JMLR 15 (2014), section 2: with dropout no unit can count on any other being there. A network whose
units can do without one another loses little when half of them are 0.

The survivors are scaled by units / survivors, as dropout scales them in training: what the next layer reads keeps its
mean, so that the cost is that of the missing units and not of a fainter input.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dropkit.masks import site_of
from dropkit.runs.inference import ReadyNetwork
from dropkit.studies.evidence.layers import Layer
from dropkit.studies.evidence.pictures import TestPictures

HALVES = 10
NUMBERS = 1 << 22  # of the layer's activations that are silenced at once
BATCH = 128


def silenced(
    network: ReadyNetwork,
    layer: Layer,
    pictures: TestPictures,
    units: int,
    *,
    seed: int = 0,
    halves: int = HALVES,
    tick: Callable[[int], None] = lambda count: None,
) -> dict[str, Any] | None:
    """Return the error with a random half of a layer's units silenced, as plain JSON; None for a single unit.

    `errors`, one for each half; `error` and `sd`, their mean and standard deviation over halves; `halves`.

    Args:
        network: the network.
        layer: the layer.
        pictures: the pictures.
        units: how many the layer has; floor(units / 2) are silenced.
        seed: chooses the halves, with the layer's path: any run of the same network has the same ones.
        halves: how many are tried.
        tick: called with how many pictures more are done.
    """
    if units < 2:
        return None
    scales = torch.from_numpy(half_scales(layer, units, halves, seed)).to(network.device)
    passes = _Passes(network, layer, scales)
    wrong = torch.zeros(halves, dtype=torch.int64)
    for place, batch in pictures.batches(network, BATCH):
        answers = passes(batch).argmax(-1).cpu()
        wrong += (answers != pictures.labels[place]).sum(1)
        tick(len(batch))
    errors = wrong.double().numpy() / len(pictures)
    return {
        "halves": halves,
        "errors": errors.tolist(),
        "error": float(errors.mean()),
        "sd": float(errors.std(ddof=1)) if halves > 1 else None,
    }


def half_scales(layer: Layer, units: int, halves: int, seed: int) -> NDArray[np.float32]:
    """Return what each unit is multiplied by, for each half [halves, units]: 0, or units / survivors.

    >>> from dropkit.models.sites import Site
    >>> sorted(half_scales(Layer(Site("fc", 0, "relu")), units=5, halves=1, seed=0)[0].round(3).tolist())
    [0.0, 0.0, 1.6670000553131104, 1.6670000553131104, 1.6670000553131104]
    """
    rng = np.random.default_rng([seed, site_of(layer.path)])
    ranks = rng.permuted(np.tile(np.arange(units), (halves, 1)), axis=1)
    lost = units // 2
    return np.where(ranks < lost, 0.0, units / (units - lost)).astype(np.float32)


class _Passes:
    """Passes with each half silenced. What comes before the layer is computed once for all of them, if it can be.

    Args:
        network: the network.
        layer: the layer whose units are silenced.
        scales: what each unit is multiplied by [halves, units].
    """

    def __init__(self, network: ReadyNetwork, layer: Layer, scales: Tensor) -> None:
        self.model = network.model
        self.layer = layer
        self.scales = scales
        self.together = True  # whether torch.vmap can follow the network

    def __call__(self, batch: Tensor) -> Tensor:
        """Return the logits [halves, B, K] of a batch."""

        def one(scale: Tensor) -> Tensor:
            with self.layer.watched(self.model, lambda value: self._silence(value, scale)):
                logits: Tensor = self.model(batch.clone())  # which it may write into
            return logits

        with torch.no_grad():
            if self.together:
                try:
                    return torch.vmap(one, randomness="error", chunk_size=self._chunk(batch))(self.scales)
                except Exception:  # whatever the network's code does that torch.vmap cannot follow
                    self.together = False
            return torch.stack([one(scale) for scale in self.scales])

    def _silence(self, value: Tensor, scale: Tensor) -> Tensor:
        sides = [1] * value.dim()
        sides[self.layer.unit_axis(value)] = -1
        shaped = scale.view(sides)
        # By selection, as dropout does it: 0 times infinity would be NaN.
        return torch.where(shaped > 0, value * shaped, torch.zeros((), device=value.device, dtype=value.dtype))

    def _chunk(self, batch: Tensor) -> int:
        """Return how many halves are computed at once, so that what follows the layer takes bounded memory."""
        sizes: list[int] = []
        with self.layer.watched(self.model, lambda value: sizes.append(value.numel())):
            self.model(batch.clone())
        return max(1, min(len(self.scales), NUMBERS // sizes[0]))
