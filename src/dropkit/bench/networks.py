"""Dropout within a network's training step: a small network with batch-norm, and the tutorial's."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim

from dropkit.bench.timing import Call
from dropkit.layers.channels import Dropout2d
from dropkit.layers.relu import ReLUDropout
from dropkit.layers.units import Dropout
from dropkit.models.cnn import CNNWithDropout

BATCH = 128
BEFORE, AFTER = "BN-CNN, dropout before pooling", "BN-CNN, dropout after pooling"
TUTORIAL = "the tutorial's network"
NONE, SCALED = "no dropout", "x * 1.1 in its place"

Make = Callable[[], nn.Module]
FORMATS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


class Scaled(nn.Module):
    """x * 1.1: the least that a pass of its own over the activation costs."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the product."""
        return x * 1.1


@dataclass(frozen=True)
class NetworkCase:
    """The training step of one network with each kind of dropout.

    Args:
        network: which network, and where its dropout is.
        memory_format: contiguous or channels-last.
        calls: one training step each, by the kind of dropout.
    """

    network: str
    memory_format: str
    calls: dict[str, Call]


def network_cases(p: float, device: str, batch: int = BATCH) -> Iterator[NetworkCase]:
    """Yield the cases one by one."""
    for name, memory_format in FORMATS.items():
        for place in (BEFORE, AFTER):
            networks = {kind: _bn_cnn(make, place) for kind, make in _kinds(p, place).items()}
            yield _case(place, name, networks, torch.randn(batch, 3, 32, 32), memory_format, device)
        yield _case(TUTORIAL, name, _tutorial(), torch.randn(batch, 1, 28, 28), memory_format, device)


def _kinds(p: float, place: str) -> dict[str, Make]:
    kinds: dict[str, Make] = {
        NONE: nn.Identity,
        SCALED: Scaled,
        "torch.nn.Dropout": lambda: nn.Dropout(p),
        "dropkit.Dropout": lambda: Dropout(p),
        "torch.nn.Dropout2d": lambda: nn.Dropout2d(p),
        "dropkit.Dropout2d": lambda: Dropout2d(p),
    }
    if place == BEFORE:
        kinds["dropkit.ReLUDropout"] = lambda: ReLUDropout(p)
    return kinds


def _bn_cnn(make: Make, place: str) -> nn.Module:
    """Return three stages of conv, batch-norm, ReLU, pooling (32, 64, 64 channels) with dropout in each."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for channels_in, channels_out in ((3, 32), (32, 64), (64, 64)):
        drop = make()
        layers += [nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False), nn.BatchNorm2d(channels_out)]
        layers += [drop] if isinstance(drop, ReLUDropout) else [nn.ReLU(), drop] if place == BEFORE else [nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if place == BEFORE else [nn.MaxPool2d(2), drop]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def _tutorial() -> dict[str, nn.Module]:
    networks: dict[str, nn.Module] = {}
    for kind, drop in ((NONE, nn.Identity()), ("torch.nn.Dropout", nn.Dropout(0.5)), ("dropkit.Dropout", Dropout(0.5))):
        torch.manual_seed(0)
        network = CNNWithDropout()
        network.dropout = drop  # type: ignore[assignment]
        networks[kind] = network
    return networks


def _case(
    name: str,
    format_name: str,
    networks: dict[str, nn.Module],
    x: Tensor,
    memory_format: torch.memory_format,
    device: str,
) -> NetworkCase:
    x = x.to(device).contiguous(memory_format=memory_format)
    y = torch.arange(len(x), device=device) % 10
    return NetworkCase(name, format_name, {kind: _step(net, x, y, memory_format) for kind, net in networks.items()})


def _step(network: nn.Module, x: Tensor, y: Tensor, memory_format: torch.memory_format) -> Call:
    model = network.to(x.device).to(memory_format=memory_format).train()  # type: ignore[call-overload]
    optimizer = optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step
