"""The importance of each choice."""

from types import ModuleType
from typing import Any

import pytest

from dropkit.report.importance import importance_block
from dropkit.report.panels import Block


@pytest.fixture
def search(synthetic: ModuleType) -> dict[str, Any]:
    made: dict[str, Any] = synthetic.search()["search"]
    return made


def block(search: dict[str, Any]) -> Block:
    made = importance_block(search)
    assert made is not None
    return made


def figure(search: dict[str, Any]) -> Any:
    return block(search).panes[0].panels[0].figure


def test_bars_and_intervals_are_those_of_the_record_largest_first(search: dict[str, Any]) -> None:
    search["importance"].reverse()
    drawn = figure(search)
    by_height = sorted(drawn.data, key=lambda bar: -bar.y[0])
    assert [bar.x[0] for bar in by_height] == pytest.approx([55, 22, 6, 2])
    assert {bar.orientation for bar in by_height} == {"h"}
    error = by_height[1].error_x
    assert (error.array[0], error.arrayminus[0]) == pytest.approx((41 - 22, 22 - 8))
    texts = [one.text for one in sorted(drawn.layout.annotations, key=lambda one: -one.y)]
    assert texts == [
        "<b>fc rate</b>  55\u00a0%  (31 to 79\u00a0%)",
        "<b>conv rate</b>  22\u00a0%  (8 to 41\u00a0%)",
        "<b>conv kind</b>  6\u00a0%  (1 to 17\u00a0%)",
        "<b>weight decay</b>  2\u00a0%  (0 to 9\u00a0%)",
    ]
    assert drawn.layout.xaxis.range[0] == 0
    assert 79 < drawn.layout.xaxis.range[1] < 90
    assert drawn.layout.xaxis.title.text == "share of the variance (%)"


def test_what_a_share_is_and_why_they_need_not_sum_is_said(search: dict[str, Any]) -> None:
    search["trials"][3]["status"] = "diverged"
    search["trials"][4]["params"] = None
    made = block(search)
    assert "the share of the variance of the validation loss, over the whole space" in made.meaning
    assert made.notes[0] == "n = 28 trials: 4 finished, 24 stopped early."
    assert "95\u00a0% intervals" in made.notes[1]
    assert "need not sum to 100\u00a0%, because the choices interact" in made.notes[1]
    assert made.panes[0].panels[0].description == (
        "The share of the variance of each choice: fc rate 55\u00a0%, conv rate 22\u00a0%, conv kind 6\u00a0%, "
        "weight decay 2\u00a0%"
    )


def test_the_table_holds_the_shares(search: dict[str, Any]) -> None:
    del search["importance"][1]["low"]
    table = block(search).table
    assert table is not None
    assert list(table.head) == ["Choice", "Share", "95\u00a0% interval"]
    assert table.rows[:2] == [["fc rate", "55\u00a0%", "31 to 79\u00a0%"], ["conv rate", "22\u00a0%", "–"]]
    assert figure(search).data[2].error_x.array is None
    assert "<b>conv rate</b>  22\u00a0%" in {one.text for one in figure(search).layout.annotations}


def test_shares_that_are_all_nothing_still_have_an_axis(search: dict[str, Any]) -> None:
    search["importance"] = [{"name": "fc rate", "share": 0.0, "low": 0.0, "high": 0.0}]
    assert list(figure(search).layout.xaxis.range) == [0, 1]


def test_nothing_learned_nothing_shown(search: dict[str, Any]) -> None:
    assert importance_block({**search, "importance": []}) is None
    assert importance_block({**search, "importance": [{"name": "fc rate", "share": None}]}) is None
    assert importance_block({}) is None


def test_a_hostile_name_is_escaped(search: dict[str, Any]) -> None:
    search["importance"][0]["name"] = "<i>fc\u202e"
    assert any("<b>&lt;i&gt;fc\ufffd</b>" in one.text for one in figure(search).layout.annotations)
