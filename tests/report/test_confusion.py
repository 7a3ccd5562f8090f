"""Confusion: percents of the row, changes, lists."""

from types import ModuleType
from typing import Any

import pytest

from dropkit.report.confusion import change_figure, confusion_block, confusion_figure, mistakes, row_percents
from dropkit.report.details import read_details
from dropkit.report.panels import Block

FIRST = [[6, 2, 0], [0, 5, 5], [0, 0, 0]]
OTHER = [[8, 0, 0], [1, 8, 1], [0, 0, 0]]
NAMES = ["cat", "dog", "<owl>"]


def block(matrices: list[Any], classes: list[str], names: tuple[str, ...] = ("none", "fc=0.5")) -> Block | None:
    rows = [
        {"name": name, "runs": 2, "n": 18, "confusion": matrix} for name, matrix in zip(names, matrices, strict=True)
    ]
    found = read_details({"details": {"classes": classes, "policies": rows, "pictures": {"policy": names[-1]}}})
    assert found is not None
    return confusion_block(found)


def test_cells_are_percents_of_their_row_and_the_diagonal_is_apart() -> None:
    right, wrong = confusion_figure(FIRST, NAMES).data
    assert [list(row) for row in right.z] == [[75.0, None, None], [None, 50.0, None], [None, None, None]]
    assert [list(row) for row in wrong.z] == [[None, 25.0, 0.0], [0.0, None, 50.0], [None, None, None]]
    assert (right.zmax, wrong.zmax) == (100, 50)
    assert wrong.customdata[1][2] == "5 of 10"
    assert wrong.text[1][2] == "50"
    assert wrong.text[0][2] == ""
    assert "%{customdata}" in wrong.hovertemplate


def test_rows_are_true_classes_from_the_top_and_columns_predictions() -> None:
    figure = confusion_figure(FIRST, NAMES)
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("predicted class", "true class")
    assert figure.layout.yaxis.autorange == "reversed"
    assert list(figure.layout.yaxis.ticktext) == ["cat", "dog", "&lt;owl&gt;"]
    assert list(figure.data[0].y) == list(figure.data[0].x) == ["cat", "dog", "&lt;owl&gt;"]


def test_a_change_is_in_points_and_blue_where_it_is_for_the_better() -> None:
    right, wrong = change_figure(OTHER, FIRST, NAMES).data
    assert right.z[0][0] == 25.0
    assert right.z[1][1] == 30.0
    assert wrong.z[0][1] == -25.0
    assert wrong.z[1][0] == 10.0
    assert wrong.text[0][1] == "−25"
    assert wrong.customdata[1][2] == "5 → 1 of 10"
    more_right, more_wrong = right.colorscale[-1][1], wrong.colorscale[-1][1]
    assert more_right.startswith("rgba(0, 114, 178")
    assert more_wrong.startswith("rgba(213, 94, 0")
    assert wrong.colorscale[0][1] == more_right
    assert right.zmin == -right.zmax == -40.0


def test_mistakes_are_listed_the_most_frequent_first() -> None:
    assert mistakes(FIRST) == [(50.0, 1, 2), (25.0, 0, 1)]
    made = block([FIRST, OTHER], NAMES)
    assert made is not None
    assert made.panes[0].listing is not None
    assert list(made.panes[0].listing.items) == [
        ("dog → <owl>", "50.0\u00a0%, 5 of 10"),
        ("cat → dog", "25.0\u00a0%, 2 of 8"),
    ]
    assert made.finding == "The most frequent confusion with fc=0.5: 10.0\u00a0% of dog are taken for cat."
    assert made.notes[0] == "n = 18 predictions of 2 runs a policy."


def test_each_policy_has_a_tab_and_all_but_the_first_their_change() -> None:
    made = block([FIRST, OTHER], NAMES)
    assert made is not None
    assert [pane.tab for pane in made.panes] == ["none", "fc=0.5"]
    assert [len(pane.panels) for pane in made.panes] == [1, 2]
    assert made.panes[1].panels[1].title == "Change against none"


def test_one_policy_without_a_mistake() -> None:
    made = block([[[3, 0], [0, 5]]], ["a", "b"], names=("fc=0.5",))
    assert made is not None
    assert made.finding == "fc=0.5 makes no mistake on these pictures."
    assert made.panes[0].listing is None
    assert made.legend == "confusion-one"


def test_a_hundred_classes_have_no_written_cells_nor_names_on_the_axes(synthetic_details: ModuleType) -> None:
    names = [f"class {index}" for index in range(100)]
    matrix = synthetic_details.details(("a",), names, 2)["policies"][0]["confusion"]
    figure = confusion_figure(matrix, names)
    assert figure.layout.xaxis.showticklabels is False
    assert figure.data[0].text is None
    assert figure.data[0].y[99] == "class 99"  # still there where the mouse points
    assert len(figure.data[1].z) == 100


def test_few_classes_have_both_and_thirty_one_have_neither() -> None:
    for size, written, named in ((12, True, True), (13, False, True), (30, False, True), (31, False, False)):
        matrix = [[7 if row == column else 1 for column in range(size)] for row in range(size)]
        figure = confusion_figure(matrix, [f"c{index}" for index in range(size)])
        assert (figure.data[0].text is not None) is written
        assert (figure.layout.xaxis.ticktext is not None) is named


def test_long_names_of_one_beginning_are_not_merged() -> None:
    made = block([FIRST, OTHER], ["same", "same", "other"])
    assert made is not None
    assert list(made.panes[0].panels[0].figure.data[0].x) == ["same", "same (2)", "other"]


def test_many_policies_of_many_classes_show_the_first_and_the_chosen() -> None:
    size = 31
    matrix = [[int(row == column) for column in range(size)] for row in range(size)]
    names = tuple(f"p{index}" for index in range(5))
    made = block([matrix] * 5, [f"c{index}" for index in range(size)], names=names)
    assert made is not None
    assert [pane.tab for pane in made.panes] == ["p0", "p4"]


def test_without_a_matrix_there_is_no_block() -> None:
    assert block([None, None], NAMES) is None


def test_rows_sum_to_a_hundred(synthetic_details: ModuleType) -> None:
    matrix = synthetic_details.details(("a",), list("abcdefghijk"), 3)["policies"][0]["confusion"]
    for row in row_percents(matrix):
        assert sum(value for value in row if value is not None) == pytest.approx(100)
