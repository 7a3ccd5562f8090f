"""Averages of thinned networks on a run's test pictures: the share of averages of k draws that are wrong.

Srivastava et al., JMLR 15 (2014), section 7.5 and figure 11: how many sampled networks match weight scaling.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dropkit.data.counting import counting
from dropkit.data.pictures import Pictures
from dropkit.data.split import Split
from dropkit.files import make_folder, read_record
from dropkit.runs.checkpoint import read_tensors, write_tensors
from dropkit.runs.inference import ReadyNetwork, said_once
from dropkit.runs.record import RunFolder
from dropkit.runs.run import Run
from dropkit.uncertainty.sampling import Sampler

BATCH, BATCH_OF_DEVICE = 128, 1024

Array = npt.NDArray[np.float64]


def wrong_averages(
    run: Run, draws: Sequence[int], pictures: Pictures, place: Path, *, device: str = "auto", progress: bool = True
) -> dict[int, Array]:
    """Return, for each number of draws k, how often each test picture [N] is wrong in averages of k thinned networks.

    Of the largest number of draws as many disjoint groups of k are averaged as there are, so that few draws are
    averaged often: a picture's value is the share of groups that are wrong. What was computed before is read.

    Args:
        run: a finished run with dropout; its seed is that of the masks.
        draws: the numbers k, 1 or more.
        pictures: the run's.
        place: the file that keeps them.
        device: where the network computes.
        progress: show progress on standard error.
    """
    kept = _kept(place, draws)
    if kept is not None:
        return kept
    network = ReadyNetwork(run, device)
    network.require_dropout(run.config.seed)
    split = Split.from_json(read_record(RunFolder(run.folder).split), pictures)
    indices = torch.from_numpy(split.test)
    found: dict[int, list[Tensor]] = {k: [] for k in draws}
    title = f"{max(draws)} thinned networks of {run.folder.name}"
    with said_once(), counting(title, len(indices), show=progress) as tick:
        for places, logits in _sampled(network, run.config.seed, max(draws), pictures, indices):
            for k, parts in found.items():
                parts.append(share_wrong(logits, pictures.labels[places], k))
            tick(len(places))
    tensors = {str(k): torch.cat(parts) for k, parts in found.items()}
    make_folder(place.parent)
    write_tensors(place, tensors)
    return {k: tensors[str(k)].double().numpy() for k in draws}


def _kept(place: Path, draws: Sequence[int]) -> dict[int, Array] | None:
    """Return what the file holds, if it has all that is asked for from as many draws."""
    if not place.is_file():
        return None
    tensors: dict[str, Any] = read_tensors(place)[0]
    if max(map(int, tensors)) != max(draws) or not {str(k) for k in draws} <= set(tensors):
        return None
    return {k: tensors[str(k)].double().numpy() for k in draws}


def _sampled(
    network: ReadyNetwork, seed: int, n: int, pictures: Pictures, indices: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield indices of pictures [B], and the logits of n thinned networks [n, B, K]."""
    sampler = Sampler(network.model, n, seed)
    first = 0
    for places in indices.split(BATCH if network.device.type == "cpu" else BATCH_OF_DEVICE):
        yield places, sampler(network.normalised(pictures.read(places)), first).float().cpu()
        first += len(places)


def share_wrong(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    """Return, for each picture, the share of averages of k draws that are wrong, float32 [B].

    Args:
        logits: of n draws [n, B, K]; n // k disjoint groups of them are averaged, as probabilities.
        labels: of the pictures [B].
        k: from 1 to n.

    >>> logits = torch.tensor([[[9.0, 0.0]], [[0.0, 1.0]]])
    >>> [share_wrong(logits, torch.tensor([0]), k).item() for k in (1, 2)]
    [0.5, 0.0]
    """
    groups = len(logits) // k
    probabilities: Tensor = logits[: groups * k].double().softmax(-1).unflatten(0, (groups, k)).mean(1)
    wrong: Tensor = probabilities.argmax(-1) != labels
    return wrong.float().mean(0)
