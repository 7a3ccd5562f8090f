"""The section of a search's response: validation loss and gap against the rate of each site."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from dropkit.report.canvas import dress, trimmed
from dropkit.report.names import label
from dropkit.report.numbers import DASH, decimals, finite, plural
from dropkit.report.palette import INK, colour, faint
from dropkit.report.panels import Block, Pane, Panel, Table
from dropkit.report.trials import Search, Trial, about, counts, fitted, frame

COLOUR = colour(1)
QUANTITIES = {
    "loss": ("validation loss", "val_loss", "validation loss (nats)"),
    "gap": ("gap", "gap", "validation − training loss (nats)"),
}
"""What responds to a rate: its words, its name in a trial, the title of its axis."""

PARTS = ("mean", "low", "high")


def response_block(search: Search) -> Block | None:
    """Return what each rate does, a pair of figures a site; None where the record has no response."""
    trials = fitted(search)
    rows = search.get("response") or ()
    panels = [
        _response_panel(index, row, key, trials, search)
        for index, row in enumerate(rows)
        for key in QUANTITIES
        if row.get("rates") and (row.get(key) or {}).get("mean")
    ]
    if not panels:
        return None
    return Block(
        id="response",
        title="Response",
        meaning="What each rate does while the other choices stay as in the chosen policy. Each dot is a trial at its "
        "lowest validation loss, whatever its other choices: they lie around the line, not on it.",
        panes=[Pane(panels=panels, columns=2)],
        legend="response",
        table=_response_table(rows),
        notes=[
            counts(trials),
            "The line is what a Gaussian process, fitted to these trials, expects at the end of training; the band is "
            "its 95\u00a0% interval, wide where trials are few. Each trial counts with its epoch, at every rung and at "
            "its end: so those that were stopped early count, too.",
        ],
    )


def _response_panel(index: int, row: Mapping[str, Any], key: str, trials: Sequence[Trial], search: Search) -> Panel:
    site, kind = str(row.get("site", "")), str(row.get("kind") or "")
    words, measured, axis = QUANTITIES[key]
    chosen = (search.get("chosen") or {}).get("number")
    rate = next((_rate(trial, site) for trial in trials if trial.get("number") == chosen), None)
    dots = [trial for trial in trials if _rate(trial, site) is not None and finite(trial.get(measured)) is not None]
    figure, hidden = response_figure(row, key, dots, rate)
    figure.update_xaxes(title_text=f"rate p at {label(site)}")
    figure.update_yaxes(title_text=axis)
    captions = [f"Other choices: {row['others']}."] if row.get("others") else []
    if hidden:
        captions.append(f"Arrows: {plural(hidden, 'trial')} beyond the frame.")
    at = "" if rate is None else f", chosen {rate:g}"
    return Panel(
        id=f"response-{index}-{key}",
        figure=figure,
        title=f"{site}: {words}",
        note=kind,
        caption=" ".join(captions),
        description=f"The {words} against the rate at {site}{at}, mean and 95 % interval; the table holds the numbers",
    )


def _rate(trial: Trial, site: str) -> float | None:
    return finite((trial.get("params") or {}).get(site))


def _response_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    cells = []
    for row in rows:
        for place, rate in enumerate(row.get("rates") or ()):
            values = [_at(row.get(key) or {}, place) for key in QUANTITIES]
            cells.append([str(row.get("site", "")), str(row.get("kind") or DASH), f"{rate:g}", *values])
    return Table("The lines as a table", ("Site", "Kind", "Rate", "Val. loss", "Gap"), cells, of_policies=False)


def _at(series: Mapping[str, Any], place: int) -> str:
    mean, low, high = (decimals(values[place]) if (values := series.get(key)) else DASH for key in PARTS)
    return mean if DASH in (low, high) else f"{mean} ({low} to {high})"


def response_figure(
    row: Mapping[str, Any], key: str, dots: Sequence[Trial], chosen: float | None
) -> tuple[go.Figure, int]:
    """Draw one quantity against the rate of one site; return the figure, and how many trials lie beyond its frame.

    Args:
        row: `site`, `rates`, and the quantity's `mean`, `low`, `high` at each rate.
        key: `loss` or `gap`.
        dots: The trials that have the site's rate and the quantity.
        chosen: The rate that was chosen: a dashed line.
    """
    rates, series, measured = list(row["rates"]), row[key], QUANTITIES[key][1]
    figure = go.Figure()
    lows, highs = (list(map(finite, series.get(part) or [None] * len(rates))) for part in ("low", "high"))
    if None not in (*lows, *highs):
        figure.add_trace(_band(rates, lows, highs))
    figure.add_trace(_mean(rates, series))
    finished = [trial for trial in dots if trial.get("status") == "finished"]
    stopped = [trial for trial in dots if trial.get("status") != "finished"]
    site = str(row.get("site", ""))
    shown = [*lows, *highs, *map(finite, series["mean"]), *(trial[measured] for trial in finished)]
    low, high = _room(frame([value for value in shown if value is not None]), [trial[measured] for trial in stopped])
    for group, symbol in ((stopped, "circle-open"), (finished, "circle")):
        if group:
            figure.add_trace(_dots(group, site, measured, symbol, (low, high)))
    dress(figure, height=310, top=34)
    room = 0.04 * (rates[-1] - rates[0]) or 0.04
    ends = rates[0] - room, rates[-1] + room
    _mark_chosen(figure, chosen, ends)
    figure.update_xaxes(range=list(ends))
    figure.update_yaxes(range=[low, high])
    figure.update_layout(hovermode="closest")
    return figure, sum(not low <= trial[measured] <= high for trial in dots)


def _room(ends: tuple[float, float], stopped: Sequence[float]) -> tuple[float, float]:
    """Return the frame with room for trials that were stopped early, but not so much that the line is pressed flat."""
    most = 0.5 * (ends[1] - ends[0])
    low, high = frame([*ends, *stopped])
    return max(low, ends[0] - most), min(high, ends[1] + most)


def _band(rates: Sequence[float], lows: Sequence[float | None], highs: Sequence[float | None]) -> go.Scatter:
    return go.Scatter(
        x=[*rates, *reversed(rates)],
        y=[trimmed(value) for value in (*highs, *reversed(lows))],
        fill="toself",
        fillcolor=faint(COLOUR, 0.2),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
    )


def _mean(rates: Sequence[float], series: Mapping[str, Any]) -> go.Scatter:
    return go.Scatter(
        x=rates,
        y=[trimmed(finite(value)) for value in series["mean"]],
        mode="lines" if len(rates) > 1 else "markers",
        line={"color": COLOUR, "width": 2.6},
        marker={"color": COLOUR, "size": 8},
        text=[_at(series, place) for place in range(len(rates))],
        hovertemplate="rate %{x}: %{text} nats<extra></extra>",
        showlegend=False,
    )


def _dots(trials: Sequence[Trial], site: str, measured: str, symbol: str, ends: tuple[float, float]) -> go.Scatter:
    """Trials at their rate; one beyond the frame is an arrow at its edge."""
    low, high = ends
    edge = 0.02 * (high - low)  # half an arrow
    values = [float(trial[measured]) for trial in trials]
    return go.Scatter(
        x=[_rate(trial, site) for trial in trials],
        y=[trimmed(value if low <= value <= high else min(max(value, low + edge), high - edge)) for value in values],
        mode="markers",
        customdata=[decimals(value) for value in values],
        marker={
            "symbol": [_symbol(symbol, value, ends) for value in values],
            "size": 8,
            "color": INK,
            "line": {"width": 1.4, "color": INK},
        },
        text=[about(trial) for trial in trials],
        hovertemplate="%{text}<br>rate %{x}: %{customdata} nats<extra></extra>",
        showlegend=False,
    )


def _symbol(symbol: str, value: float, ends: tuple[float, float]) -> str:
    arrow = "triangle-down" if value < ends[0] else "triangle-up" if value > ends[1] else "circle"
    return symbol.replace("circle", arrow)


def _mark_chosen(figure: go.Figure, chosen: float | None, ends: tuple[float, float]) -> None:
    if chosen is None:
        return
    figure.add_vline(x=chosen, line={"color": INK, "width": 1, "dash": "dash"})
    place = (chosen - ends[0]) / (ends[1] - ends[0])
    figure.add_annotation(
        text=f"chosen: {chosen:g}",
        x=chosen,
        y=1,
        yref="paper",
        yanchor="bottom",
        xanchor="left" if place < 0.2 else "right" if place > 0.8 else "center",
        showarrow=False,
        font_size=11,
    )
