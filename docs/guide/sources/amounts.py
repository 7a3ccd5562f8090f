"""Figure of where-and-how-much.md: which rate pays with how many training pictures."""

from typing import Any

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from sources import look
from sources.digits import SEEDS, digits, error, for_each, hidden_layer, loss, train
from sources.figure import Figure, change, table, with_interval

import dropkit

SIZES, RATES = (50, 200, 1000), (0.0, 0.2, 0.5, 0.8)
STEPS, EVERY = 2000, 50


def measure_amounts() -> dict[str, Any]:
    """Test error of one hidden layer at the step with the lowest validation loss, for each size and rate."""
    cases = [(size, rate, seed) for size in SIZES for rate in RATES for seed in SEEDS]
    found = for_each(_chosen, cases)
    rows = {str(size): {f"{rate:g}": [] for rate in RATES} for size in SIZES}
    for (size, rate, _), value in zip(cases, found, strict=True):
        rows[str(size)][f"{rate:g}"].append(value)
    return rows


def _chosen(size: int, rate: float, seed: int) -> float:
    """The test error where the validation loss was lowest, as `dropkit train` takes it."""
    torch.manual_seed(seed)
    learn, val, test = digits(size, seed)
    network = hidden_layer(dropkit.Dropout(rate))
    seen: list[tuple[float, float]] = []

    def watch(step: int) -> None:
        if step % EVERY == 0:
            network.eval()
            seen.append((loss(network, val), error(network, test)))
            network.train()

    train(network, learn, STEPS, watch=watch)
    return min(seen)[1]


def draw_amounts(values: dict[str, Any]) -> go.Figure:
    """A panel for each number of training pictures."""
    titles = [f"{int(size):,} training pictures" for size in values]
    figure = make_subplots(1, len(values), subplot_titles=titles, horizontal_spacing=0.09)
    for column, rates in enumerate(values.values(), start=1):
        seeds = [[100 * value for value in row] for row in rates.values()]
        look.points(figure, [float(rate) for rate in rates], seeds, look.DROPOUT, "", row=1, col=column)
    look.settle(figure, 300, 40)
    figure.update_xaxes(title_text="rate p", tickvals=RATES, range=[-0.08, 0.88])
    figure.update_yaxes(title_text="test error (%)", row=1, col=1)
    return figure


def quote_amounts(values: dict[str, Any]) -> str:
    """Errors, and the paired differences of p = .5 and .8."""
    rows = []
    for size, rates in values.items():
        errors = [with_interval(row, 100, 1, "%") for row in rates.values()]
        changes = [change(rates[rate], rates["0"], 100) for rate in ("0.5", "0.8")]
        rows.append([f"{int(size):,}", *errors, *changes])
    head = ["p = 0.5 less p = 0, points", "p = 0.8 less p = 0"]
    return table(["training pictures", *(f"p = {rate:g}" for rate in RATES), *head], rows)


FIGURES = [Figure("amounts", "where-and-how-much.md", measure_amounts, draw_amounts, quote_amounts)]
