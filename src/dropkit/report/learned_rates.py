"""The section about rates that were learned: each concrete layer's, epoch by epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from dropkit.report.canvas import dress, trimmed
from dropkit.report.names import label
from dropkit.report.numbers import decimals, finite, plural
from dropkit.report.palette import INK, colour
from dropkit.report.panels import Block, Pane, Panel, Table

Curves = Mapping[str, Mapping[int, float]]
"""From a layer's path to its rate after each epoch (counted from 1)."""


def learned_rates_block(record: Mapping[str, Any]) -> Block | None:
    """Return a run's learned rates over the epochs; None where no rate was learned."""
    curves = _read(record.get("epochs") or ())
    if not curves:
        return None
    epochs = sorted({epoch for curve in curves.values() for epoch in curve})
    best = int(finite((record.get("summary") or {}).get("best_epoch")) or 0)  # counted from 1; 0 means none
    figure = learned_rates_figure(curves, last_epoch=epochs[-1], best_epoch=best)
    described = f"The learned dropout rate of {plural(len(curves), 'layer')} over the epochs"
    return Block(
        id="learned-rates",
        nav="Learned rates",
        title="The learned rates",
        meaning="Each line is a layer whose dropout rate is learned with the weights. A rate that still moves at the "
        "end has not settled: train longer, or start from where it got to.",
        panes=[Pane(panels=[Panel(id="learned-rates-figure", figure=figure, description=described)], columns=1)],
        legend="policies",
        named=[(path, colour(1 + index)) for index, path in enumerate(curves)],
        table=Table(
            summary="The rates as a table",
            head=["layer", "first epoch", "best epoch", "last epoch"],
            rows=[
                [path, *(decimals(curve.get(epoch), 4) for epoch in (epochs[0], best, epochs[-1]))]
                for path, curve in curves.items()
            ],
        ),
        notes=[
            "n = 1 run. The rate p is the share of units that is dropped in training, measured after each epoch."
            + ("" if not best else " The dashed line is the best epoch, whose weights and rates were kept.")
        ],
    )


def _read(rows: Sequence[Mapping[str, Any]]) -> Curves:
    curves: dict[str, dict[int, float]] = {}
    for row in rows:
        epoch = finite(row.get("epoch"))
        for path, value in (row.get("learned_rates") or {}).items():
            rate = finite(value)
            if epoch is not None and rate is not None:
                curves.setdefault(str(path), {})[int(epoch)] = rate
    return curves


def learned_rates_figure(curves: Curves, *, last_epoch: int, best_epoch: int) -> go.Figure:
    """Draw a line a layer.

    Args:
        curves: Each layer's rate after each epoch.
        last_epoch: Where the epoch axis ends.
        best_epoch: The epoch whose weights were kept: marked by a line; 0 for none.
    """
    figure = go.Figure()
    for index, (path, curve) in enumerate(curves.items()):
        figure.add_trace(
            go.Scatter(
                x=list(curve),
                y=[trimmed(rate) for rate in curve.values()],
                name=label(path),
                mode="lines+markers" if len(curve) == 1 else "lines",
                line={"color": colour(1 + index), "width": 2.6},
                hovertemplate="%{y:.4f}",
            )
        )
    if best_epoch:
        figure.add_vline(x=best_epoch, line={"color": INK, "width": 1, "dash": "dash"})
    dress(figure, height=330, top=14)
    figure.update_xaxes(
        range=[0, 1.03 * last_epoch], title_text="epoch", tickformat="d", dtick=1 if last_epoch <= 8 else None
    )
    figure.update_yaxes(title_text="rate p", rangemode="tozero")
    figure.update_layout(hovermode="x unified")
    return figure
