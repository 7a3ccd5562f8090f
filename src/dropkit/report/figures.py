"""The page's figures, as plotly figures: differences with intervals, learning curves, the gap."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from dropkit.report.canvas import dress, trimmed
from dropkit.report.curves import Curve, PolicyCurves
from dropkit.report.names import label
from dropkit.report.numbers import difference, finite, in_nats, interval
from dropkit.report.palette import BETTER, INK, faint

# ---------------------------------------------------------------- differences


def forest(rows: Sequence[Mapping[str, Any]], metric: str) -> go.Figure | None:
    """Draw each policy's difference to the first one with its interval; None where no difference is known.

    Args:
        rows: `name`, `colour`, `difference`, `low`, `high` (fractions, or nats for `nll`); the first
            is drawn at the top.
        metric: `error`, `balanced-error` or `nll`.
    """
    scale = 1.0 if in_nats(metric) else 100.0
    known = [(scale * value, row) for row in rows if (value := finite(row.get("difference"))) is not None]
    if not known:
        return None
    figure = go.Figure()
    labels = [_row_label(row, metric) for _, row in known]
    lines = max(text.count("<br>") + 1 for text in labels)
    for position, ((value, row), text) in enumerate(zip(reversed(known), reversed(labels), strict=True)):
        figure.add_trace(_interval_trace(value, row, position, scale, metric))
        figure.add_annotation(
            text=text,
            x=0,
            xref="paper",
            xanchor="left",
            align="left",
            y=position,
            yanchor="bottom",
            yshift=9,
            showarrow=False,
        )
    low, high = _forest_range(known, scale)
    _mark_sides(figure, low)
    unit = "nats" if in_nats(metric) else "percentage points"
    above, row_height = 16 * lines + 18, 16 * lines + 42
    dress(figure, height=row_height * (len(known) - 1) + above + 24 + 30 + 54, top=30)
    figure.update_xaxes(range=[low, high], title_text=f"difference ({unit})", zeroline=False)
    figure.update_yaxes(range=[-24 / row_height, len(known) - 1 + above / row_height], visible=False, fixedrange=True)
    return figure


def _mark_sides(figure: go.Figure, low: float) -> None:
    """The line at zero, and which side of it is better: lower errors and losses are."""
    figure.add_vline(x=0, line={"color": INK, "width": 1.5})
    figure.add_shape(type="rect", x0=low, x1=0, y0=0, y1=1, yref="paper", fillcolor=BETTER, line_width=0, layer="below")
    for text, anchor, shift in (("◀ better", "right", -8), ("worse ▶", "left", 8)):
        figure.add_annotation(
            text=text, x=0, xanchor=anchor, xshift=shift, y=1, yref="paper", yanchor="bottom", showarrow=False
        )


def _interval_trace(value: float, row: Mapping[str, Any], position: int, scale: float, metric: str) -> go.Scatter:
    low, high = finite(row.get("low")), finite(row.get("high"))
    bars = None
    if low is not None and high is not None:
        bars = {
            "array": [scale * high - value],
            "arrayminus": [value - scale * low],
            "thickness": 2.5,
            "width": 6,
            "color": row["colour"],
        }
    return go.Scatter(
        x=[trimmed(value)],
        y=[position],
        error_x=bars,
        mode="markers",
        marker={"size": 12, "color": row["colour"], "line": {"width": 0}},
        hovertemplate=f"{_row_text(row, metric)}<extra></extra>",
        showlegend=False,
    )


def _row_text(row: Mapping[str, Any], metric: str) -> str:
    bounds = interval(row.get("low"), row.get("high"), metric, sign=True)
    return difference(row["difference"], metric) + (f"  ({bounds})" if bounds else "")


def _row_label(row: Mapping[str, Any], metric: str) -> str:
    name = str(row["name"])
    parted = "  " if len(name) <= 14 else "<br>"
    return f"<b>{label(name)}</b>{parted}{_row_text(row, metric)}"


def _forest_range(known: Sequence[tuple[float, Mapping[str, Any]]], scale: float) -> tuple[float, float]:
    """Return x limits that hold every interval and leave room for a word on both sides of zero."""
    ends = [value for value, _ in known]
    ends += [scale * end for _, row in known for side in ("low", "high") if (end := finite(row.get(side))) is not None]
    least = 0.01 if scale == 1.0 else 1.0  # nats, points: what is all zero still needs an axis
    reach = max(map(abs, ends))
    reach = reach if reach > least / 1000 else least
    return min(1.12 * min(ends), -0.45 * reach), max(1.12 * max(ends), 0.45 * reach)


# ------------------------------------------------------------ learning curves


def learning(
    policy: PolicyCurves,
    quantity: str,
    *,
    last_epoch: int,
    limits: tuple[float, float],
    reference: PolicyCurves | None = None,
) -> go.Figure:
    """Draw one policy's training and validation curves: means strong, single runs faint, best epochs marked.

    Args:
        policy: The runs.
        quantity: `loss` (nats) or `error` (percent).
        last_epoch: Where the epoch axis ends, the same in all the panels that stand beside each other.
        limits: The y axis, likewise.
        reference: A policy whose validation mean is drawn thinly for comparison.
    """
    figure = go.Figure()
    validation, train = f"val_{quantity}", f"train_{quantity}"
    for kind, dash in ((train, "dot"), (validation, "solid")):
        figure.add_trace(_run_lines(policy, kind, dash))
    if reference is not None:
        line = {"color": faint(reference.colour, 0.85), "width": 1.5}
        name = f"validation, {reference.name}"
        figure.add_trace(_mean_line(reference.mean(validation), name, line, quantity))
    for kind, name, dash in ((train, "training", "dot"), (validation, "validation", "solid")):
        line = {"color": policy.colour, "width": 2.6, "dash": dash}
        figure.add_trace(_mean_line(policy.mean(kind), name, line, quantity))
    figure.add_trace(_best_points(policy, validation))
    _mark_best(figure, policy, last_epoch)
    dress(figure, height=290, top=34)
    _epoch_axes(figure, last_epoch, limits, "loss (nats)" if quantity == "loss" else "error (%)")
    return figure


def gap(policies: Sequence[PolicyCurves], *, last_epoch: int, limits: tuple[float, float]) -> go.Figure:
    """Draw validation minus training loss for every policy, the best epoch as a point on the mean."""
    figure = go.Figure()
    for policy in policies:
        figure.add_trace(_run_lines(policy, "gap", "solid", alpha=0.3))
    for policy in policies:
        mean = policy.mean("gap")
        figure.add_trace(_mean_line(mean, policy.name, {"color": policy.colour, "width": 2.6}, "loss"))
        value = mean.get(policy.best_epoch) if policy.best_epoch is not None else None
        if value is not None:
            marker = {"size": 11, "color": policy.colour, "line": {"color": "white", "width": 2}}
            figure.add_trace(
                go.Scatter(x=[policy.best_epoch], y=[trimmed(value)], mode="markers", marker=marker, hoverinfo="skip")
            )
    dress(figure, height=370, top=14)
    figure.add_hline(y=0, line={"color": INK, "width": 1})
    _epoch_axes(figure, last_epoch, limits, "validation − training loss (nats)")
    return figure


def limits(policies: Iterable[PolicyCurves], kinds: Sequence[str]) -> tuple[float, float]:
    """Return a y axis for the curves: from zero (or below) to the highest point, but not to a lone spike.

    A diverged run may lose any number of nats: it does not stretch the axis where other runs finished.
    """
    values = sorted(
        value
        for policy in policies
        for trace in policy.counted
        for kind in kinds
        for value in trace.curves[kind].values()
        if value is not None
    )
    if not values:
        return 0.0, 1.0
    usual = values[math.ceil(0.98 * len(values)) - 1]
    top = min(values[-1], 1.5 * usual) if usual > 0 else values[-1]
    bottom = min(values[0], 0.0)
    room = 0.06 * (top - bottom) or 0.5
    return (bottom - room if bottom < 0 else 0.0), top + room


def _run_lines(policy: PolicyCurves, kind: str, dash: str, alpha: float = 0.36) -> go.Scatter:
    """All single runs as one trace: the lines are parted by points without a value."""
    epochs: list[int | None] = []
    values: list[float | None] = []
    for trace in policy.traces:
        epochs += [*trace.curves[kind], None]
        values += [*map(trimmed, trace.curves[kind].values()), None]
    line = {"color": faint(policy.colour, alpha), "width": 1, "dash": dash}
    return go.Scatter(x=epochs, y=values, mode="lines", line=line, hoverinfo="skip", showlegend=False)


def _mean_line(mean: Curve, name: str, line: dict[str, Any], quantity: str) -> go.Scatter:
    known = sum(value is not None for value in mean.values())
    form = "%{y:.3f} nats" if quantity == "loss" else "%{y:.2f} %"
    return go.Scatter(
        x=list(mean),
        y=[trimmed(value) for value in mean.values()],
        mode="lines" if known > 1 else "markers",  # a line of one point cannot be seen
        line=line,
        marker={"color": line["color"], "size": 8},
        name=label(name, 28),
        hovertemplate=form,
        showlegend=False,
    )


def _best_points(policy: PolicyCurves, kind: str) -> go.Scatter:
    """One open circle a run, on its validation curve where its weights were kept."""
    points = [
        (trace.best_epoch, value)
        for trace in policy.traces
        if trace.best_epoch is not None and (value := trace.curves[kind].get(trace.best_epoch)) is not None
    ]
    return go.Scatter(
        x=[epoch for epoch, _ in points],
        y=[trimmed(value) for _, value in points],
        mode="markers",
        marker={"symbol": "circle-open", "size": 8, "color": policy.colour, "line": {"width": 1.5}},
        hoverinfo="skip",
        showlegend=False,
    )


def _mark_best(figure: go.Figure, policy: PolicyCurves, last_epoch: int) -> None:
    """A vertical line at the median best epoch, named above the frame."""
    if policy.best_epoch is None:
        return
    place = policy.best_epoch / max(last_epoch, 1)
    several = len(policy.counted) > 1
    figure.add_vline(x=policy.best_epoch, line={"color": INK, "width": 1, "dash": "dash"})
    figure.add_annotation(
        text=f"best epoch {policy.best_epoch}{' (median)' if several else ''}",
        x=policy.best_epoch,
        y=1,
        yref="paper",
        yanchor="bottom",
        showarrow=False,
        font_size=11,
        # the label stays inside the frame, on a phone too
        xanchor="left" if place < 0.36 else "right" if place > 0.64 else "center",
    )


def _epoch_axes(figure: go.Figure, last_epoch: int, y: tuple[float, float], y_title: str) -> None:
    figure.update_xaxes(
        range=[0, 1.03 * last_epoch],
        spikecolor=INK,
        spikethickness=1,
        title_text="epoch",
        tickformat="d",
        dtick=1 if last_epoch <= 8 else None,
    )
    figure.update_yaxes(range=list(y), title_text=y_title)
    figure.update_layout(hovermode="x unified")
