"""The learned rates of a run."""

from typing import Any

import pytest

from dropkit.report.learned_rates import learned_rates_block
from dropkit.report.page import render
from dropkit.report.palette import colour
from dropkit.report.panels import Block


@pytest.fixture
def learning(single_run: dict[str, Any]) -> dict[str, Any]:
    """A run of two layers: the first one's rate falls, the second one's rises."""
    for row in single_run["epochs"]:
        row["learned_rates"] = {"conv.drop": 0.2 / row["epoch"], "fc.drop": 0.3 + 0.01 * row["epoch"]}
    single_run["summary"]["best_epoch"] = 5
    return single_run


def block(record: dict[str, Any]) -> Block:
    made = learned_rates_block(record)
    assert made is not None
    return made


def figure(record: dict[str, Any]) -> Any:
    (panel,) = block(record).panes[0].panels
    return panel.figure


def test_a_line_a_layer_in_the_colour_that_the_legend_names(learning: dict[str, Any]) -> None:
    first, second = figure(learning).data
    epochs = list(range(1, len(learning["epochs"]) + 1))
    assert (first.name, second.name) == ("conv.drop", "fc.drop")
    assert list(first.x) == list(second.x) == epochs
    assert first.y == pytest.approx([0.2 / epoch for epoch in epochs], rel=1e-4)
    assert second.y == pytest.approx([0.3 + 0.01 * epoch for epoch in epochs], rel=1e-4)
    assert block(learning).named == [("conv.drop", first.line.color), ("fc.drop", second.line.color)]
    assert (first.line.color, second.line.color) == (colour(1), colour(2))


def test_the_best_epoch_is_marked_and_the_table_has_its_rates(learning: dict[str, Any]) -> None:
    (line,) = figure(learning).layout.shapes
    assert line.x0 == line.x1 == 5
    last = len(learning["epochs"])
    table = block(learning).table
    assert table is not None
    assert table.rows == [
        ["conv.drop", "0.2000", "0.0400", f"{0.2 / last:.4f}"],
        ["fc.drop", "0.3100", "0.3500", f"{0.3 + 0.01 * last:.4f}"],
    ]
    assert "The dashed line is the best epoch" in block(learning).notes[0]
    learning["summary"]["best_epoch"] = None
    assert not figure(learning).layout.shapes
    assert "dashed" not in block(learning).notes[0]


def test_the_section_stands_on_the_page_of_a_run_that_learned_rates_and_on_no_other(
    learning: dict[str, Any], synthetic: Any
) -> None:
    page = render(learning)
    assert 'id="learned-rates"' in page
    assert 'href="#learned-rates"' in page
    assert page.index('id="gap"') < page.index('id="learned-rates"')
    other = synthetic.single_run()
    assert learned_rates_block(other) is None
    assert "learned-rates" not in render(other)


def test_parts_may_be_missing(learning: dict[str, Any]) -> None:
    learning["epochs"][0]["learned_rates"]["fc.drop"] = float("nan")
    learning["epochs"][1]["learned_rates"] = None
    del learning["epochs"][2]["epoch"]
    del learning["summary"]
    assert list(figure(learning).data[0].x)[:2] == [1, 4]
    assert list(figure(learning).data[1].x)[:1] == [4]
    del learning["epochs"]
    assert learned_rates_block(learning) is None


def test_one_epoch_is_a_point(learning: dict[str, Any]) -> None:
    del learning["epochs"][1:]
    assert figure(learning).data[0].mode == "lines+markers"


def test_a_hostile_path_is_escaped(learning: dict[str, Any]) -> None:
    learning["epochs"][0]["learned_rates"]["<b>x\u202e"] = 0.1
    assert figure(learning).data[2].name == "&lt;b&gt;x\ufffd"
    page = render(learning)
    assert "<b>x" not in page
