"""Figures of batch-norm.md: what dropout does to the variance that a batch-norm reads, and to the error."""

import copy
import math
from typing import Any

import plotly.graph_objects as go
import torch
from sources import look
from sources.digits import digits, error, for_each, train
from sources.figure import Figure, change, table, with_interval
from torch import Tensor, nn

import dropkit

RATES = (0.1, 0.3, 0.5, 0.7)
SEEDS = range(6)
TRAIN, STEPS = 1000, 400
NORMS = "stage2.norm", "stage3.norm"


def theory(rate: float) -> float:
    """Return the standard deviation after the norm in evaluation, 1 in training: of a ReLU of N(0, 1), then dropout.

    The mean square is 1/2 and the mean squared 1/(2 pi); dropout divides the first by q and leaves the second.
    """
    square = 1 / (2 * math.pi)
    return math.sqrt((0.5 - square) / (0.5 / (1 - rate) - square))


# ------------------------------------------------------------------------------------------ the shift itself


def measure_shift() -> dict[str, Any]:
    """Standard deviation after a norm that has seen dropout in training, evaluated: made-up inputs and trained nets."""
    made_up = {name: [_made_up(name, rate) for rate in RATES] for name in ("at once", "through a convolution")}
    found = for_each(_trained_shift, [(rate, seed) for rate in RATES for seed in SEEDS])
    size = len(SEEDS)
    return {"rates": list(RATES), **made_up, "trained": [found[i * size : (i + 1) * size] for i in range(len(RATES))]}


@torch.no_grad()
def _made_up(name: str, rate: float) -> float:
    """ReLU of N(0, 1), dropout, then the norm: one after the other, or with a convolution of random weights between."""
    torch.manual_seed(0)
    between = nn.Conv2d(32, 32, 3, padding=1) if "convolution" in name else nn.Identity()
    network = nn.Sequential(nn.ReLU(), dropkit.Dropout(rate), between, nn.BatchNorm2d(32, momentum=None, affine=False))
    for _ in range(20):
        network(torch.randn(64, 32, 12, 12))
    return network.eval()(torch.randn(256, 32, 12, 12)).std((0, 2, 3)).median().item()


def _trained_shift(rate: float, seed: int) -> float:
    """In a trained bn-cnn: the median over the units that read what was dropped."""
    network, learn, _ = _trained(f"conv={rate}", seed)
    seen: list[Tensor] = []
    hooks = [network.get_submodule(name).register_forward_pre_hook(lambda _, x: seen.append(x[0])) for name in NORMS]
    _renew(network, learn)  # with the last weights, dropout on: what the moving average is on its way to
    seen.clear()
    with torch.no_grad():
        network.eval()(learn[0])
    for hook in hooks:
        hook.remove()
    ratios = [
        (x.var((0, 2, 3)) / network.get_submodule(name).running_var).sqrt() for name, x in zip(NORMS, seen, strict=True)
    ]
    return torch.cat(ratios).nanmedian().item()


def _trained(policy: str, seed: int) -> tuple[nn.Module, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    torch.manual_seed(seed)
    learn, _, test = digits(TRAIN, seed)
    network = dropkit.BatchNormCNN(input_shape=(1, 8, 8))
    dropkit.insert(network, policy, learn[0][:2])
    return train(network, learn, STEPS), learn, test


@torch.no_grad()
def _renew(network: nn.Module, learn: tuple[Tensor, Tensor], *, dropout: bool = True) -> None:
    """Measure the norms' statistics anew, over the training pictures, with dropout on or off."""
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    network.train(dropout)
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    for chosen in torch.arange(len(learn[0])).split(250):
        network(learn[0][chosen])
    network.eval()


def draw_shift(values: dict[str, Any]) -> go.Figure:
    """The formula as a line, measurements as points."""
    figure = look.plain(330, "rate p of the dropout before the norm", "standard deviation after the norm in eval()")
    fine = [i / 100 for i in range(91)]
    line = {"color": look.INK, "width": 1.5, "dash": "dash"}
    figure.add_scatter(x=fine, y=look.rounded([theory(p) for p in fine]), mode="lines", line=line, name="formula")
    kinds = (("at once", "circle", look.NONE), ("through a convolution", "diamond", look.OTHER))
    for name, symbol, colour in kinds:
        marker = {"symbol": symbol, "size": 9, "color": colour}
        figure.add_scatter(
            x=values["rates"], y=look.rounded(values[name]), mode="markers", marker=marker, name=f"made up, {name}"
        )
    look.points(figure, values["rates"], values["trained"], look.DROPOUT, "bn-cnn, trained on digits", joined=False)
    figure.update_xaxes(range=[0, 0.9])
    figure.update_yaxes(range=[0.2, 1.05])
    look.legend(figure, 0.02, 0.03)
    return figure


def quote_shift(values: dict[str, Any]) -> str:
    """A row for each rate."""
    rows = [
        [
            f"{rate:g}",
            f"{theory(rate):.2f}",
            f"{values['at once'][i]:.2f}",
            f"{values['through a convolution'][i]:.2f}",
            with_interval(values["trained"][i]),
        ]
        for i, rate in enumerate(values["rates"])
    ]
    head = ["p", "formula", "made up, at once", "through a convolution", f"`bn-cnn` on digits, n = {len(SEEDS)}"]
    return table(head, rows)


# ------------------------------------------------------------------------------------------ what it costs


def measure_norm_error() -> dict[str, Any]:
    """Test error with dropout before and after the norms, and with the norms' statistics measured anew."""
    found = for_each(_errors, [(rate, seed) for rate in (0.0, *RATES) for seed in SEEDS])
    size = len(SEEDS)
    rows = [found[i * size : (i + 1) * size] for i in range(1 + len(RATES))]
    return {"rates": [0.0, *RATES], "rows": rows}


def _errors(rate: float, seed: int) -> dict[str, float]:
    before, learn, test = _trained(f"conv={rate}" if rate else "none", seed)
    renewed = copy.deepcopy(before)
    _renew(renewed, learn, dropout=False)
    after, _, _ = _trained(f"head={rate}" if rate else "none", seed)
    networks = {"before": before.eval(), "renewed": renewed, "after": after.eval()}
    return {name: error(network, test) for name, network in networks.items()}


NAMES = {
    "before": "conv=p, before the norms",
    "renewed": "the same, statistics measured anew",
    "after": "head=p, after the last norm",
}


def draw_norm_error(values: dict[str, Any]) -> go.Figure:
    """Three ways against the rate."""
    figure = look.plain(330, "rate p", "test error (%), logarithmic")
    figure.update_yaxes(type="log", tickvals=[0.5, 1, 2, 5, 10, 20])
    colours = (look.OTHER, "#CC79A7", look.DROPOUT)
    for shift, ((kind, name), colour) in zip(
        (-0.006, 0.0, 0.006), zip(NAMES.items(), colours, strict=True), strict=True
    ):
        seeds = [[100 * seed[kind] for seed in row] for row in values["rows"]]
        look.points(figure, values["rates"], seeds, colour, name, shift=shift)
    look.legend(figure, 0.02, 0.97)
    return figure


def quote_norm_error(values: dict[str, Any]) -> str:
    """A row for each rate."""
    rows = []
    for rate, row in zip(values["rates"], values["rows"], strict=True):
        cells = [with_interval([seed[kind] for seed in row], 100, 2, "%") for kind in NAMES]
        gain = change([seed["renewed"] for seed in row], [seed["before"] for seed in row], 100)
        zero = values["rows"][0]
        costs = [
            change([seed[kind] for seed in row], [seed[kind] for seed in zero], 100) for kind in ("before", "after")
        ]
        rows.append([f"{rate:g}", *cells, gain, *(costs if row is not zero else ("", ""))])
    return table(
        [
            "p",
            *(f"`{name[:6]}`{name[6:]}" if "p," in name else name for name in NAMES.values()),
            "anew less before",
            "before, less p = 0",
            "after, less p = 0",
        ],
        rows,
    )


CHAPTER = "batch-norm.md"
FIGURES = [
    Figure("variance-shift", CHAPTER, measure_shift, draw_shift, quote_shift),
    Figure("norm-error", CHAPTER, measure_norm_error, draw_norm_error, quote_norm_error),
]
