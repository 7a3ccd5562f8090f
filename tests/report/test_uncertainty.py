"""The section on uncertainty: what its figures and words say are the record's numbers."""

from typing import Any

import pytest

from dropkit.report.panels import Block
from dropkit.report.uncertainty import averaging_figure, histogram_figure, risk_figure, uncertainty_block


def reliability() -> dict[str, Any]:
    return {
        "edges": [0.0, 0.5, 1.0],
        "confidence": [None, 0.8],
        "accuracy": [None, 0.7],
        "count": [0, 40],
        "ece": 0.1,
    }


def method(way: str, scaled: bool, error: float) -> dict[str, Any]:
    figures = {"nll": 0.61, "brier": 0.31, "ece": 0.07, "ece_mass": 0.08, "aurc": 0.0643}
    return {"way": way, "scaled": scaled, "temperature": 0.75 if scaled else 1.0, "error": error, **figures}


@pytest.fixture
def values() -> dict[str, Any]:
    ways = [("single", False, 0.21), ("single", True, 0.21), ("average", False, 0.19), ("average", True, 0.2)]
    return {
        "samples": 20,
        "test": 41,
        "validation": 13,
        "temperature": {"single": 0.75, "average": 0.57},
        "methods": [method(*way) for way in ways],
        "averages": [
            {"k": 1, "groups": 20, "error": 0.25, "error_se": 0.01, "nll": 0.7, "nll_se": 0.002},
            {"k": 20, "groups": 1, "error": 0.19, "error_se": None, "nll": 0.6, "nll_se": None},
        ],
        "reliability": {way: {"before": reliability(), "after": reliability()} for way in ("single", "average")},
        "risk_coverage": {way: {"coverage": [0.5, 1.0], "risk": [0.1, 0.21]} for way in ("single", "average")},
        "ood": {
            "name": "<i>mnist",
            "pictures": 37,
            "of": 70,
            "auroc": {"single_entropy": 0.754, "entropy": 0.806, "mutual_information": 0.941},
            "edges": [0.0, 1.0, 2.0],
            "histograms": {"single_entropy": {"test": [30, 10], "ood": [1, 3]}},
        },
        "notes": [],
    }


def block(values: dict[str, Any]) -> Block:
    made = uncertainty_block({"uncertainty": values})
    assert made is not None
    return made


def test_nothing_measured_is_no_section() -> None:
    assert uncertainty_block({}) is None
    assert uncertainty_block({"uncertainty": None}) is None


def test_the_finding_names_both_ways_and_the_other_data(values: dict[str, Any]) -> None:
    said = block(values).finding.replace("\u00a0", " ")
    for words in (
        "average of 20 thinned networks is wrong on 19.00 %",
        "single pass: 21.00 %",
        "AUROC of 0.806",
        "0.941",
    ):
        assert words in said
    values["ood"] = None
    assert "AUROC" not in block(values).finding
    assert [pane.tab for pane in block(values).panes] == ["Averaging", "Reliability", "Risk and coverage"]


def test_the_table_has_a_row_before_and_after_scaling(values: dict[str, Any]) -> None:
    table = block(values).table
    assert table is not None
    assert [row[:2] for row in table.rows] == [
        ["single pass", "1.00"],
        ["single pass", "0.75"],
        ["average of 20", "1.00"],
        ["average of 20", "0.75"],
    ]


def test_averages_stand_over_k_with_their_errors(values: dict[str, Any]) -> None:
    figure = averaging_figure(values["averages"], "error", 0.21)
    points = next(trace for trace in figure.data if trace.error_y.array is not None)
    assert list(points.y) == [25.0, 19.0]
    assert next(iter(points.error_y.array)) == 1.0
    assert any("single pass" in str(note.text) for note in figure.layout.annotations)


def test_risk_and_histograms_are_in_percent(values: dict[str, Any]) -> None:
    curve = risk_figure({"single pass": (values["risk_coverage"]["single"], "#123456")}).data[0]
    assert (list(curve.x), list(curve.y)) == ([50.0, 100.0], [10.0, 21.0])
    bars, steps = histogram_figure([0.0, 1.0, 2.0], {"test": [30, 10], "ood": [1, 3]}, "#123456").data
    assert (list(bars.x), list(bars.y), list(steps.y)) == ([0.5, 1.5], [75.0, 25.0], [25.0, 75.0])
