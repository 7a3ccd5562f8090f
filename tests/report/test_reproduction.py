"""The page of a reproduction: ours beside the paper's, what is claimed, what differs; hostile names stay text."""

import json
import re
from types import ModuleType
from typing import Any

import pytest

from dropkit.errors import DropkitError
from dropkit.report.page import render
from dropkit.report.reproduction import reproduction_view, row_colours

EVIL = "</script><img src=x onerror=alert(1)>\"'\n\u202e"


def row(name: str, mean: float | None, paper: float | None, **changes: Any) -> dict[str, Any]:
    ends = (None, None) if mean is None else (mean - 0.002, mean + 0.002)
    agrees = None if mean is None or paper is None else ends[0] <= paper <= ends[1]  # type: ignore[operator]
    made = {"name": name, "training": name, "dropout": "fc=0.5", "source": "mnist", "measure": "test error"}
    made |= {"unit": "fraction", "n": 3, "diverged": 0, "values": [], "mean": mean, "low": ends[0], "high": ends[1]}
    made |= {"paper": paper, "paper_spread": None, "about": False, "series": "", "x": None, "agrees": agrees}
    return {**made, "sentence": f"{name}.", **changes}


def claim(lower: str, higher: str, kind: str, **changes: Any) -> dict[str, Any]:
    made = {"lower": lower, "higher": higher, "kind": kind, "alike": False, "difference": -0.01, "low": -0.02}
    made |= {"high": -0.001, "p_value": 0.01, "p_holm": 0.02, "n": 3, "unit": "fraction", "measure": "test error"}
    return {**made, "sentence": f"{lower} {kind} {higher}.", **changes}


@pytest.fixture
def record(synthetic: ModuleType) -> dict[str, Any]:
    study = synthetic.study()
    runs = [{**run, "training": run["policy"]} for run in study["runs"]]
    return {
        "kind": "reproduction",
        "title": "Regularizers",
        "where": "Table 9",
        "budget": "quick",
        "axis": "",
        "logarithmic": False,
        "seeds": [0, 1, 2],
        "rows": [row("L2", 0.03, 0.0162), row("max-norm", 0.0135, 0.0135), row("dropout + L2", None, 0.0125, n=0)],
        "claims": [claim("max-norm", "L2", "shown"), claim("dropout + L2", "L2", "not shown")],
        "marks": [{"sentence": "max-norm: at or under 1%", "rows": [], "reached": False}],
        "differences": ["Pictures are few."],
        "activity": [],
        "runs": runs,
        "command": "dropkit reproduce srivastava2014 --table table-9",
        "seconds": 100.0,
        "data": study["data"],
        "config": {},
        "environment": study["environment"],
    }


def body(page: str) -> str:
    return page[page.index("<body>") : page.index('id="figures"')]


def words(page: str) -> str:
    return re.sub(r"[ \n]+", " ", re.sub(r"<[^>]*>", " ", body(page)))


def drawn(page: str) -> dict[str, Any]:
    found = re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    read: dict[str, Any] = json.loads(found[1], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    return read


def test_the_table_holds_both_figures(record: dict[str, Any]) -> None:
    text = words(render(record))
    for part in (
        "dropkit reproduce · Table 9 · quick budget",
        "Regularizers: 1 of 2 statements of the paper holds here, 1 is not shown.",
        "3.00\u00a0% 2.80 to 3.20 1.62\u00a0% +1.38\u00a0pp differs",
        "1.35\u00a0% 1.15 to 1.55 1.35\u00a0% 0.00\u00a0pp agrees",
        "0 – 1.25\u00a0% –",
        "shown max-norm shown L2.",
        "mark not reached max-norm: at or under 1%",
        "What is not as in the paper Pictures are few.",
    ):
        assert part in text


def test_what_speaks_against_the_paper_is_in_the_headline(record: dict[str, Any]) -> None:
    record["claims"] = [claim("a", "b", kind) for kind in ("shown", "alike", "opposite", "differs", "unknown")]
    assert (
        reproduction_view(record)["answer"]
        == "Regularizers: 2 of 5 statements of the paper hold here, 2 are contradicted, 1 is not shown."
    )
    assert reproduction_view({**record, "claims": []})["answer"] == "Regularizers"


def test_the_pictures_hold_every_figure(record: dict[str, Any]) -> None:
    figures = drawn(render(record))
    assert {"beside-0", "forest"} <= set(figures)
    ours = [trace for trace in figures["beside-0"]["data"] if trace["marker"].get("symbol") is None]
    papers = [trace for trace in figures["beside-0"]["data"] if trace["marker"].get("symbol") == "diamond-open"]
    assert sorted(trace["x"][0] for trace in ours) == [1.35, 3.0]
    assert sorted(trace["x"][0] for trace in papers) == [1.25, 1.35, 1.62]


def test_points_of_a_curve_are_joined_and_a_row_without_x_is_a_line_across(record: dict[str, Any]) -> None:
    record |= {"axis": "k", "logarithmic": True}
    record["rows"] = [
        row("weight scaling", 0.02, None),
        *(row(f"average of {k}", 0.02 + 0.01 / k, None, series="average of k", x=k) for k in (1, 5, 20)),
    ]
    figure = drawn(render(record))["curve"]
    assert figure["data"][0]["x"] == [1, 5, 20]
    assert figure["data"][0]["y"] == [3.0, 2.2, 2.05]
    assert figure["layout"]["xaxis"]["type"] == "log"
    assert [shape["y0"] for shape in figure["layout"]["shapes"] if shape["type"] == "line"] == [2.0]
    assert row_colours(record)[1:] == [row_colours(record)[1]] * 3


def test_activations_stand_side_by_side_on_the_same_axes(record: dict[str, Any]) -> None:
    layer = {"edges": [0.0, 1.0, 2.0], "activations": [0.75, 0.25], "unit_means": [0.5, 2.0, 2.0], "seed": 0}
    other = {"edges": [0.0, 0.5, 1.0], "activations": [0.9, 0.1], "unit_means": [0.1, 0.2, 0.3], "seed": 0}
    record["activity"] = [{"name": "no dropout", **layer}, {"name": "dropout", **other}]
    figures = drawn(render(record))
    assert [figures[name]["layout"]["xaxis"]["range"] for name in ("activations-0", "activations-1")] == [[0, 2]] * 2
    assert figures["activations-0"]["data"][0]["y"] == [75, 25]
    assert figures["units-0"]["layout"]["xaxis"] == figures["units-1"]["layout"]["xaxis"]
    assert sum(figures["units-0"]["data"][0]["y"]) == 3
    assert figures["units-0"]["data"][0]["y"][-1] == 2


def test_figures_of_different_measures_have_axes_of_their_own(record: dict[str, Any]) -> None:
    record["rows"].append(row("mean", 1.5, 2.0, measure="mean activation", unit="activation", about=True))
    record["claims"].append(claim("mean", "L2", "shown", unit="activation"))
    page = render(record)
    assert {"beside-0", "beside-1"} <= set(drawn(page))
    assert "forest" not in drawn(page)
    assert "1.50 1.50 to 1.50 about 2.00 −0.50" in words(page)
    assert "Measure" in words(page)


def test_many_trainings_have_no_learning_curves(record: dict[str, Any]) -> None:
    assert 'id="learning"' in render(record)
    record["runs"] = [{**run, "training": str(number)} for number, run in enumerate(record["runs"])]
    assert len(record["runs"]) > 6
    assert 'id="learning"' not in render(record)


def test_nothing_finished_is_a_page_all_the_same(record: dict[str, Any]) -> None:
    record |= {"rows": [row("L2", None, None, n=0)], "claims": [], "runs": [], "marks": []}
    record["claims"] = [claim("L2", "L2", "unknown", difference=None, low=None, high=None, p_holm=None)]
    text = words(render(record))
    assert "None" not in text
    with pytest.raises(DropkitError, match="must list its 'rows'"):
        render({"kind": "reproduction"})


def test_hostile_names_stay_text(record: dict[str, Any]) -> None:
    def poison(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: item if key in ("kind", "unit", "status") else poison(item) for key, item in value.items()}
        if isinstance(value, list):
            return [poison(item) for item in value]
        return value + EVIL if isinstance(value, str) else value

    page = render(poison(record))
    assert "<img src=x" not in page
    assert "\u202e" not in body(page)
