"""The figures of a reproduction: intervals that reach as far as they should, diamonds, histograms."""

from typing import Any

import pytest

from dropkit.report.beside import beside_figure, curves_figure, histogram_figure, unit_means_figure


def row(name: str, mean: float | None, low: float | None = None, high: float | None = None, **more: Any) -> Any:
    return {"name": name, "unit": "fraction", "measure": "test error", "mean": mean, "low": low, "high": high, **more}


def test_intervals_and_the_papers_spread() -> None:
    rows = [row("a", 0.02, 0.015, 0.03, paper=0.025, paper_spread=0.001), row("b", None, paper=0.05), row("c", 0.04)]
    figure = beside_figure(rows, ["#000001", "#000002", "#000003"])
    assert figure is not None
    ours = {trace.marker.color: trace for trace in figure.data if trace.marker.symbol is None}
    assert set(ours) == {"#000001", "#000003"}
    assert (ours["#000001"].error_x.array, ours["#000001"].error_x.arrayminus) == ((1.0,), (0.5,))
    assert (ours["#000003"].error_x.array, ours["#000003"].error_x.arrayminus) == ((0.0,), (0.0,))
    papers = [trace for trace in figure.data if trace.marker.symbol == "diamond-open"]
    assert sorted((trace.x[0], trace.y[0]) for trace in papers) == [(2.5, 2), (5.0, 1)]  # the first row at the top
    assert [trace.error_x.array for trace in papers if trace.error_x.array] == [(0.1,)]
    assert figure.layout.xaxis.range[0] == 0.0
    assert figure.layout.xaxis.range[1] == pytest.approx(5.3)


def test_no_figure_without_a_mean() -> None:
    assert beside_figure([row("a", None, paper=0.1)], ["#000000"]) is None
    assert curves_figure([row("a", None, paper=0.1, x=1.0, series="s")], ["#000000"], "k") is None


def test_a_line_a_series_in_the_order_of_x() -> None:
    rows = [row("a", 0.03, x=0.5, series="s"), row("b", 0.02, x=0.1, series="s", paper=0.01), row("c", 0.01, x=0.1)]
    rows[2]["series"] = "t"
    figure = curves_figure(rows, ["#000001", "#000001", "#000002"], "rate")
    assert figure is not None
    lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert [(trace.x, trace.y) for trace in lines] == [((0.1, 0.5), (2.0, 3.0)), ((0.1,), (1.0,))]
    assert [(trace.x, trace.y) for trace in figure.data if trace.mode == "markers"] == [((0.1,), (1.0,))]


def test_every_unit_is_counted_once() -> None:
    layers = [{"unit_means": [0.0, 1.0, 1.0]}, {"unit_means": [3.0]}]
    counts = [unit_means_figure(layers, number, "#000000", bins=3).data[0] for number in (0, 1)]
    assert [bars.y for bars in counts] == [(1.0, 2.0, 0.0), (0.0, 0.0, 1.0)]
    assert counts[0].x == (0.5, 1.5, 2.5)


def test_a_layer_that_is_silent() -> None:
    layers = [{"unit_means": [0.0, 0.0], "edges": [0.0, 1.0], "activations": [1.0]}]
    assert unit_means_figure(layers, 0, "#000000", bins=2).data[0].y == (2.0, 0.0)
    assert histogram_figure(layers, 0, "#000000").data[0].y == (100.0,)
