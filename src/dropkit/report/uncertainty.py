"""The section on uncertainty: the single pass and the average of thinned networks, side by side."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from dropkit.report.calibration import calibration_figure
from dropkit.report.canvas import dress, trimmed
from dropkit.report.numbers import decimals, finite, percent, plural, whole
from dropkit.report.palette import BASELINE, INK, colour, faint
from dropkit.report.panels import Block, Pane, Panel, Table

SINGLE, AVERAGE = "single", "average"
COLOURS = {SINGLE: BASELINE, AVERAGE: colour(1)}
STRANGE = colour(2)
SIGNALS = {
    "single_entropy": "entropy of the single pass",
    "entropy": "entropy of the average",
    "mutual_information": "mutual information",
}


def uncertainty_block(record: Mapping[str, Any]) -> Block | None:
    """Return what `dropkit uncertainty` measured of the run; None where it has not."""
    values = record.get("uncertainty")
    if not values or not values.get("methods"):
        return None
    panes = [_averaging(values), _reliability(values), _risk(values), _strange(values)]
    return Block(
        id="uncertainty",
        title="Uncertainty",
        finding=_finding(values),
        meaning="With its dropout left on, a network answers a picture a little differently each time. Where these "
        "thinned networks disagree, it is unsure; their average is an answer of its own, beside the single pass "
        "without dropout. Neither is calibrated by itself: a temperature is fitted on the validation pictures.",
        panes=[pane for pane in panes if pane is not None],
        legend="policies",
        named=[(way_name(values, way), shade) for way, shade in COLOURS.items()],
        table=_table(values),
        notes=_notes(values),
    )


def way_name(values: Mapping[str, Any], way: str) -> str:
    """Return what a way to predict is called: `single pass`, or `average of 50`."""
    return "single pass" if way == SINGLE else f"average of {whole(values.get('samples'))}"


def _method(values: Mapping[str, Any], way: str, *, scaled: bool = False) -> Mapping[str, Any]:
    rows = values.get("methods") or ()
    return next((row for row in rows if row.get("way") == way and row.get("scaled") is scaled), {})


def _finding(values: Mapping[str, Any]) -> str:
    single, average = _method(values, SINGLE), _method(values, AVERAGE)
    said = (
        f"The average of {whole(values.get('samples'))} thinned networks is wrong on {percent(average.get('error'))} "
        f"of the test pictures (single pass: {percent(single.get('error'))}), with an NLL of "
        f"{decimals(average.get('nll'))} ({decimals(single.get('nll'))}) and an ECE of {decimals(average.get('ece'))} "
        f"({decimals(single.get('ece'))})."
    )
    ood = values.get("ood")
    if not ood:
        return said
    found = ood.get("auroc") or {}
    return (
        f"{said} Pictures of {ood.get('name')} are told from them with an AUROC of {decimals(found.get('entropy'))} by "
        f"the entropy (single pass: {decimals(found.get('single_entropy'))}) and of "
        f"{decimals(found.get('mutual_information'))} by the mutual information."
    )


def _notes(values: Mapping[str, Any]) -> list[str]:
    scales = values.get("temperature") or {}
    fits = ", ".join(f"T = {decimals(scales.get(way), 2)} for the {way_name(values, way)}" for way in (SINGLE, AVERAGE))
    notes = [
        f"n = {plural(values.get('test') or 0, 'test picture')}, {plural(values.get('samples') or 0, 'draw')} of all "
        f"masks. Temperatures fitted on {plural(values.get('validation') or 0, 'validation picture')}: {fits}; below 1 "
        "makes surer, above 1 less sure."
    ]
    ood = values.get("ood")
    if ood:
        notes.append(
            f"{ood.get('name')}: {whole(ood.get('pictures'))} of {whole(ood.get('of'))} pictures, brought to the size "
            "and colours of the run's."
        )
    return [*notes, *(f"Note: {note}." for note in values.get("notes") or ())]


def _table(values: Mapping[str, Any]) -> Table:
    rows = [
        [
            way_name(values, str(row.get("way"))),
            decimals(row.get("temperature"), 2),
            percent(row.get("error")),
            *(decimals(row.get(key)) for key in ("nll", "brier", "ece", "ece_mass")),
            decimals(row.get("aurc"), 4),
        ]
        for row in values["methods"]
    ]
    head = ["Prediction", "T", "Error", "NLL", "Brier", "ECE", "ECE (equal mass)", "AURC"]
    return Table("The figures, before and after temperature scaling", head, rows, opened=True, of_policies=False)


# ------------------------------------------------------------------ averaging


def _averaging(values: Mapping[str, Any]) -> Pane | None:
    rows = values.get("averages") or ()
    if not rows:
        return None
    single = _method(values, SINGLE)
    panels = [
        Panel(
            id=f"uncertainty-{key}",
            figure=averaging_figure(rows, key, finite(single.get(key))),
            title=title,
            caption=caption,
            description=f"{title} of averages of {', '.join(str(row.get('k')) for row in rows)} thinned networks, "
            "beside the single pass",
        )
        for key, title, caption in (
            ("error", "Error", "Bars are standard errors over groups of draws."),
            ("nll", "Loss (NLL)", "The last point is one group of all draws."),
        )
    ]
    return Pane(id="uncertainty-averaging", tab="Averaging", panels=panels, columns=2)


def averaging_figure(rows: Sequence[Mapping[str, Any]], key: str, single: float | None) -> go.Figure:
    """Draw a quantity of averages of k draws against k, with the single pass as a line.

    Args:
        rows: `k`, the quantity and its standard error, `error_se` or `nll_se`, None where there is none.
        key: `error` (a fraction, drawn as percent) or `nll`.
        single: the quantity of the single pass.
    """
    scale, unit = (100.0, "error (%)") if key == "error" else (1.0, "NLL (nats)")
    spreads = [scale * (finite(row.get(f"{key}_se")) or 0.0) for row in rows]
    ks = [row["k"] for row in rows]
    means = [None if (value := finite(row.get(key))) is None else scale * value for row in rows]
    figure = go.Figure(
        go.Scatter(
            x=ks,
            y=[trimmed(mean) for mean in means],
            error_y={
                "array": [trimmed(spread) for spread in spreads],
                "color": COLOURS[AVERAGE],
                "thickness": 1.6,
                "width": 4,
            },
            mode="lines+markers",
            line={"color": faint(COLOURS[AVERAGE], 0.6), "width": 2},
            marker={"size": 8, "color": COLOURS[AVERAGE], "opacity": 1},
            text=[f" ± {spread:.2g}" if spread else "" for spread in spreads],
            hovertemplate="average of %{x}: %{y:.4g}%{text}<extra></extra>",
            showlegend=False,
        )
    )
    dress(figure, height=320, top=14)
    if single is not None:
        _mark_single(figure, scale * single, [mean for mean in means if mean is not None])
    figure.update_xaxes(type="log", tickvals=ks, ticktext=list(map(str, ks)), title_text="thinned networks averaged, k")
    figure.update_yaxes(title_text=unit)
    return figure


def _mark_single(figure: go.Figure, value: float, means: Sequence[float]) -> None:
    figure.add_hline(y=value, line={"color": INK, "width": 1.5, "dash": "dash"})
    above = not means or value >= sum(means) / len(means)
    figure.add_annotation(
        text="single pass",
        x=1,
        xref="paper",
        xanchor="right",
        y=value,
        yanchor="bottom" if above else "top",
        showarrow=False,
        font_size=11,
    )


# ---------------------------------------------------------------- reliability


def _reliability(values: Mapping[str, Any]) -> Pane | None:
    panels = [
        _reliability_panel(values, way, when)
        for way in COLOURS
        for when in ("before", "after")
        if (values.get("reliability") or {}).get(way, {}).get(when)
    ]
    return Pane(id="uncertainty-reliability", tab="Reliability", panels=panels, columns=2) if panels else None


def _reliability_panel(values: Mapping[str, Any], way: str, when: str) -> Panel:
    scale = decimals((values.get("temperature") or {}).get(way), 2)
    title = way_name(values, way) + (f", T = {scale}" if when == "after" else "")
    # As in the table: over fifteen bins, where the figure has ten.
    ece = decimals(_method(values, way, scaled=when == "after").get("ece"))
    return Panel(
        id=f"uncertainty-{way}-{when}",
        figure=calibration_figure(values["reliability"][way][when], COLOURS[way]),
        title=title,
        colour=COLOURS[way],
        note=f"ECE {ece}",
        description=f"Reliability diagram of the {title}, expected calibration error {ece}",
    )


# ------------------------------------------------------------- risk, coverage


def _risk(values: Mapping[str, Any]) -> Pane | None:
    curves = values.get("risk_coverage") or {}
    if not all(curves.get(way) for way in COLOURS):
        return None
    areas = ", ".join(f"{way_name(values, way)} {decimals(_method(values, way).get('aurc'), 4)}" for way in COLOURS)
    panel = Panel(
        id="uncertainty-risk",
        figure=risk_figure({way_name(values, way): (curves[way], shade) for way, shade in COLOURS.items()}),
        title="Error among the surest pictures",
        note=f"AURC: {areas}",
        caption="Leave out the pictures that the network is least sure of, and the error of the others falls.",
        description=f"Risk-coverage curves, area under the curve: {areas}",
    )
    return Pane(id="uncertainty-risk-pane", tab="Risk and coverage", panels=[panel], columns=1)


def risk_figure(curves: Mapping[str, tuple[Mapping[str, Sequence[float]], str]]) -> go.Figure:
    """Draw the error among the surest pictures against the share of pictures that is answered.

    Args:
        curves: by name, `coverage` and `risk` (fractions) and the colour.
    """
    figure = go.Figure()
    for (name, (curve, shade)), dash in zip(curves.items(), ("dash", "solid"), strict=False):
        figure.add_trace(
            go.Scatter(
                x=[trimmed(100 * value) for value in curve["coverage"]],
                y=[trimmed(100 * value) for value in curve["risk"]],
                mode="lines",
                line={"color": shade, "width": 2.4, "dash": dash},
                name=name,
                hovertemplate="%{y:.2f} %",
                showlegend=False,
            )
        )
    dress(figure, height=340, top=14)
    figure.update_layout(hovermode="x unified")
    figure.update_xaxes(range=[0, 101], title_text="answered, surest first (%)")
    figure.update_yaxes(rangemode="tozero", title_text="error among them (%)")
    return figure


# -------------------------------------------------------- other kinds of data


def _strange(values: Mapping[str, Any]) -> Pane | None:
    ood = values.get("ood")
    if not ood or not ood.get("histograms"):
        return None
    panels = [
        Panel(
            id=f"uncertainty-ood-{signal.replace('_', '-')}",
            figure=histogram_figure(ood["edges"], counts, shade),
            title=SIGNALS[signal].capitalize(),
            note=f"AUROC {decimals((ood.get('auroc') or {}).get(signal))}",
            caption=f"Filled: test pictures. Line: {ood.get('name')}.",
            description=f"Histograms of the {SIGNALS[signal]} for test pictures and for {ood.get('name')}",
        )
        for (signal, counts), shade in zip(ood["histograms"].items(), COLOURS.values(), strict=False)
    ]
    return Pane(id="uncertainty-ood", tab="Other data", panels=panels, columns=2)


def histogram_figure(edges: Sequence[float], counts: Mapping[str, Sequence[int]], shade: str) -> go.Figure:
    """Draw the entropies of test pictures as bars and those of other pictures as a line of steps.

    Args:
        edges: of the bins, in nats.
        counts: `test` and `ood`, pictures in each bin.
        shade: colour of the bars.
    """
    middles = [trimmed((low + high) / 2) for low, high in pairwise(edges)]
    test, ood = (_shares(counts[key]) for key in ("test", "ood"))
    figure = go.Figure()
    figure.add_trace(
        go.Bar(
            x=middles,
            y=test,
            width=trimmed(edges[1] - edges[0]),
            marker={"color": faint(shade, 0.5), "line": {"width": 0}},
            hovertemplate="test pictures: %{y:.1f} %<extra></extra>",
            showlegend=False,
        )
    )
    figure.add_trace(
        go.Scatter(
            x=middles,
            y=ood,
            mode="lines",
            line={"color": STRANGE, "width": 2.4, "shape": "hvh"},
            hovertemplate="other data: %{y:.1f} %<extra></extra>",
            showlegend=False,
        )
    )
    dress(figure, height=320, top=14)
    figure.update_xaxes(range=[0, edges[-1]], title_text=f"entropy (nats, at most ln K = {edges[-1]:.2f})")
    figure.update_yaxes(title_text="pictures (%)", rangemode="tozero")
    return figure


def _shares(counts: Sequence[int]) -> list[float | None]:
    total = math.fsum(counts) or 1.0
    return [trimmed(100 * count / total) for count in counts]
