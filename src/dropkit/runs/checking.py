"""What `dropkit check` checks: the network of a run, or one that is named, and pictures for it."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text
from torch import Tensor, nn

from dropkit.errors import DropkitError
from dropkit.models.check.finding import SEVERITIES, Finding
from dropkit.models.networks import build, is_built_in
from dropkit.models.policy import Policy
from dropkit.models.sites import HasSites
from dropkit.models.surgery import insert
from dropkit.runs.config import TrainConfig
from dropkit.runs.fitting import Fit
from dropkit.runs.run import read_run
from dropkit.runs.training import load_data

Shape = tuple[int, int, int]

PICTURES = 32
FEWER = 8  # of large pictures, whose maps give statistics enough
LARGE = 3 * 64 * 64
COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}
OWN_SHAPE, ZOO_SHAPE = (1, 28, 28), (3, 224, 224)


def network_to_check(
    name: str,
    *,
    data: str | None = None,
    shape: Shape | None = None,
    classes: int | None = None,
    policy: str | None = None,
) -> tuple[nn.Module, Tensor]:
    """Return a network in training mode, and pictures [n, C, H, W]: standard normal unless data is named.

    Args:
        name: the folder of a finished run, or a network as `--model` names it, which gets random weights.
        data: pictures to take for a network instead of random ones; they say its shape and its classes.
        shape: (C, H, W) of the random pictures of a network; 1x28x28 for dropkit's own ones, else 3x224x224.
        classes: of a network.
        policy: dropout to put into a network.

    Raises:
        DropkitError: if there is no such run or network, or it cannot take such pictures.
    """
    if not is_built_in(name) and Path(name).is_dir():
        _refuse(f"the run in {name!r} has", data=data, shape=shape, classes=classes, dropout=policy)
        return _of_run(Path(name))
    if data is not None:
        _refuse(f"the data {data!r} have", shape=shape, classes=classes)
        config = TrainConfig(data=data, model=name, dropout=policy or "model", device="cpu")
        fit = Fit(config, *load_data(config))
        return fit.model.train(), fit.data.read(fit.data.train[:PICTURES])[0]
    shape = shape or (OWN_SHAPE if is_built_in(name) else ZOO_SHAPE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(name, input_shape=shape, num_classes=classes or 10)
    pictures = _random_pictures(shape)
    insert(model, Policy.parse(policy or "model"), None if isinstance(model, HasSites) else pictures[:2])
    return model.train(), pictures


def _refuse(owner: str, **given: object) -> None:
    named = {"data": "--data", "shape": "--input", "classes": "--classes", "dropout": "--dropout"}
    for name, value in given.items():
        if value is not None:
            raise DropkitError(f"{owner} its own {name}: leave {named[name]} out")


def _of_run(folder: Path) -> tuple[nn.Module, Tensor]:
    run = read_run(folder)
    height, width = run.summary["data"]["shape"][1:]
    return run.model().train(), _random_pictures((len(run.summary["data"]["mean"]), height, width))


def _random_pictures(shape: Shape) -> Tensor:
    channels, height, width = shape
    count = FEWER if channels * height * width > LARGE else PICTURES
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))


def parse_shape(given: str) -> Shape:
    """Return the shape that a text such as 3x224x224 names.

    Raises:
        DropkitError: if it names none.
    """
    sides = given.lower().split("x")
    if len(sides) != 3 or not all(side.isascii() and side.isdigit() and int(side) > 0 for side in sides):
        raise DropkitError(f"an input is channels x height x width, such as 3x224x224, but got {given!r}")
    channels, height, width = map(int, sides)
    return channels, height, width


def print_findings(findings: Sequence[Finding], name: str) -> None:
    """Print each finding, and how many there are, on standard output; on a terminal in colours."""
    console = Console(highlight=False)
    for finding in findings:
        text = Text(str(finding))
        mark = f"{finding.severity} {finding.code}"
        text.highlight_regex(re.escape(mark), COLOURS[finding.severity])
        console.print(text, soft_wrap=True)
    console.print(Text(summarised(findings, name)), soft_wrap=True)


def summarised(findings: Sequence[Finding], name: str) -> str:
    """Return how many findings there are: `2 errors, 1 warning`."""
    counts = [(sum(f.severity == severity for f in findings), severity) for severity in SEVERITIES]
    parts = [f"{count} {severity}{'s' * (count > 1)}" for count, severity in counts if count]
    return ", ".join(parts) if parts else f"no misuse of dropout was found in {name}"
