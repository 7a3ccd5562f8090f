"""The curves of a sweep."""

from types import ModuleType
from typing import Any

import pytest

from dropkit.report.panels import Block
from dropkit.report.rates import rates_block

RATES = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]


@pytest.fixture
def sweep(synthetic: ModuleType) -> dict[str, Any]:
    record: dict[str, Any] = synthetic.sweep()
    return record


def block(record: dict[str, Any]) -> Block:
    made = rates_block(record)
    assert made is not None
    return made


def figures(record: dict[str, Any]) -> dict[str, Any]:
    return {panel.id: panel.figure for panel in block(record).panes[0].panels}


def words(figure: Any) -> set[str]:
    return {annotation.text for annotation in figure.layout.annotations}


def test_means_and_bands_are_those_of_the_record(sweep: dict[str, Any]) -> None:
    row = next(row for row in sweep["policies"] if row["rate"] == 0.3)
    row["metrics"]["error"] = {"mean": 0.0712, "low": 0.061, "high": 0.0823}
    row["metrics"]["nll"] = {"mean": 0.5, "low": 0.25, "high": 0.75}
    drawn = figures(sweep)
    assert set(drawn) == {"rate-error", "rate-nll", "rate-gap", "rate-train-loss"}
    band, line = drawn["rate-error"].data
    assert list(line.x) == pytest.approx(RATES)
    assert line.y[3] == pytest.approx(7.12)
    assert band.x[3] == band.x[-4] == pytest.approx(0.3)
    assert (band.y[3], band.y[-4]) == pytest.approx((8.23, 6.1))
    assert drawn["rate-nll"].data[1].y[3] == 0.5
    assert drawn["rate-error"].layout.yaxis.title.text == "error (%)"
    assert "nats" in drawn["rate-nll"].layout.yaxis.title.text
    assert drawn["rate-gap"].layout.xaxis.title.text == "rate p at fc"


def test_the_rates_are_in_order_whatever_the_order_of_the_policies(sweep: dict[str, Any]) -> None:
    sweep["policies"].reverse()
    assert list(figures(sweep)["rate-gap"].data[1].x) == pytest.approx(RATES)


def test_training_and_validation_loss_stand_in_one_figure(sweep: dict[str, Any]) -> None:
    sweep["runs"][0].update(status="diverged")
    sweep["runs"][0]["summary"]["val"]["nll"] = 99.0
    training, validation = (trace for trace in figures(sweep)["rate-train-loss"].data if trace.name)
    assert (training.name, training.line.dash) == ("training", "dot")
    assert training.y[0] == pytest.approx(0.05)
    assert (validation.name, validation.line.dash) == ("validation", "solid")
    assert validation.y[0] == pytest.approx(0.45 + 0.0015)  # of the two runs that finished, seeds 1 and 2
    assert validation.y[5] == pytest.approx(0.05 + 0.6 / 8 + 0.4 - 0.21 + 0.001)


def test_the_best_rate_and_its_sides_are_marked(sweep: dict[str, Any]) -> None:
    for figure in figures(sweep).values():
        assert words(figure) >= {"lowest validation loss: 0.5", "<i>overfits</i>", "<i>underfits</i>"}
        assert any(shape.type == "line" and shape.x0 == shape.x1 == 0.5 for shape in figure.layout.shapes)
        left, right = (shape for shape in figure.layout.shapes if shape.type == "rect")
        assert left.x0 < 0
        assert 0.2 < left.x1 < 0.3
        assert 0.6 < right.x1 < 0.7
        assert right.x0 > 0.8
    assert block(sweep).finding == sweep["sweep"]["sentence"]


def test_a_side_that_no_test_found_is_not_named_whatever_the_means(sweep: dict[str, Any]) -> None:
    made = block(sweep)
    assert "Up to rate 0.2 the network overfits" in made.meaning
    assert "From rate 0.7 on the network underfits" in made.meaning
    sweep["sweep"]["underfits_above"] = None
    made = block(sweep)
    assert "underfits" not in made.meaning
    assert "<i>underfits</i>" not in words(made.panes[0].panels[0].figure)
    assert "overfits" in made.meaning
    del sweep["sweep"]["overfits_below"]  # as in older records
    assert "overfits" not in block(sweep).meaning


@pytest.mark.parametrize(("rate", "gone"), [(0.0, "overfits"), (0.8, "underfits")])
def test_nothing_lies_beyond_the_ends(sweep: dict[str, Any], rate: float, gone: str) -> None:
    sweep["sweep"]["lowest"]["rate"] = rate
    assert gone not in block(sweep).meaning


def test_a_rate_that_diverged_leaves_a_hole(sweep: dict[str, Any]) -> None:
    row = sweep["policies"][8]
    row["metrics"] = {key: {"mean": None, "low": None, "high": None} for key in row["metrics"]}
    assert list(figures(sweep)["rate-error"].data[1].x) == pytest.approx(RATES[:8])


def test_one_run_a_rate_has_no_bands(sweep: dict[str, Any]) -> None:
    for row in sweep["policies"]:
        row["n"] = 1
        for value in row["metrics"].values():
            value.update(low=None, high=None)
    assert [trace.name for trace in figures(sweep)["rate-error"].data] == ["mean"]
    assert "n = 1 run a rate, 9 rates." in block(sweep).notes[0]


def test_no_sweep_no_block(sweep: dict[str, Any], study: dict[str, Any]) -> None:
    assert rates_block(study) is None
    assert rates_block({**sweep, "policies": sweep["policies"][:1]}) is None
    assert rates_block({**sweep, "sweep": None}) is None


def test_parts_may_be_missing(sweep: dict[str, Any]) -> None:
    for row in sweep["policies"]:
        del row["metrics"]["train_loss"]
    sweep["sweep"] = {"text": "fc=0:0.8:0.1"}
    del sweep["runs"]
    assert set(figures(sweep)) == {"rate-error", "rate-nll", "rate-gap"}
    assert block(sweep).title == "What the rate does"


def test_a_hostile_site_is_escaped(sweep: dict[str, Any]) -> None:
    sweep["sweep"]["site"] = "<b>fc\u202e"
    title = figures(sweep)["rate-gap"].layout.xaxis.title.text
    assert title == "rate p at &lt;b&gt;fc\ufffd"
