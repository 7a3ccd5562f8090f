"""Recall, class by class: the figure's numbers are the record's."""

from types import ModuleType
from typing import Any

import pytest

from dropkit.report.details import Details, read_details
from dropkit.report.palette import colour
from dropkit.report.panels import Block
from dropkit.report.recall import recall_block

NAMES = ("none", "fc=0.5")


def one(mean: float, half: float | None = 0.03) -> dict[str, Any]:
    return {"mean": mean, "low": None if half is None else mean - half, "high": None if half is None else mean + half}


def record(recalls: list[list[Any]], support: list[int], names: tuple[str, ...] = NAMES, runs: int = 3) -> Details:
    classes = [f"class {index}" for index in range(len(support))]
    rows = [
        {"name": name, "runs": runs, "n": runs * sum(support), "support": support, "recall": recall}
        for name, recall in zip(names, recalls, strict=True)
    ]
    found = read_details(
        {
            "policies": [{"name": name} for name in names],
            "details": {"classes": classes, "policies": rows, "pictures": {"policy": names[-1]}},
        }
    )
    assert found is not None
    return found


def block(*args: Any, **more: Any) -> Block:
    made = recall_block(record(*args, **more))
    assert made is not None
    return made


def test_points_intervals_and_support_are_those_of_the_record() -> None:
    made = block([[one(0.9), one(0.5, 0.1)], [one(0.7), one(0.8)]], [11, 13])
    figure = made.panes[0].panels[0].figure
    first, second = figure.data
    assert list(first.x) == [50.0, 90.0]  # the class that is hardest for the first policy comes first
    assert list(second.x) == [80.0, 70.0]
    assert list(first.error_x.array) == pytest.approx([10, 3])
    assert list(first.error_x.arrayminus) == pytest.approx([10, 3])
    assert list(figure.layout.yaxis.ticktext) == ["class 1  13", "class 0  11"]
    assert [round(y) for y in first.y] == list(figure.layout.yaxis.tickvals) == [1, 0]
    assert all(a > b for a, b in zip(first.y, second.y, strict=True))  # the first policy stands above the second
    assert [trace.marker.color for trace in figure.data] == [colour(0), colour(1)]
    low, high = figure.layout.xaxis.range
    assert low < 40
    assert high > 100
    assert "n = 24 test pictures" in " ".join(made.notes)
    assert "means of 3 runs" in " ".join(made.notes)


def test_the_finding_names_the_hardest_and_the_easiest_class_of_the_chosen_policy() -> None:
    made = block([[one(0.9), one(0.5)], [one(0.7), one(0.8)]], [11, 13])
    assert made.finding == (
        "With fc=0.5, class 0 is found least often, 70.0\u00a0% (none: 90.0\u00a0%), "
        "and class 1 most often, 80.0\u00a0% (none: 50.0\u00a0%)."
    )


def test_a_class_without_a_picture_has_a_row_and_no_point() -> None:
    made = block([[None, one(0.5)], [None, one(0.8)]], [0, 13])
    figure = made.panes[0].panels[0].figure
    assert list(figure.layout.yaxis.ticktext) == ["class 1  13", "class 0  0"]
    assert [len(trace.x) for trace in figure.data] == [1, 1]
    assert "1 class without a test picture." in made.notes
    assert made.table is not None
    assert list(made.table.rows[1]) == ["class 0", "0", "–", "–"]


def test_an_interval_that_spans_everything_does_not_squeeze_the_points() -> None:
    wide = {"mean": 0.9, "low": 0.0, "high": 1.0}
    low, _ = block([[wide, one(0.8)]], [11, 13], names=("a",)).panes[0].panels[0].figure.layout.xaxis.range
    assert low == pytest.approx(55)


def test_no_recall_no_block() -> None:
    assert recall_block(record([[None, None]], [0, 0], names=("none",))) is None


def test_one_run_has_points_without_intervals_and_no_legend() -> None:
    made = block([[one(0.9, None), one(0.5, None)]], [11, 13], names=("fc=0.5",), runs=1)
    trace = made.panes[0].panels[0].figure.data[0]
    assert list(trace.error_x.array) == [0, 0]
    assert made.legend == ""
    assert "interval" not in " ".join(made.notes)
    assert made.table is not None
    assert list(made.table.rows[0]) == ["class 1", "13", "50.0\u00a0%"]


def test_of_many_classes_the_hardest_are_drawn_and_all_are_in_the_table() -> None:
    recalls = [one(0.4 + index / 200) for index in range(100)]
    made = block([recalls[::-1], recalls], [7] * 100)
    panel = made.panes[0].panels[0]
    assert len(panel.figure.data[0].x) == 30
    assert panel.figure.layout.yaxis.ticktext[0] == "class 99  7"
    assert panel.figure.data[0].x[0] == pytest.approx(40)
    assert made.table is not None
    assert len(made.table.rows) == 100
    assert "30 hardest of 100" in " ".join(made.notes)


def test_names_in_the_figure_are_escaped_and_short(synthetic_details: ModuleType) -> None:
    evil = "<img src=x>" + "y" * 60
    details = synthetic_details.details(("a<b",), [evil, "b"], 2)
    made = recall_block(read_details({"details": details}))  # type: ignore[arg-type]
    assert made is not None
    text = made.panes[0].panels[0].figure.to_json()
    assert "<img" not in text.replace("\\u003c", "<")
    assert "&lt;img src=x&gt;" in text.replace("\\u0026", "&")
    ticks = made.panes[0].panels[0].figure.layout.yaxis.ticktext
    assert max(map(len, ticks)) < 40
