"""Figure of the-tutorial.md: an evaluation in training mode, and one whose weights are scaled by 1/(1 - p)."""

from typing import Any

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from sources import look
from sources.digits import SEEDS, digits, error, for_each, hidden_layer, loss, train
from sources.figure import Figure, change, table, with_interval

import dropkit

RATES = (0.2, 0.5, 0.8)
TRAIN, STEPS = 1000, 600
WAYS = {"eval": "eval()", "training": "eval() forgotten", "again": "eval(), outgoing weights × 1/(1−p)"}


def measure_evaluations() -> dict[str, Any]:
    """Test error and loss of one network, evaluated in three ways."""
    found = for_each(_three_ways, [(rate, seed) for rate in RATES for seed in SEEDS])
    size = len(SEEDS)
    return {"rates": list(RATES), "rows": [found[i * size : (i + 1) * size] for i in range(len(RATES))]}


def _three_ways(rate: float, seed: int) -> dict[str, dict[str, float]]:
    torch.manual_seed(seed)
    learn, _, test = digits(TRAIN, seed)
    network = train(hidden_layer(dropkit.Dropout(rate)), learn, STEPS)
    found = {}
    for way in ("training", "eval", "again"):
        network.train(way == "training")
        if way == "again":
            network[-1].weight.data /= 1 - rate
        found[way] = {"error": error(network, test), "loss": loss(network, test)}
    return found


def draw_evaluations(values: dict[str, Any]) -> go.Figure:
    """Error and loss against the rate."""
    figure = make_subplots(1, 2, subplot_titles=("test error (%)", "test loss (nats)"), horizontal_spacing=0.1)
    for column, (kind, scale) in enumerate((("error", 100), ("loss", 1)), start=1):
        for (way, name), colour in zip(WAYS.items(), (look.DROPOUT, look.OTHER, "#CC79A7"), strict=True):
            seeds = [[scale * seed[way][kind] for seed in row] for row in values["rows"]]
            look.points(figure, values["rates"], seeds, colour, name, row=1, col=column)
            figure.data[-1].showlegend = column == 1
    look.settle(figure, 330, 40)
    figure.update_xaxes(title_text="rate p", tickvals=values["rates"])
    figure.update_yaxes(range=[0, 23], row=1, col=1)  # room for the legend
    figure.update_yaxes(rangemode="tozero", row=1, col=2)
    look.legend(figure, 0.01, 0.97)
    return figure


def quote_evaluations(values: dict[str, Any]) -> str:
    """A row for each rate."""
    rows = []
    for rate, row in zip(values["rates"], values["rows"], strict=True):
        by_way = {way: [seed[way] for seed in row] for way in WAYS}
        errors = [with_interval([seed["error"] for seed in by_way[way]], 100, 1, "%") for way in WAYS]
        losses = [with_interval([seed["loss"] for seed in by_way[way]], 1, 2) for way in WAYS]
        worse = change(
            [seed["error"] for seed in by_way["training"]], [seed["error"] for seed in by_way["eval"]], 100, 1
        )
        rows.append([f"{rate:g}", *(f"{e}; {ll}" for e, ll in zip(errors, losses, strict=True)), worse])
    head = ["p", *(name.replace("eval()", "`eval()`") for name in WAYS.values()), "forgotten less `eval()`, points"]
    return table(head, rows)


FIGURES = [Figure("evaluations", "the-tutorial.md", measure_evaluations, draw_evaluations, quote_evaluations)]
