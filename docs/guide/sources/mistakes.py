"""Figure of ten-mistakes.md: each mistake's harm on the test digits, beside the same code without it."""

from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
import torch
import torch.nn.functional as F
from sources import look
from sources.digits import HIDDEN, SEEDS, Part, digits, error, for_each, hidden_layer, loss, train
from sources.figure import Figure, change, table, with_interval
from torch import Tensor, nn

import dropkit

TRAIN, STEPS, RATE = 300, 1000, 0.5


class Written(nn.Module):
    """One hidden layer whose dropout is written into forward: `drop` is a function of module and activation."""

    def __init__(self, drop: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.fc1, self.fc2, self.drop = nn.Linear(64, HIDDEN), nn.Linear(HIDDEN, 10), drop
        self.layer = dropkit.Dropout(RATE)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.fc2(self.drop(self, self.fc1(x.flatten(1)).relu()))


def trained(network: nn.Module, seed: int, steps: int = STEPS) -> nn.Module:
    """Return the network after its steps; all mistakes see the same digits in the same batches."""
    torch.manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
    return train(network, digits(TRAIN, seed)[0], steps)


def right(seed: int) -> nn.Module:
    """Return the network as it is meant, in eval mode."""
    return trained(hidden_layer(dropkit.Dropout(RATE)), seed).eval()


def no_eval(seed: int) -> nn.Module:
    """Evaluated under no_grad alone."""
    return trained(hidden_layer(dropkit.Dropout(RATE)), seed)


def functional(seed: int) -> nn.Module:
    """F.dropout(h, 0.5), whose training is True."""
    return trained(Written(lambda _, h: F.dropout(h, RATE)), seed).eval()


def built_in_forward(seed: int) -> nn.Module:
    """A new layer at each call."""
    return trained(Written(lambda _, h: nn.Dropout(RATE)(h)), seed).eval()


def left_in_eval(seed: int) -> nn.Module:
    """The training goes on in eval mode after the first validation, at a tenth of it."""
    network = trained(hidden_layer(dropkit.Dropout(RATE)), seed, STEPS // 10).eval()
    return train(network, digits(TRAIN, seed)[0], STEPS - STEPS // 10)


def keep_probability(seed: int) -> nn.Module:
    """nn.Dropout(0.9), meant to keep nine in ten."""
    return trained(hidden_layer(dropkit.Dropout(0.9)), seed).eval()


def meant_to_keep(seed: int) -> nn.Module:
    """nn.Dropout(0.1), which does."""
    return trained(hidden_layer(dropkit.Dropout(0.1)), seed).eval()


def mode_for_rate(seed: int) -> nn.Module:
    """F.dropout(h, self.training): p = True drops all in training, p = False nothing in evaluation."""
    return trained(Written(lambda net, h: F.dropout(h, net.training)), seed).eval()


def on_logits(seed: int) -> nn.Module:
    """Dropout after the last layer."""
    return trained(hidden_layer().append(dropkit.Dropout(RATE)), seed).eval()


def _normed(before: nn.Module, after: nn.Module) -> nn.Sequential:
    first = nn.Flatten(), nn.Linear(64, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), before
    return nn.Sequential(
        *first, nn.Linear(HIDDEN, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), after, nn.Linear(HIDDEN, 10)
    )


def before_norm(seed: int) -> nn.Module:
    """Dropout, a linear layer, batch-norm."""
    return trained(_normed(dropkit.Dropout(RATE), nn.Identity()), seed).eval()


def after_norm(seed: int) -> nn.Module:
    """The same dropout after the last batch-norm."""
    return trained(_normed(nn.Identity(), dropkit.Dropout(RATE)), seed).eval()


def unused(seed: int) -> nn.Module:
    """The layer is called and its result is not taken."""
    return trained(Written(lambda net, h: (net.layer(h), h)[1]), seed).eval()


def whole_samples(seed: int) -> nn.Module:
    """nn.Dropout1d on (N, C), which it reads as one sample of N channels."""
    return trained(hidden_layer(nn.Dropout1d(RATE)), seed).eval()


PAIRS: dict[str, tuple[str, str, Callable[[int], nn.Module], Callable[[int], nn.Module]]] = {
    "DK006": ("1", "no_grad taken for eval()", no_eval, right),
    "DK001": ("2", "F.dropout(h, 0.5)", functional, right),
    "DK002": ("3", "nn.Dropout built in forward", built_in_forward, right),
    "DK005": ("4", "train() forgotten after validation", left_in_eval, right),
    "DK012": ("5", "nn.Dropout(0.9) to keep .9", keep_probability, meant_to_keep),
    "DK010": ("6", "F.dropout(h, self.training)", mode_for_rate, right),
    "DK021": ("7", "dropout on the logits", on_logits, right),
    "DK020": ("8", "dropout before a batch-norm", before_norm, after_norm),
    "DK022": ("9", "self.dropout(h), result unused", unused, right),
    "DK015": ("10", "nn.Dropout1d on (N, C)", whole_samples, right),
}


def measure_mistakes() -> dict[str, Any]:
    """Test error and loss with each mistake and without it."""
    makers = list(dict.fromkeys(maker for pair in PAIRS.values() for maker in pair[2:]))
    found = for_each(_measured, [(maker, seed) for maker in makers for seed in SEEDS])
    by_maker = {maker.__name__: found[i * len(SEEDS) : (i + 1) * len(SEEDS)] for i, maker in enumerate(makers)}
    return {code: [by_maker[maker.__name__] for maker in pair[2:]] for code, pair in PAIRS.items()}


def _measured(maker: Callable[[int], nn.Module], seed: int) -> dict[str, float]:
    network, test = maker(seed), _test(seed)
    return {"error": error(network, test), "loss": loss(network, test)}


def _test(seed: int) -> Part:
    return digits(TRAIN, seed)[2]


def draw_mistakes(values: dict[str, Any]) -> go.Figure:
    """A row for each mistake: the error with it and without."""
    figure = look.plain(470, "test error (%), logarithmic", "", top=34)
    names = [f"{PAIRS[code][0]}. {PAIRS[code][1]}" for code in values]
    for index, (name, colour) in enumerate((("with the mistake", look.OTHER), ("without", look.DROPOUT))):
        shares = [[100 * seed["error"] for seed in pair[index]] for pair in values.values()]
        bounds = [look.mean_interval(row) for row in shares]
        figure.add_scatter(
            x=look.rounded([mean for mean, _, _ in bounds]),
            y=names,
            error_x={"array": look.rounded([high - mean for mean, _, high in bounds]), "thickness": 1.6, "width": 4},
            mode="markers",
            marker={"size": 10, "color": colour, "symbol": "diamond" if index == 0 else "circle"},
            name=name,
        )
    figure.update_xaxes(type="log", tickvals=[3, 5, 10, 20, 50, 90])
    figure.update_yaxes(autorange="reversed", dtick=1)  # every row has its name
    look.legend(figure, 0.99, 0.99)
    return figure


def quote_mistakes(values: dict[str, Any]) -> str:
    """A row for each mistake."""
    rows = []
    for code, pair in values.items():
        errors, losses = ([[seed[kind] for seed in side] for side in pair] for kind in ("error", "loss"))
        shown = [
            f"{with_interval(e, 100, 1, '%')}; {with_interval(ll, 1, 2)}" for e, ll in zip(errors, losses, strict=True)
        ]
        rows.append([PAIRS[code][0], code, *shown, change(*errors, 100, 1), change(*losses, 1, 2)])
    return table(["", "code", "with the mistake", "without", "error, points", "loss, nats"], rows)


FIGURES = [Figure("mistakes", "ten-mistakes.md", measure_mistakes, draw_mistakes, quote_mistakes)]
