"""The response to each rate: lines, bands and dots are the record's."""

from types import ModuleType
from typing import Any

import pytest

from dropkit.report.panels import Block
from dropkit.report.response import response_block

CONV = [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5]


@pytest.fixture
def search(synthetic: ModuleType) -> dict[str, Any]:
    made: dict[str, Any] = synthetic.search()["search"]
    return made


def block(search: dict[str, Any]) -> Block:
    made = response_block(search)
    assert made is not None
    return made


def panels(search: dict[str, Any]) -> dict[str, Any]:
    return {panel.id: panel for panel in block(search).panes[0].panels}


def dots(figure: Any, symbol: str) -> dict[str, tuple[float, float]]:
    """Where the trials of a symbol are drawn, by their number."""
    return {
        text.split("trial ")[1].split(",")[0]: (x, y)
        for trace in figure.data
        if trace.mode == "markers"
        for x, y, text, drawn in zip(trace.x, trace.y, trace.text, trace.marker.symbol, strict=True)
        if drawn == symbol
    }


def test_each_site_has_its_loss_and_its_gap(search: dict[str, Any]) -> None:
    made = panels(search)
    titles = {name: (panel.title, panel.note) for name, panel in made.items()}
    assert titles == {
        "response-0-loss": ("conv: validation loss", "channel"),
        "response-0-gap": ("conv: gap", "channel"),
        "response-1-loss": ("fc: validation loss", "unit"),
        "response-1-gap": ("fc: gap", "unit"),
    }
    layouts = [made[name].figure.layout for name in ("response-0-loss", "response-1-gap")]
    assert [layout.xaxis.title.text for layout in layouts] == ["rate p at conv", "rate p at fc"]
    assert layouts[0].yaxis.title.text == "validation loss (nats)"
    assert layouts[1].yaxis.title.text == "validation − training loss (nats)"
    assert made["response-1-loss"].caption.startswith("Other choices: conv=channel:0.15.")
    assert made["response-0-gap"].description == (
        "The gap against the rate at conv, chosen 0.15, mean and 95 % interval; the table holds the numbers"
    )


@pytest.mark.parametrize("key", ["loss", "gap"])
def test_mean_and_band_are_those_of_the_record(search: dict[str, Any], key: str) -> None:
    series = search["response"][0][key]
    series["mean"][3], series["low"][3], series["high"][3] = 0.371, 0.352, 0.393
    band, line = panels(search)[f"response-0-{key}"].figure.data[:2]
    assert list(line.x) == CONV
    assert line.y[3] == 0.371
    assert line.text[3] == "0.371 (0.352 to 0.393)"
    assert band.fill == "toself"
    assert band.x[3] == band.x[-4] == 0.15
    assert (band.y[3], band.y[-4]) == (0.393, 0.352)


def test_without_an_interval_there_is_no_band(search: dict[str, Any]) -> None:
    search["response"][0]["loss"].update(low=None, high=[None] * 11)
    figure = panels(search)["response-0-loss"].figure
    assert "toself" not in {trace.fill for trace in figure.data}
    assert figure.data[0].text[0] == "0.376"


def test_finished_trials_are_filled_stopped_ones_hollow(search: dict[str, Any]) -> None:
    for number, place in ((2, 0.41), (3, 0.42)):
        search["trials"][number].update(val_loss=place, gap=place - 0.4)
        search["trials"][number]["params"].update(conv=0.35, fc=0.7)
    made = panels(search)
    loss, gap = made["response-0-loss"].figure, made["response-1-gap"].figure
    assert dots(loss, "circle-open")["2"] == pytest.approx((0.35, 0.41))
    assert dots(loss, "circle")["3"] == pytest.approx((0.35, 0.42))
    assert dots(gap, "circle-open")["2"] == pytest.approx((0.7, 0.01))
    assert dots(gap, "circle")["3"] == pytest.approx((0.7, 0.02))
    hover = next(trace for trace in loss.data if trace.mode == "markers")
    assert hover.hovertemplate == "%{text}<br>rate %{x}: %{customdata} nats<extra></extra>"


def test_trials_without_a_rate_or_a_loss_have_no_dot(search: dict[str, Any]) -> None:
    search["trials"][2]["params"] = None
    search["trials"][3].update(status="diverged", val_loss=0.4)
    search["trials"][4]["val_loss"] = None
    del search["trials"][5]["params"]["conv"]
    figure = panels(search)["response-0-loss"].figure
    drawn = {number for symbol in ("circle", "circle-open", "triangle-up-open") for number in dots(figure, symbol)}
    assert drawn == {str(number) for number in range(30)} - {"2", "3", "4", "5"}
    assert block(search).notes[0] == "n = 28 trials: 4 finished, 24 stopped early."


def test_trials_beyond_the_frame_are_arrows_at_its_edge_and_counted(search: dict[str, Any]) -> None:
    for trial in search["trials"]:
        trial.update(val_loss=0.4)
    search["trials"][2].update(val_loss=7.5)
    search["trials"][4].update(val_loss=-3.0)
    panel = panels(search)["response-0-loss"]
    low, high = panel.figure.layout.yaxis.range
    assert high < 1
    ((_, above),) = dots(panel.figure, "triangle-up-open").values()
    ((_, below),) = dots(panel.figure, "triangle-down-open").values()
    assert low < below < low + 0.05 < high - 0.05 < above < high
    told = next(trace for trace in panel.figure.data if "circle-open" in (trace.marker.symbol or ()))
    assert {"7.500", "−3.000"} <= set(told.customdata)
    assert panel.caption == "Other choices: fc=0.45. Arrows: 2 trials beyond the frame."
    search["trials"][4].update(val_loss=0.4)
    assert panels(search)["response-0-loss"].caption.endswith("Arrows: 1 trial beyond the frame.")
    search["trials"][2].update(val_loss=0.4)
    assert "Arrows" not in panels(search)["response-0-loss"].caption


def test_finished_trials_and_the_band_are_always_in_the_frame(search: dict[str, Any]) -> None:
    search["trials"][0].update(val_loss=1.9)
    search["response"][0]["loss"]["low"][10] = -0.4
    low, high = panels(search)["response-0-loss"].figure.layout.yaxis.range
    assert low < -0.4 < 1.9 < high


def test_the_chosen_rate_is_marked(search: dict[str, Any]) -> None:
    for name, rate in (("response-0-loss", 0.15), ("response-1-gap", 0.45)):
        layout = panels(search)[name].figure.layout
        assert [annotation.text for annotation in layout.annotations] == [f"chosen: {rate}"]
        assert [(shape.x0, shape.x1, shape.line.dash) for shape in layout.shapes] == [(rate, rate, "dash")]
    search["trials"][12]["params"] = None  # the tutorial's policy, outside the space
    panel = panels(search)["response-0-loss"]
    assert not panel.figure.layout.shapes
    assert "chosen" not in panel.description


@pytest.mark.parametrize(("rate", "anchor"), [(0.0, "left"), (0.25, "center"), (0.5, "right")])
def test_the_mark_stays_inside_the_frame(search: dict[str, Any], rate: float, anchor: str) -> None:
    search["trials"][12]["params"]["conv"] = rate
    assert panels(search)["response-0-loss"].figure.layout.annotations[0].xanchor == anchor


def test_the_caption_says_what_the_band_is_and_how_stopped_trials_count(search: dict[str, Any]) -> None:
    made = block(search)
    assert made.legend == "response"
    assert made.notes[0] == "n = 30 trials: 5 finished, 25 stopped early."
    for part in ("Gaussian process", "at the end of training", "95\u00a0% interval", "stopped early count, too"):
        assert part in made.notes[1]
    assert "while the other choices stay as in the chosen policy" in made.meaning


def test_the_table_holds_the_lines(search: dict[str, Any]) -> None:
    row = search["response"][1]
    for key, value in (("loss", 0.412), ("gap", -0.051)):
        row[key]["mean"][1], row[key]["low"][1], row[key]["high"][1] = value, value - 0.011, value + 0.013
    table = block(search).table
    assert table is not None
    assert list(table.head) == ["Site", "Kind", "Rate", "Val. loss", "Gap"]
    assert len(table.rows) == 11 + 17
    assert table.rows[12] == ["fc", "unit", "0.05", "0.412 (0.401 to 0.425)", "−0.051 (−0.062 to −0.038)"]


def test_nothing_learned_nothing_shown(search: dict[str, Any]) -> None:
    assert response_block({**search, "response": []}) is None
    assert response_block({}) is None
    assert response_block({**search, "response": [{"site": "conv", "rates": [], "loss": {"mean": [0.4]}}]}) is None


def test_a_hostile_site_is_escaped(search: dict[str, Any]) -> None:
    search["response"][0]["site"] = "<b>c\u202e"
    assert panels(search)["response-0-loss"].figure.layout.xaxis.title.text == "rate p at &lt;b&gt;c\ufffd"
