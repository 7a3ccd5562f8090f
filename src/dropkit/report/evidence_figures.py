"""The figures of the section on evidence: layer by layer, how activations are spread, errors side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from dropkit.report.canvas import dress, trimmed
from dropkit.report.names import label, short
from dropkit.report.numbers import finite
from dropkit.report.palette import faint

WIDTH = 0.56  # of the band of a category that its points take
BINS = 24  # of the histogram of units' means


@dataclass(frozen=True)
class Series:
    """What one policy has in each category: a layer, or a way to predict.

    Attributes:
        name: of the policy.
        colour: of the policy.
        points: from the category to `mean`, `low`, `high`; the bounds are None where one run gives none.
        marks: from the category to the value of a mark beside the point: what there would be by chance, or otherwise.
    """

    name: str
    colour: str
    points: Mapping[str, Mapping[str, Any]]
    marks: Mapping[str, float | None]


def side_by_side(
    series: Sequence[Series], categories: Sequence[str], *, title: str, scale: float = 1.0, mark: str = ""
) -> go.Figure:
    """Draw a point with its interval for each policy in each category.

    Args:
        series: the policies.
        categories: in the order of the axis.
        title: of the axis of values.
        scale: 100 where shares are drawn as percent.
        mark: what the marks are, for whoever points at one.
    """
    figure = go.Figure()
    step = WIDTH / max(len(series), 1)
    for place, one in enumerate(series):
        offset = (place - (len(series) - 1) / 2) * step
        figure.add_trace(_points(one, categories, offset, scale))
        if any(value is not None for value in one.marks.values()):
            figure.add_trace(_marks(one, categories, offset, scale, mark))
    dress(figure, height=330, top=14)
    figure.update_xaxes(
        range=[-0.5, len(categories) - 0.5],
        tickvals=list(range(len(categories))),
        ticktext=[label(short(name, 18)) for name in categories],
        showgrid=False,
        title_text="",
    )
    figure.update_yaxes(title_text=title, range=_range(series, scale))
    return figure


def _range(series: Sequence[Series], scale: float) -> tuple[float, float]:
    """Return an axis that holds every interval and mark, from 0 or below."""
    rows = [row for one in series for row in one.points.values()]
    ends = [finite(row.get(key)) for row in rows for key in ("mean", "low", "high")]
    known = [value for value in (*ends, *(mark for one in series for mark in one.marks.values())) if value is not None]
    low, high = scale * min([0.0, *known]), scale * max([0.0, *known])
    room = 0.06 * (high - low) or 0.1 * scale
    return (low - room if low < 0 else 0.0), high + room


def _points(one: Series, categories: Sequence[str], offset: float, scale: float) -> go.Scatter:
    known = [(place, one.points[name]) for place, name in enumerate(categories) if name in one.points]
    rows = [(place, value, row) for place, row in known if (value := finite(row.get("mean"))) is not None]
    ends = [(finite(row.get("low")), finite(row.get("high"))) for _, _, row in rows]
    up = [0.0 if high is None else scale * (high - value) for (_, value, _), (_, high) in zip(rows, ends, strict=True)]
    down = [0.0 if low is None else scale * (value - low) for (_, value, _), (low, _) in zip(rows, ends, strict=True)]
    bars = {"array": [*map(trimmed, up)], "arrayminus": [*map(trimmed, down)], "color": one.colour}
    return go.Scatter(
        x=[trimmed(place + offset) for place, _, _ in rows],
        y=[trimmed(scale * value) for _, value, _ in rows],
        error_y={**bars, "thickness": 2, "width": 4, "visible": any(up) or any(down)},
        mode="markers",
        marker={"size": 9, "color": one.colour, "line": {"width": 0}},
        hovertemplate=f"{label(short(one.name, 40))}: %{{y:.4g}}<extra></extra>",
        showlegend=False,
    )


def _marks(one: Series, categories: Sequence[str], offset: float, scale: float, mark: str) -> go.Scatter:
    rows = [
        (place, value) for place, name in enumerate(categories) if (value := finite(one.marks.get(name))) is not None
    ]
    return go.Scatter(
        x=[trimmed(place + offset) for place, _ in rows],
        y=[trimmed(scale * value) for _, value in rows],
        mode="markers",
        marker={"symbol": "line-ew", "size": 15, "color": one.colour, "line": {"width": 1.8, "color": one.colour}},
        hovertemplate=f"{label(short(one.name, 40))}, {mark}: %{{y:.4g}}<extra></extra>",
        showlegend=False,
    )


@dataclass(frozen=True)
class Spread:
    """How one policy's numbers are spread: the shares [bins] between edges [bins + 1]."""

    name: str
    colour: str
    edges: Sequence[float]
    shares: Sequence[float]


def unit_means(rows: Sequence[tuple[str, str, Sequence[float]]]) -> list[Spread]:
    """Return how units' mean activations are spread, in bins that all policies share.

    Args:
        rows: name, colour and the units' means of each policy.
    """
    values = [value for _, _, means in rows for value in means]
    low, high = min([0.0, *values]), max([0.0, *values])
    width = (high - low) / BINS or 1.0
    edges = [low + width * place for place in range(BINS + 1)]
    return [Spread(name, colour, edges, _shares(means, low, width)) for name, colour, means in rows]


def _shares(values: Sequence[float], low: float, width: float) -> list[float]:
    counts = [0] * BINS
    for value in values:
        counts[min(int((value - low) / width), BINS - 1)] += 1
    return [count / max(len(values), 1) for count in counts]


def spread_figure(spreads: Sequence[Spread], *, x: str, y: str, logarithmic: bool = False) -> go.Figure:
    """Draw each policy's distribution as steps over a faint fill.

    Args:
        spreads: of the policies.
        x: title of the axis of values.
        y: title of the axis of shares, in percent.
        logarithmic: whether the shares are; a share of 0 is then a gap.
    """
    figure = go.Figure()
    for one in spreads:
        middles = [trimmed((low + high) / 2) for low, high in pairwise(one.edges)]
        shares = [None if logarithmic and not share else trimmed(100 * share) for share in one.shares]
        figure.add_trace(
            go.Scatter(
                x=middles,
                y=shares,
                mode="lines",
                line={"color": one.colour, "width": 2.2, "shape": "hvh"},
                fill=None if logarithmic else "tozeroy",
                fillcolor=faint(one.colour, 0.12),
                hovertemplate=f"{label(short(one.name, 40))}: %{{y:.3g}} %<extra></extra>",
                showlegend=False,
            )
        )
    dress(figure, height=310, top=14)
    figure.update_xaxes(title_text=x)
    if logarithmic:
        figure.update_yaxes(type="log", title_text=y, dtick=1, exponentformat="none")
    else:
        figure.update_yaxes(title_text=y, rangemode="tozero")
    return figure


def quantile_figure(rows: Sequence[tuple[str, str, Mapping[str, Sequence[float]]]], layers: Sequence[str]) -> go.Figure:
    """Draw the units' weight norms of each layer: the middle as a point, half of the units thick, 90% thin.

    Args:
        rows: name and colour of each policy, and its quantiles (5, 25, 50, 75, 95%) by layer.
        layers: in the order of the axis.
    """
    figure = go.Figure()
    step = WIDTH / max(len(rows), 1)
    for place, (name, colour, quantiles) in enumerate(rows):
        offset = (place - (len(rows) - 1) / 2) * step
        known = [(column, quantiles[layer]) for column, layer in enumerate(layers) if layer in quantiles]
        x = [trimmed(column + offset) for column, _ in known]
        for low, high, width in ((0, 4, 1.6), (1, 3, 5.0)):
            figure.add_trace(_lines(x, [(q[low], q[high]) for _, q in known], colour, width))
        figure.add_trace(
            go.Scatter(
                x=x,
                y=[trimmed(q[2]) for _, q in known],
                mode="markers",
                marker={"size": 9, "color": colour, "line": {"width": 0}},
                hovertemplate=f"{label(short(name, 40))}, median: %{{y:.4g}}<extra></extra>",
                showlegend=False,
            )
        )
    dress(figure, height=340, top=14)
    ticks = [label(short(layer, 22)) for layer in layers]
    figure.update_xaxes(range=[-0.5, len(layers) - 0.5], tickvals=[*range(len(layers))], ticktext=ticks, showgrid=False)
    figure.update_yaxes(title_text="L2 norm of a unit's weights", rangemode="tozero")
    return figure


def _lines(x: Sequence[float | None], ends: Sequence[tuple[float, float]], colour: str, width: float) -> go.Scatter:
    """Upright lines as one trace, parted by points without a value."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    for place, (low, high) in zip(x, ends, strict=True):
        xs += [place, place, None]
        ys += [trimmed(low), trimmed(high), None]
    line = {"color": faint(colour, 0.75), "width": width}
    return go.Scatter(x=xs, y=ys, mode="lines", line=line, hoverinfo="skip", showlegend=False)
