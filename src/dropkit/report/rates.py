"""The section of a sweep: error, losses and gap against the dropout rate, where it overfits and where it underfits."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from dropkit.report.canvas import dress, trimmed
from dropkit.report.curves import diverged
from dropkit.report.names import label
from dropkit.report.numbers import decimals, finite, in_percent, span
from dropkit.report.palette import INK, OVERFIT, UNDERFIT, colour, faint
from dropkit.report.panels import Block, Pane, Panel

COLOUR = colour(1)


@dataclass(frozen=True)
class Series:
    """One quantity at each rate that has it, in the figure's unit."""

    rates: Sequence[float]
    means: Sequence[float]
    lows: Sequence[float | None]
    highs: Sequence[float | None]

    @property
    def has_band(self) -> bool:
        """Whether every point has an interval."""
        return all(bound is not None for bound in (*self.lows, *self.highs))


def rates_block(record: Mapping[str, Any]) -> Block | None:
    """Return the rate curves of a sweep; None for any other record, or where fewer than two rates are known."""
    sweep = record.get("sweep") or {}
    rows = sorted(
        (row for row in record.get("policies") or () if finite(row.get("rate")) is not None),
        key=lambda row: float(row["rate"]),
    )
    if not sweep or len(rows) < 2:
        return None
    best = finite((sweep.get("lowest") or {}).get("rate"))
    site = str(sweep.get("site") or "")
    sides = _sides(sweep, best)
    panels = [panel for panel in _panels(rows, record.get("runs") or (), best, site, sides) if panel is not None]
    if not panels:
        return None
    runs = span(row.get("n") for row in rows)
    return Block(
        id="rates",
        nav="Rates",
        title=f"What the rate at {site} does" if site else "What the rate does",
        finding=str(sweep.get("sentence") or ""),
        meaning=_meaning(best, sides),
        panes=[Pane(panels=panels, columns=2)],
        legend="rates",
        notes=[
            f"n = {runs} {'run' if runs == '1' else 'runs'} a rate, {len(rows)} rates. "
            "The rate p is the share of units that is dropped in training. Bands are 95\u00a0% intervals; error and "
            "NLL are measured on the test pictures, the dashed line is chosen without them."
        ],
    )


def _meaning(best: float | None, sides: Mapping[str, float]) -> str:
    said = ["Each point is a network trained with that rate."]
    if best is not None:
        said.append("The dashed line is at the rate with the lowest validation loss.")
    if "overfits" in sides:
        where = f"Up to rate {sides['overfits']:g}"
        said.append(f"{where} the network overfits: it learns the training pictures by heart, and the gap is larger.")
    if "underfits" in sides:
        where = f"From rate {sides['underfits']:g} on"
        said.append(f"{where} the network underfits: so much is dropped that even the training loss is higher.")
    return " ".join(said)


def _panels(
    rows: Sequence[Mapping[str, Any]],
    runs: Sequence[Mapping[str, Any]],
    best: float | None,
    site: str,
    sides: Mapping[str, float],
) -> list[Panel | None]:
    shown = (
        ("error", "Test error", "error (%)", ()),
        ("nll", "Test loss (NLL)", "NLL (nats)", ()),
        ("gap", "Gap", "validation − training loss (nats)", ()),
        ("train_loss", "Training and validation loss", "loss (nats)", (_validation(rows, runs),)),
    )
    return [
        _panel(key, title, unit, [series, *more], best, site, sides)
        for key, title, unit, more in shown
        if (series := _series(rows, key)).rates
    ]


def _panel(
    key: str, title: str, unit: str, series: Sequence[Series], best: float | None, site: str, sides: Mapping[str, float]
) -> Panel:
    figure = rate_figure(series, unit, best, site, sides, training=key == "train_loss")
    described = f"{title} against the dropout rate, mean and 95 % interval"
    return Panel(id=f"rate-{key.replace('_', '-')}", figure=figure, title=title, description=described)


def _series(rows: Sequence[Mapping[str, Any]], key: str) -> Series:
    scale = 100.0 if in_percent(key) else 1.0
    points = []
    for row in rows:
        value = (row.get("metrics") or {}).get(key) or {}
        mean, low, high = (finite(value.get(part)) for part in ("mean", "low", "high"))
        if mean is not None:
            bounds = [None if bound is None else scale * bound for bound in (low, high)]
            points.append((float(row["rate"]), scale * mean, *bounds))
    columns = list(zip(*points, strict=True)) or [(), (), (), ()]
    return Series(*columns)


def _validation(rows: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> Series:
    """The mean validation loss over each rate's finished runs: what the best rate is chosen by."""
    rates, means = [], []
    for row in rows:
        of_rate = [run for run in runs if run.get("policy") == row.get("name") and not diverged(run)]
        splits = [(run.get("summary") or {}).get("val") or {} for run in of_rate]
        losses = [loss for split in splits if (loss := finite(split.get("nll", split.get("loss")))) is not None]
        if losses:
            rates.append(float(row["rate"]))
            means.append(statistics.fmean(losses))
    return Series(rates, means, [None] * len(rates), [None] * len(rates))


def _sides(sweep: Mapping[str, Any], best: float | None) -> dict[str, float]:
    """Return the sides of the best rate that tests found, and the rate up to or from which they did."""
    if best is None:
        return {}
    below, above = finite(sweep.get("overfits_below")), finite(sweep.get("underfits_above"))
    found = {"overfits": below} if below is not None and below < best else {}
    return found | ({"underfits": above} if above is not None and above > best else {})


# --------------------------------------------------------------------- figure


def rate_figure(
    series: Sequence[Series],
    unit: str,
    best: float | None,
    site: str,
    sides: Mapping[str, float],
    *,
    training: bool = False,
) -> go.Figure:
    """Draw one quantity, or the training and the validation loss, against the rate.

    Args:
        series: One, or the training loss and the validation loss.
        unit: The y axis' title.
        best: The rate with the lowest validation loss: marked by a line.
        site: Where the rate acts: the x axis' title.
        sides: What tests found: it `overfits` up to a rate, it `underfits` from a rate on.
        training: Whether the first series is the training loss: dotted, as in the learning curves.
    """
    figure = go.Figure()
    for index, one in enumerate(one for one in series if one.rates):
        is_training = training and index == 0
        if one.has_band:
            figure.add_trace(_band(one))
        figure.add_trace(_line(one, "dot" if is_training else "solid", unit, _word(training, index)))
    dress(figure, height=300, top=34)
    ends = series[0].rates[0], series[0].rates[-1]
    room = 0.04 * (ends[1] - ends[0])
    if training:
        _name_lines(figure, series)
    _mark(figure, best, (ends[0] - room, ends[1] + room), sides)
    of = f" at {label(site)}" if site else ""
    figure.update_xaxes(range=[ends[0] - room, ends[1] + room], title_text=f"rate p{of}")
    figure.update_yaxes(title_text=unit, rangemode="tozero")
    figure.update_layout(hovermode="x unified")
    return figure


def _word(training: bool, index: int) -> str:
    return ("training", "validation")[index] if training else "mean"


def _band(series: Series) -> go.Scatter:
    return go.Scatter(
        x=[*series.rates, *reversed(series.rates)],
        y=[trimmed(value) for value in (*series.highs, *reversed(series.lows))],
        fill="toself",
        fillcolor=faint(COLOUR, 0.2),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
    )


def _line(series: Series, dash: str, unit: str, name: str) -> go.Scatter:
    bounds = [
        "" if low is None or high is None else f"  ({decimals(low)} to {decimals(high)})"
        for low, high in zip(series.lows, series.highs, strict=True)
    ]
    return go.Scatter(
        x=list(series.rates),
        y=[trimmed(value) for value in series.means],
        text=bounds,
        name=name,
        mode="lines+markers",
        line={"color": COLOUR, "width": 2.6, "dash": dash},
        marker={"size": 7, "color": COLOUR},
        hovertemplate=("%{y:.2f} %" if "%" in unit else "%{y:.3f} nats") + "%{text}",
        showlegend=False,
    )


def _name_lines(figure: go.Figure, series: Sequence[Series]) -> None:
    """The words stand on their lines, the higher line's above it and the lower one's below."""
    named = [(one, word) for one, word in zip(series, ("training", "validation"), strict=False) if one.rates]
    higher = max((one for one, _ in named), key=lambda one: one.means[len(one.means) // 2])
    for one, word in named:
        middle = len(one.rates) // 2
        figure.add_annotation(
            text=word,
            x=one.rates[middle],
            y=one.means[middle],
            yanchor="bottom" if one is higher else "top",
            yshift=6 if one is higher else -6,
            showarrow=False,
            font_size=11,
        )


def _mark(figure: go.Figure, best: float | None, ends: tuple[float, float], sides: Mapping[str, float]) -> None:
    """A line at the best rate, and a tint and a word over the rates at which tests found something."""
    if best is None:
        return
    figure.add_vline(x=best, line={"color": INK, "width": 1, "dash": "dash"})
    middle = (best - ends[0]) / (ends[1] - ends[0])
    figure.add_annotation(
        text=f"lowest validation loss: {best:g}",
        x=best,
        y=1,
        yref="paper",
        yanchor="bottom",
        xanchor="left" if middle < 0.34 else "right" if middle > 0.66 else "center",
        showarrow=False,
        font_size=11,
    )
    room = 0.04 / 1.08 * (ends[1] - ends[0])  # as at the ends, so that a single rate is tinted on both of its sides
    for word, edge, anchor, tint in (("overfits", 0, "left", OVERFIT), ("underfits", 1, "right", UNDERFIT)):
        if word not in sides:
            continue
        inner = sides[word] + (room if edge == 0 else -room)
        figure.add_shape(
            type="rect", x0=ends[edge], x1=inner, y0=0, y1=1, yref="paper", fillcolor=tint, line_width=0, layer="below"
        )
        figure.add_annotation(
            text=f"<i>{word}</i>",
            x=ends[edge],
            xanchor=anchor,
            xshift=4 if edge == 0 else -4,
            y=0,
            yref="paper",
            yanchor="bottom",
            showarrow=False,
            font_size=11,
        )
