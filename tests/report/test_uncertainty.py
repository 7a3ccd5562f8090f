"""The section on uncertainty: the figures' numbers are the record's; what is not known is left out."""

import math
from types import ModuleType
from typing import Any

import pytest

from dropkit.report.page import render
from dropkit.report.uncertainty import averaging_figure, histogram_figure, risk_figure, uncertainty_block


@pytest.fixture
def record(synthetic_details: ModuleType) -> dict[str, Any]:
    return {"uncertainty": synthetic_details.uncertainty()}


def test_the_section_has_a_tab_for_each_question_and_a_table_of_all_figures(record: dict[str, Any]) -> None:
    block = uncertainty_block(record)
    assert block is not None
    assert [pane.tab for pane in block.panes] == ["Averaging", "Reliability", "Risk and coverage", "Other data"]
    assert [panel.id for panel in block.all_panels()] == [
        "uncertainty-error",
        "uncertainty-nll",
        "uncertainty-single-before",
        "uncertainty-single-after",
        "uncertainty-average-before",
        "uncertainty-average-after",
        "uncertainty-risk",
        "uncertainty-ood-single-entropy",
        "uncertainty-ood-entropy",
    ]
    assert block.table is not None
    assert [row[:2] for row in block.table.rows] == [
        ["single pass", "1.00"],
        ["single pass", "1.31"],
        ["average of 20", "1.00"],
        ["average of 20", "0.87"],
    ]
    assert block.table.rows[3][5] == f"{record['uncertainty']['methods'][3]['ece']:.3f}"


def test_the_words_tell_the_numbers(record: dict[str, Any]) -> None:
    single, _, average, _ = record["uncertainty"]["methods"]
    single["error"], average["error"], single["nll"], average["nll"] = 0.0833, 0.0791, 0.31, 0.29
    single["ece"], average["ece"] = 0.031, 0.012
    block = uncertainty_block(record)
    assert block is not None
    assert block.finding == (
        "The average of 20 thinned networks is wrong on 7.91\u00a0% of the test pictures (single pass: 8.33\u00a0%), "
        "with an NLL of 0.290 (0.310) and an ECE of 0.012 (0.031). Pictures of noise are told from them with an AUROC "
        "of 0.860 by the entropy (single pass: 0.810) and of 0.930 by the mutual information."
    )
    notes = " ".join(block.notes)
    assert "n = 308 test pictures, 20 draws of all masks." in notes
    assert "97 validation pictures: T = 1.31 for the single pass, T = 0.87 for the average of 20" in notes
    assert "noise: 61 of 89 pictures" in notes


def test_averages_have_error_bars_and_the_single_pass_is_a_line(record: dict[str, Any]) -> None:
    rows = record["uncertainty"]["averages"]
    figure = averaging_figure(rows, "error", 0.25)
    assert list(figure.data[0].x) == [1, 2, 5, 10, 20]
    assert list(figure.data[0].y) == pytest.approx([30, 25, 22, 21, 20.5])
    assert list(figure.data[0].error_y.array) == [1, 1, 1, 1, 0]
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.shapes[0].y0 == 25
    loss = averaging_figure(rows, "nll", None)
    assert list(loss.data[0].y) == pytest.approx([0.8, 0.7, 0.64, 0.62, 0.61])
    assert list(loss.data[0].error_y.array) == [0.02, 0.02, 0.02, 0.02, 0]
    assert len(loss.layout.shapes) == 0


def test_risk_and_histograms_are_in_percent() -> None:
    figure = risk_figure({"a": ({"coverage": [0.5, 1.0], "risk": [0.01, 0.2]}, "#0072B2")})
    assert (list(figure.data[0].x), list(figure.data[0].y)) == ([50, 100], [1, 20])
    bars, line = histogram_figure([0.0, 0.5, 1.0], {"test": [3, 1], "ood": [0, 5]}, "#0072B2").data
    assert (list(bars.x), list(bars.y), list(line.y)) == ([0.25, 0.75], [75, 25], [0, 100])
    assert all(
        math.isfinite(value) for value in histogram_figure([0, 1], {"test": [0], "ood": [0]}, "#0072B2").data[0].y
    )


@pytest.mark.parametrize("missing", ["ood", "averages", "reliability", "risk_coverage", "temperature", "notes"])
def test_parts_that_are_not_known_are_left_out(record: dict[str, Any], missing: str) -> None:
    record["uncertainty"][missing] = None
    block = uncertainty_block(record)
    assert block is not None
    assert len(block.panes) == (4 if missing in ("temperature", "notes") else 3)
    assert "None" not in block.finding + "".join(block.notes)


@pytest.mark.parametrize("nothing", [{}, {"uncertainty": None}, {"uncertainty": {"methods": []}}])
def test_a_run_that_was_not_measured_has_no_section(nothing: dict[str, Any]) -> None:
    assert uncertainty_block(nothing) is None


def test_the_page_shows_the_section_and_escapes_names(single_run: dict[str, Any], record: dict[str, Any]) -> None:
    record["uncertainty"]["ood"]["name"] = "<i>odd"
    record["uncertainty"]["notes"] = ["these 9 pictures set no bound"]
    page = render({**single_run, **record})
    assert '<section id="uncertainty"' in page
    assert "<i>odd" not in page
    assert "Note: these 9 pictures set no bound." in page
    assert '<details class="words" open>' in page
    assert '<bdi class="policy">NLL' not in page  # the table's columns are no policies
    assert 'id="uncertainty"' not in render(single_run)
