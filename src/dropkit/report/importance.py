"""The section of a search's choices: which share of the loss's variance goes with each."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from dropkit.report.canvas import dress, trimmed
from dropkit.report.names import label, short
from dropkit.report.numbers import DASH, decimals, finite, percent
from dropkit.report.palette import INK, colour, faint
from dropkit.report.panels import Block, Pane, Panel, Table
from dropkit.report.trials import Search, counts, fitted

COLOUR = colour(1)


def importance_block(search: Search) -> Block | None:
    """Return the share of each choice, the largest first; None where the record has none."""
    rows = [row for row in search.get("importance") or () if finite(row.get("share")) is not None]
    if not rows:
        return None
    rows.sort(key=lambda row: -float(row["share"]))
    said = ", ".join(f"{row.get('name', '')} {percent(row['share'], 0)}" for row in rows)
    panel = Panel("importance-figure", importance_figure(rows), f"The share of the variance of each choice: {said}")
    cells = [[str(row.get("name", "")), *_share(row)] for row in rows]
    return Block(
        id="importance",
        title="Importance",
        meaning="How much each choice matters: the share of the variance of the validation loss, over the whole space "
        "that was searched, that this choice makes alone, averaged over the others.",
        panes=[Pane(panels=[panel], columns=1)],
        table=Table("The shares as a table", ("Choice", "Share", "95\u00a0% interval"), cells, of_policies=False),
        notes=[
            counts(fitted(search)),
            "The thin lines are 95\u00a0% intervals. The shares need not sum to 100\u00a0%, because the choices "
            "interact: what one does depends on the others.",
        ],
    )


def _share(row: Mapping[str, Any]) -> tuple[str, str]:
    low, high = (finite(row.get(part)) for part in ("low", "high"))
    if low is None or high is None:
        return percent(row["share"], 0), DASH
    return percent(row["share"], 0), f"{decimals(100 * low, 0)} to {percent(high, 0)}"


def importance_figure(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Draw one bar a choice, the first at the top, with its name and its numbers above it.

    Args:
        rows: `name`, `share`, `low`, `high`; fractions.
    """
    figure = go.Figure()
    for place, row in enumerate(reversed(rows)):
        share, between = _share(row)
        bounds = "" if between == DASH else f"  ({between})"
        figure.add_trace(_bar(row, place))
        figure.add_annotation(
            text=f"<b>{label(short(str(row.get('name', '')), 30))}</b>  {share}{bounds}",
            x=0,
            y=place,
            xanchor="left",
            yanchor="bottom",
            yshift=8,
            showarrow=False,
        )
    most = max(max(finite(row.get("high")) or 0.0, float(row["share"])) for row in rows)
    dress(figure, height=48 * len(rows) + 70, top=8)
    figure.update_xaxes(range=[0, 108 * most or 1.0], title_text="share of the variance (%)")
    figure.update_yaxes(range=[-0.5, len(rows) - 0.2], visible=False, fixedrange=True)
    return figure


def _bar(row: Mapping[str, Any], place: int) -> go.Bar:
    share = float(row["share"])
    low, high = (finite(row.get(part)) for part in ("low", "high"))
    bars = None
    if low is not None and high is not None:
        up, down = (trimmed(100 * value) for value in (high - share, share - low))
        bars = {"array": [up], "arrayminus": [down], "color": INK, "thickness": 1.6, "width": 4}
    return go.Bar(
        x=[trimmed(100 * share)],
        y=[place],
        width=0.24,
        orientation="h",
        marker={"color": faint(COLOUR, 0.75)},
        error_x=bars,
        hoverinfo="skip",  # all its numbers stand above it
        showlegend=False,
    )
