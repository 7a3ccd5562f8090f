"""The guide's own small experiments: scikit-learn's digits, the tutorial's network or one hidden layer."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from joblib import Parallel, delayed
from sklearn.datasets import load_digits
from torch import Tensor, nn

import dropkit

SEEDS = range(10)
HIDDEN = 128
Part = tuple[Tensor, Tensor]


def digits(train: int, seed: int) -> tuple[Part, Part, Part]:
    """Return (pictures [n, 1, 8, 8], labels [n]) for training, validation (300) and test (497), dealt by the seed."""
    data = load_digits()
    pictures = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(data.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    parts = order[:train], order[1000:1300], order[1300:]
    learn, val, test = ((pictures[part], labels[part]) for part in parts)
    return learn, val, test


def hidden_layer(*drop: nn.Module) -> nn.Sequential:
    """Return a network with one hidden layer; what is given comes after its ReLU."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, HIDDEN), nn.ReLU(), *drop, nn.Linear(HIDDEN, 10))


def tutorial_network(rate: float) -> nn.Module:
    """Return the tutorial's convolutional network, for pictures of 8x8."""
    return dropkit.CNNWithDropout(rate, input_shape=(1, 8, 8))


def train(
    network: nn.Module,
    part: Part,
    steps: int,
    *,
    batch: int = 100,
    lr: float = 1e-3,
    watch: Callable[[int], None] | None = None,
) -> nn.Module:
    """Train with Adam on batches that the global generator draws; returns the network, in training mode.

    Args:
        network: the network.
        part: its pictures and labels.
        steps: how many.
        batch: pictures in a step.
        lr: learning rate.
        watch: is told the number of each step that is done.
    """
    pictures, labels = part
    optimizer = torch.optim.Adam([w for w in network.parameters() if w.requires_grad], lr=lr)
    for step in range(1, steps + 1):
        chosen = torch.randint(len(labels), (batch,))
        optimizer.zero_grad()
        F.cross_entropy(network(pictures[chosen]), labels[chosen]).backward()
        optimizer.step()
        if watch is not None:
            watch(step)
    return network


@torch.no_grad()
def error(network: Callable[[Tensor], Tensor], part: Part) -> float:
    """Return the share of pictures that the network, as it is, labels wrongly."""
    pictures, labels = part
    return (network(pictures).argmax(1) != labels).double().mean().item()


@torch.no_grad()
def loss(network: Callable[[Tensor], Tensor], part: Part) -> float:
    """Return the mean cross-entropy in nats."""
    pictures, labels = part
    return F.cross_entropy(network(pictures), labels).item()


def for_each(function: Callable[..., Any], cases: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Return what the function makes of each case, two at a time with a thread each, so that results do not depend
    on the number of cores."""
    return list(Parallel(n_jobs=2)(delayed(_alone)(function, case) for case in cases))


def _alone(function: Callable[..., Any], case: tuple[Any, ...]) -> Any:
    torch.set_num_threads(1)
    return function(*case)
