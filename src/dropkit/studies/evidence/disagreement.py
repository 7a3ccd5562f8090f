"""The ensemble of thinned networks: how far its members disagree, and what their average is worth.

Srivastava et al., JMLR 15 (2014), sections 1 and 7.5: training with dropout trains an ensemble of thinned networks that
share weights, and the plain pass with all units (weight scaling) stands in for their average.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dropkit.runs.inference import ReadyNetwork
from dropkit.studies.evidence.pictures import TestPictures
from dropkit.uncertainty.sampling import Sampler

DRAWS = 20
NUMBERS = 1 << 22  # logits of all draws of a batch


def disagreement(
    network: ReadyNetwork,
    pictures: TestPictures,
    *,
    seed: int = 0,
    tick: Callable[[int], None] = lambda count: None,
) -> tuple[dict[str, Any], list[str]]:
    """Return how far 20 thinned networks disagree and how often they err, as plain JSON; and what there is to say.

    `minority`, the share of answers that are not those of most draws; `pairwise`, the share of pairs of draws that
    answer a picture differently; `one`, `average`, the errors of one thinned network (the mean of 20) and of the mean
    of their probabilities; `draws`.

    Args:
        network: the network.
        pictures: the pictures.
        seed: of the masks; they depend on a picture's place among the pictures alone.
        tick: called with how many pictures more are done.

    Raises:
        DropkitError: if nothing is dropped; the message names the cause.
    """
    sampler = Sampler(network.model, DRAWS, seed)
    most = max(1, NUMBERS // (DRAWS * len(network.class_names)))
    totals = torch.zeros(4, dtype=torch.float64)
    for place, batch in pictures.batches(network, most):
        totals += _counted(sampler(batch, place.start).float().cpu(), pictures.labels[place])
        tick(len(batch))
    shares = (totals / len(pictures)).tolist()
    return dict(zip(("minority", "pairwise", "one", "average"), shares, strict=True)) | {"draws": DRAWS}, sampler.news()


def _counted(logits: Tensor, labels: Tensor) -> Tensor:
    """Return minority, pairwise disagreement, error of one and of the average, each summed over a batch.

    Args:
        logits: of the draws [n, B, K].
        labels: of the pictures [B].
    """
    draws, _, classes = logits.shape
    answers = logits.argmax(-1)
    votes = F.one_hot(answers, classes).sum(0).double()  # [B, K]
    minority = 1 - votes.amax(1) / draws
    alike = (votes * (votes - 1)).sum(1) / (draws * (draws - 1))
    one = (answers != labels).double().mean(0)
    average = (logits.double().softmax(-1).mean(0).argmax(-1) != labels).double()
    return torch.stack([measure.sum() for measure in (minority, 1 - alike, one, average)])
