"""The section on calibration: whether a stated confidence is how often the network is right."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dropkit.report.canvas import dress, trimmed
from dropkit.report.details import Details, PolicyDetails
from dropkit.report.numbers import decimals, finite, percent, plural, whole
from dropkit.report.palette import INK, faint
from dropkit.report.panels import Block, Pane, Panel

POLICIES = 4


def calibration_block(details: Details) -> Block | None:
    """Return one reliability diagram a policy; None where no policy has one."""
    policies = [policy for policy in details.shown(POLICIES) if policy.calibration]
    if not policies:
        return None
    return Block(
        id="calibration",
        title="Calibration",
        finding=_finding(details, policies),
        meaning="Of the pictures that the network is 80\u00a0% sure of, 80\u00a0% should be right: the points should "
        "lie on the diagonal. Below it the network promises too much, above it too little. The bars say how many "
        "predictions each point stands on: a point over a low bar says little.",
        panes=[
            Pane(panels=[_panel(policy, index) for index, policy in enumerate(policies)], columns=_columns(policies))
        ],
        notes=[
            "Predictions on the test pictures, in ten equal bins of the confidence in the predicted class.",
            "ECE, the expected calibration error, is the mean distance from the diagonal, over all predictions.",
        ],
    )


def _columns(policies: Sequence[PolicyDetails]) -> int:
    return 2 if len(policies) in (1, 2, 4) else 0


def _panel(policy: PolicyDetails, index: int) -> Panel:
    values = policy.calibration or {}
    ece = decimals(values.get("ece"))
    return Panel(
        id=f"calibration-{index}",
        figure=calibration_figure(values, policy.colour),
        title=policy.name,
        colour=policy.colour,
        note=f"ECE {ece}",
        caption=f"{policy.counts}.",
        description=f"Reliability diagram of {policy.name}, expected calibration error {ece}",
    )


def sureness(values: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the mean confidence and the share of right answers over all predictions; None where nothing is known."""
    bins = [
        (count, confidence, accuracy)
        for count, confidence, accuracy in zip(values["count"], values["confidence"], values["accuracy"], strict=True)
        if count and finite(confidence) is not None and finite(accuracy) is not None
    ]
    total = sum(count for count, _, _ in bins)
    if not total:
        return None
    return sum(n * c for n, c, _ in bins) / total, sum(n * a for n, _, a in bins) / total


def _finding(details: Details, policies: Sequence[PolicyDetails]) -> str:
    policy = next((one for one in policies if one.name == details.chosen.name), policies[-1])
    known = sureness(policy.calibration or {})
    if known is None:
        return ""
    sure, right = known
    distance = 100 * (sure - right)
    word = "about as sure as it should be" if abs(distance) < 1 else "too sure" if distance > 0 else "too cautious"
    both = f"{percent(sure, 1)} confident on average, and right in {percent(right, 1)}"
    return f"With {policy.name} the network is {word}: {both}."


# --------------------------------------------------------------------- figure


def calibration_figure(values: Mapping[str, Any], colour: str) -> go.Figure:
    """Draw the share of right answers against the confidence, over a histogram of the confidence.

    Args:
        values: `edges`, and for each bin `confidence`, `accuracy` (fractions, None where it is empty) and `count`.
        colour: The policy's colour.
    """
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.76, 0.24], vertical_spacing=0.05)
    figure.add_trace(_diagonal(), row=1, col=1)
    figure.add_trace(_points(values, colour), row=1, col=1)
    figure.add_trace(_bars(values, colour), row=2, col=1)
    dress(figure, height=400, top=10)
    figure.update_xaxes(range=[0, 103], dtick=20)
    figure.update_xaxes(title_text="confidence (%)", row=2, col=1)
    figure.update_yaxes(range=[0, 103], dtick=20, title_text="right (%)", row=1, col=1)
    figure.update_yaxes(title_text="count", nticks=3, row=2, col=1)
    for text, x, y, anchor in (("too cautious", 4, 97, "left"), ("too sure", 99, 5, "right")):
        figure.add_annotation(
            text=f"<i>{text}</i>", x=x, y=y, xanchor=anchor, showarrow=False, font_size=11, row=1, col=1
        )
    return figure


def _diagonal() -> go.Scatter:
    line = {"color": INK, "width": 1, "dash": "dash"}
    return go.Scatter(x=[0, 100], y=[0, 100], mode="lines", line=line, hoverinfo="skip", showlegend=False)


def _points(values: Mapping[str, Any], colour: str) -> go.Scatter:
    bins = [
        (100 * c, 100 * a, n)
        for c, a, n in zip(values["confidence"], values["accuracy"], values["count"], strict=True)
        if n and finite(c) is not None and finite(a) is not None
    ]
    most = max((n for _, _, n in bins), default=1)
    return go.Scatter(
        x=[trimmed(c) for c, _, _ in bins],
        y=[trimmed(a) for _, a, _ in bins],
        mode="lines+markers",
        line={"color": faint(colour, 0.45), "width": 1.6},
        # a point's area follows its count down to a size that can still be seen
        marker={
            "size": [trimmed(6 + 8 * (n / most) ** 0.5) for _, _, n in bins],
            "color": colour,
            "opacity": 1,
            "line": {"width": 0},
        },
        text=[plural(n, "prediction") for _, _, n in bins],
        hovertemplate="sure %{x:.1f} %, right %{y:.1f} %<br>%{text}<extra></extra>",
        showlegend=False,
    )


def _bars(values: Mapping[str, Any], colour: str) -> go.Bar:
    edges = values["edges"]
    pairs = list(pairwise(edges))
    return go.Bar(
        x=[trimmed(50 * (low + high)) for low, high in pairs],
        y=list(values["count"]),
        width=[trimmed(92 * (high - low)) for low, high in pairs],
        marker={"color": faint(colour, 0.6), "line": {"width": 0}},
        text=[
            f"{100 * low:.0f} to {100 * high:.0f} %: {whole(n)}"
            for (low, high), n in zip(pairs, values["count"], strict=True)
        ],
        textposition="none",
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )
