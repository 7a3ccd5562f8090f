"""The figures of a reproduction: our means with intervals beside the paper's diamonds, curves, histograms."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from dropkit.report.canvas import dress, trimmed
from dropkit.report.names import label
from dropkit.report.numbers import finite
from dropkit.report.palette import INK, faint

Row = Mapping[str, Any]

DIAMOND = {"symbol": "diamond-open", "size": 12, "color": INK, "line": {"width": 2, "color": INK}}
ROW_HEIGHT = 56


def beside_figure(rows: Sequence[Row], colours: Sequence[str]) -> go.Figure | None:
    """Draw each row's mean with its interval and the paper's figure; None where no row has a figure.

    Args:
        rows: `name`, `unit`, `mean`, `low`, `high`, `paper`; the first is drawn at the top.
        colours: of the rows.
    """
    if all(finite(row.get("mean")) is None for row in rows):
        return None
    unit = _unit(rows)
    drawn = go.Figure()
    for place, (row, colour) in enumerate(zip(reversed(rows), reversed(colours), strict=True)):
        if finite(row.get("mean")) is not None:
            drawn.add_trace(_mean([row], [place], colour, unit, across=True))
        if finite(row.get("paper")) is not None:
            drawn.add_trace(_papers([row], [place], unit, across=True))
        drawn.add_annotation(
            text=f"<b>{label(str(row.get('name')))}</b>",
            x=0,
            xref="paper",
            xanchor="left",
            y=place,
            yanchor="bottom",
            yshift=8,
            showarrow=False,
        )
    dress(drawn, height=ROW_HEIGHT * len(rows) + 70, top=8)
    drawn.update_xaxes(title_text=_title(rows, unit), range=_from_zero(rows, unit))
    drawn.update_yaxes(visible=False, fixedrange=True, range=[-0.45, len(rows) - 0.2])
    return drawn


def curves_figure(
    rows: Sequence[Row], colours: Sequence[str], axis: str, *, logarithmic: bool = False
) -> go.Figure | None:
    """Draw the rows' means against their x, a line a series; rows without an x are dashed lines across.

    Args:
        rows: as `beside_figure` takes them, with `series` and `x`.
        colours: of the rows.
        axis: what x is.
        logarithmic: draw x by its logarithm.
    """
    known = [(row, colour) for row, colour in zip(rows, colours, strict=True) if finite(row.get("mean")) is not None]
    if not known:
        return None
    unit = _unit(rows)
    drawn = go.Figure()
    for row, colour in known:
        if finite(row.get("x")) is None:
            _across(drawn, row, colour, unit)
    for series in dict.fromkeys(str(row.get("series")) for row, _ in known if finite(row.get("x")) is not None):
        mine = [(row, colour) for row, colour in known if row.get("series") == series]
        points = sorted((row for row, _ in mine), key=lambda row: float(row["x"]))
        drawn.add_trace(_mean(points, [row["x"] for row in points], mine[0][1], unit, across=False))
        told = [row for row in points if finite(row.get("paper")) is not None]
        if told:
            drawn.add_trace(_papers(told, [row["x"] for row in told], unit, across=False, colour=mine[0][1]))
    dress(drawn, height=430, top=14)
    drawn.update_xaxes(title_text=axis, type="log" if logarithmic else "linear")
    if logarithmic:
        ticks = sorted({float(row["x"]) for row, _ in known if finite(row.get("x")) is not None})
        drawn.update_xaxes(tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    drawn.update_yaxes(title_text=_title(rows, unit))
    return drawn


def histogram_figure(layers: Sequence[Row], number: int, colour: str) -> go.Figure:
    """Draw how the activations of one layer are spread, on an axis that all the layers share.

    Args:
        layers: `edges` of the bins and `activations`, the share in each.
        number: which of them is drawn.
        colour: of the bars.
    """
    layer = layers[number]
    most = max(float(each["edges"][-1]) for each in layers)
    least = min(float(each["edges"][0]) for each in layers)
    top = max(100 * float(share) for each in layers for share in each["activations"])
    shares = [100 * float(share) for share in layer["activations"]]
    drawn = _bars(layer["edges"], shares, colour)
    drawn.update_xaxes(title_text="activation", range=[least, most])
    drawn.update_yaxes(title_text="activations (%)", range=[0, 1.05 * top])
    return drawn


def unit_means_figure(layers: Sequence[Row], number: int, colour: str, bins: int = 30) -> go.Figure:
    """Draw how the units' mean activations are spread, in bins that all the layers share.

    Args:
        layers: `unit_means`, the mean activation of each unit.
        number: which of them is drawn.
        colour: of the bars.
        bins: how many.
    """
    values = [float(value) for layer in layers for value in layer["unit_means"]]
    low, high = min(0.0, *values), max(values) or 1.0
    edges = [low + (high - low) * place / bins for place in range(bins + 1)]
    counts = [_counts(layer["unit_means"], edges) for layer in layers]
    drawn = _bars(edges, counts[number], colour)
    drawn.update_xaxes(title_text="mean activation of a unit", range=[low, high])
    drawn.update_yaxes(title_text="units", range=[0, 1.05 * max(map(max, counts))])
    return drawn


def _counts(values: Sequence[float], edges: Sequence[float]) -> list[float]:
    width = (edges[-1] - edges[0]) / (len(edges) - 1)
    counts = [0.0] * (len(edges) - 1)
    for value in values:
        counts[min(int((float(value) - edges[0]) / width), len(counts) - 1)] += 1
    return counts


def _bars(edges: Sequence[float], heights: Sequence[float], colour: str) -> go.Figure:
    middles = [trimmed((a + b) / 2) for a, b in pairwise(edges)]
    widths = [b - a for a, b in pairwise(edges)]
    bars = go.Bar(
        x=middles,
        y=[trimmed(height) for height in heights],
        width=widths,
        marker={"color": faint(colour, 0.8), "line": {"width": 0}},
        hovertemplate="around %{x:.2f}: %{y:.3g}<extra></extra>",
    )
    drawn = go.Figure(bars)
    dress(drawn, height=250, top=10)
    drawn.update_layout(bargap=0)
    return drawn


def _unit(rows: Sequence[Row]) -> float:
    """Return what a figure is multiplied by: fractions are shown in percent."""
    return 100.0 if rows[0].get("unit") == "fraction" else 1.0


def _title(rows: Sequence[Row], unit: float) -> str:
    return f"{rows[0].get('measure')}{' (%)' if unit == 100.0 else ''}"


def _from_zero(rows: Sequence[Row], unit: float) -> list[float]:
    ends = [
        unit * end for row in rows for key in ("mean", "high", "paper") if (end := finite(row.get(key))) is not None
    ]
    return [0.0, 1.06 * max(ends) or 1.0]


def _mean(rows: Sequence[Row], places: Sequence[float], colour: str, unit: float, *, across: bool) -> go.Scatter:
    """Our means with their intervals: along the x axis where `across`, else along y."""
    values = [unit * float(row["mean"]) for row in rows]
    above, below = ([_end(row, side, unit) for row in rows] for side in ("high", "low"))
    bars = {"array": above, "arrayminus": below, "thickness": 2.4, "width": 5, "color": colour}
    shown = [trimmed(value) for value in values]
    return go.Scatter(
        x=shown if across else list(places),
        y=list(places) if across else shown,
        error_x=bars if across else None,
        error_y=None if across else bars,
        mode="markers" if across else "lines+markers",
        line={"color": colour, "width": 2.2},
        marker={"size": 10, "color": colour},
        customdata=[_hover(row, unit) for row in rows],
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
    )


def _end(row: Row, side: str, unit: float) -> float:
    """Return how far an end of the interval lies from the mean; 0 where there is no interval."""
    end = finite(row.get(side))
    return 0.0 if end is None else round(abs(unit * (end - float(row["mean"]))), 6)


def _hover(row: Row, unit: float) -> str:
    percent = " %" if unit == 100.0 else ""
    words = f"{label(str(row.get('name')))}: {unit * float(row['mean']):.2f}{percent}"
    low, high = finite(row.get("low")), finite(row.get("high"))
    return words if low is None or high is None else f"{words} ({unit * low:.2f} to {unit * high:.2f})"


def _papers(
    rows: Sequence[Row], places: Sequence[float], unit: float, *, across: bool, colour: str | None = None
) -> go.Scatter:
    """The paper's figures as diamonds, with its spread where it gives one."""
    values = [trimmed(unit * float(row["paper"])) for row in rows]
    spread = [unit * (finite(row.get("paper_spread")) or 0.0) for row in rows]
    bars = {"array": spread, "thickness": 1.4, "width": 4, "color": INK} if any(spread) else None
    marker = DIAMOND if colour is None else {**DIAMOND, "color": colour, "line": {"width": 2, "color": colour}}
    return go.Scatter(
        x=values if across else list(places),
        y=list(places) if across else values,
        error_x=bars if across else None,
        error_y=None if across else bars,
        mode="markers",
        marker=marker,
        hovertemplate=f"the paper's: %{{{'x' if across else 'y'}}}{' %' if unit == 100.0 else ''}<extra></extra>",
        showlegend=False,
    )


def _across(drawn: go.Figure, row: Row, colour: str, unit: float) -> None:
    """A dashed line at a row's mean, and a band for its interval."""
    value = unit * float(row["mean"])
    drawn.add_hline(y=trimmed(value), line={"color": colour, "width": 2, "dash": "dash"})
    low, high = finite(row.get("low")), finite(row.get("high"))
    if low is not None and high is not None and math.isfinite(high - low):
        drawn.add_hrect(y0=unit * low, y1=unit * high, fillcolor=faint(colour, 0.12), line_width=0, layer="below")
