"""The reliability diagram: the figure's numbers are the record's."""

from types import ModuleType
from typing import Any

import pytest

from dropkit.report.calibration import calibration_block, calibration_figure, sureness
from dropkit.report.details import Details, read_details

VALUES = {
    "edges": [0.0, 0.25, 0.5, 0.75, 1.0],
    "confidence": [None, 0.4, 0.6, 0.9],
    "accuracy": [None, 0.3, 0.7, 0.8],
    "count": [0, 10, 30, 60],
    "ece": 0.1,
}


def details(synthetic_details: ModuleType, names: tuple[str, ...] = ("none", "fc=0.5"), **change: Any) -> Details:
    made = synthetic_details.details(names, ["a", "b", "c"], 5)
    for row in made["policies"]:
        row["calibration"] = {**VALUES, **change}
    found = read_details({"details": made})
    assert found is not None
    return found


def test_points_and_bars_are_those_of_the_record_and_empty_bins_have_none() -> None:
    diagonal, points, bars = calibration_figure(VALUES, "#0072B2").data
    assert list(diagonal.x) == list(diagonal.y) == [0, 100]
    assert list(points.x) == [40, 60, 90]
    assert list(points.y) == [30, 70, 80]
    assert list(points.text) == ["10 predictions", "30 predictions", "60 predictions"]
    assert list(bars.y) == [0, 10, 30, 60]
    assert list(bars.x) == [12.5, 37.5, 62.5, 87.5]
    assert list(bars.width) == pytest.approx([23] * 4)
    sizes = list(points.marker.size)
    assert sizes == sorted(sizes)


def test_the_axes_say_their_units() -> None:
    layout = calibration_figure(VALUES, "#0072B2").layout
    assert (layout.xaxis2.title.text, layout.yaxis.title.text) == ("confidence (%)", "right (%)")
    assert layout.yaxis2.title.text == "count"


def test_the_finding_sets_mean_confidence_against_the_share_of_right_answers(synthetic_details: ModuleType) -> None:
    assert sureness(VALUES) == (pytest.approx(0.04 + 0.18 + 0.54), pytest.approx(0.03 + 0.21 + 0.48))
    made = calibration_block(details(synthetic_details))
    assert made is not None
    assert made.finding == (
        "With fc=0.5 the network is too sure: 76.0\u00a0% confident on average, and right in 72.0\u00a0%."
    )
    cautious = calibration_block(details(synthetic_details, accuracy=[None, 0.6, 0.8, 0.95]))
    assert cautious is not None
    assert "too cautious" in cautious.finding
    fit = calibration_block(details(synthetic_details, accuracy=VALUES["confidence"]))
    assert fit is not None
    assert "about as sure as it should be" in fit.finding


def test_each_panel_says_its_n_and_its_error(synthetic_details: ModuleType) -> None:
    made = calibration_block(details(synthetic_details))
    assert made is not None
    panels = made.panes[0].panels
    assert [(panel.title, panel.note) for panel in panels] == [("none", "ECE 0.100"), ("fc=0.5", "ECE 0.100")]
    assert panels[0].caption == "n = 485 predictions of 5 runs."  # 5 x (29 + 31 + 37)


def test_nothing_predicted_leaves_an_empty_diagram_and_no_finding(synthetic_details: ModuleType) -> None:
    nothing = {"confidence": [None] * 4, "accuracy": [None] * 4, "count": [0] * 4}
    made = calibration_block(details(synthetic_details, **nothing))
    assert made is not None
    assert made.finding == ""
    assert sureness({**VALUES, **nothing}) is None


def test_missing_everywhere_there_is_no_block(synthetic_details: ModuleType) -> None:
    assert calibration_block(details(synthetic_details, edges=[])) is None
