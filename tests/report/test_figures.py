"""What the figures hold: read back from plotly's own objects."""

from typing import Any

import pytest

from dropkit.report import figures
from dropkit.report.curves import PolicyCurves, read_policy
from dropkit.report.palette import BASELINE, colour


def row(difference: float | None, low: float | None, high: float | None, name: str = "a") -> dict[str, Any]:
    return {"name": name, "colour": "#0072B2", "difference": difference, "low": low, "high": high}


def policy(lengths: tuple[int, ...] = (5, 7), name: str = "a", colour: str = "#0072B2") -> PolicyCurves:
    runs = [
        {
            "summary": {"best_epoch": 3},
            "epochs": [
                {
                    "epoch": e,
                    "train_loss": 1 / e,
                    "val_loss": 2 / e,
                    "train_error": 0.1 / e,
                    "val_error": 0.2 / e,
                }
                for e in range(1, length + 1)
            ],
        }
        for length in lengths
    ]
    return read_policy(name, colour, runs)


def test_the_first_policy_is_grey_and_the_next_seven_differ() -> None:
    colours = [colour(i) for i in range(8)]
    assert colours[0] == BASELINE
    assert len(set(colours)) == 8


def test_the_forest_draws_points_in_percentage_points_with_their_intervals() -> None:
    figure = figures.forest([row(-0.03, -0.05, -0.02), row(0.01, -0.01, 0.02, "b")], "error")
    assert figure is not None
    first, second = sorted(figure.data, key=lambda trace: -trace.y[0])  # the first row stands highest
    assert first.x[0] == pytest.approx(-3.0)
    assert first.error_x.array[0] == pytest.approx(1.0)
    assert first.error_x.arrayminus[0] == pytest.approx(2.0)
    assert second.x[0] == pytest.approx(1.0)
    names = {a.y: a.text for a in figure.layout.annotations if a.xref == "paper"}
    assert names[first.y[0]].startswith("<b>a</b>  −3.00")
    assert names[second.y[0]].startswith("<b>b</b>  +1.00")
    low, high = figure.layout.xaxis.range
    assert low < -5.0
    assert high > 2.0
    assert "percentage points" in figure.layout.xaxis.title.text


def test_the_forest_says_which_side_is_better_and_marks_zero() -> None:
    figure = figures.forest([row(0.2, 0.1, 0.3)], "nll")
    assert figure is not None
    anchors = {a.text.strip("◀▶ "): a.xanchor for a in figure.layout.annotations if a.x == 0 and a.xref != "paper"}
    assert anchors == {"better": "right", "worse": "left"}  # a lower error and a lower loss are better
    assert any(shape.type == "line" and shape.x0 == shape.x1 == 0 for shape in figure.layout.shapes)
    assert figure.data[0].x[0] == pytest.approx(0.2)
    assert "nats" in figure.layout.xaxis.title.text


def test_the_forest_leaves_out_what_is_unknown() -> None:
    assert figures.forest([row(None, None, None)], "error") is None
    assert figures.forest([], "error") is None
    figure = figures.forest([row(None, None, None), row(0.01, None, None, "b")], "error")
    assert figure is not None
    assert len(figure.data) == 1
    assert figure.data[0].error_x.array is None


def test_long_names_make_the_forest_higher_and_are_escaped() -> None:
    short = figures.forest([row(0.1, 0.0, 0.2)], "error")
    long = figures.forest([row(0.1, 0.0, 0.2, "<b>conv[0]=0.25," * 11)], "error")
    assert short is not None
    assert long is not None
    assert long.layout.height > short.layout.height
    text = next(a.text for a in long.layout.annotations if a.xref == "paper")
    assert text.startswith("<b>&lt;b&gt;conv[0]=0.25,")
    assert text.count("<br>") >= 4


def test_learning_curves_show_means_runs_and_best_epochs() -> None:
    drawn = figures.learning(policy(), "error", last_epoch=7, limits=(0, 30))
    strong = {trace.name: trace for trace in drawn.data if trace.name}
    assert set(strong) == {"training", "validation"}
    assert strong["validation"].y[0] == pytest.approx(20.0)
    assert strong["training"].line.dash == "dot"
    faint = [trace for trace in drawn.data if not trace.name and trace.mode == "lines"]
    assert len(faint) == 2
    assert list(faint[0].x) == [1, 2, 3, 4, 5, None, 1, 2, 3, 4, 5, 6, 7, None]
    best = next(trace for trace in drawn.data if trace.mode == "markers")
    assert list(best.x) == [3, 3]
    assert best.y[0] == pytest.approx(20 / 3, rel=1e-4)
    assert any(shape.x0 == shape.x1 == 3 for shape in drawn.layout.shapes)
    assert drawn.layout.xaxis.title.text == "epoch"
    assert drawn.layout.yaxis.title.text == "error (%)"


def test_learning_curves_repeat_the_first_policy_where_told() -> None:
    first = policy((2,), "none", "#767b82")
    drawn = figures.learning(policy(), "loss", last_epoch=7, limits=(0, 2), reference=first)
    reference = next(trace for trace in drawn.data if trace.name == "validation, none")
    assert list(reference.y) == [2.0, 1.0]
    assert "nats" in drawn.layout.yaxis.title.text


def test_a_run_of_one_epoch_is_drawn_as_a_point() -> None:
    drawn = figures.learning(policy((1,)), "loss", last_epoch=1, limits=(0, 2))
    assert {trace.mode for trace in drawn.data if trace.name} == {"markers"}


def test_the_gap_has_one_strong_line_and_one_point_a_policy() -> None:
    drawn = figures.gap([policy(), policy((4,), "b", "#D55E00")], last_epoch=7, limits=(0, 1))
    assert [trace.name for trace in drawn.data if trace.name] == ["a", "b"]
    points = [trace for trace in drawn.data if trace.mode == "markers"]
    assert [(point.x[0], point.y[0]) for point in points] == [(3, 0.33333), (3, 0.33333)]


def test_the_axis_is_not_stretched_by_a_spike_nor_by_a_diverged_run() -> None:
    spiky = policy((400,))
    spiky.traces[0].curves["val_loss"][200] = 1e6  # type: ignore[index]
    _, top = figures.limits([spiky], ("val_loss",))
    assert top < 10
    assert figures.limits([], ("val_loss",)) == (0.0, 1.0)


def test_the_axis_holds_negative_gaps() -> None:
    flat = policy((3,))
    flat.traces[0].curves["gap"][1] = -0.4  # type: ignore[index]
    low, high = figures.limits([flat], ("gap",))
    assert low < -0.4
    assert high > 0.5


@pytest.mark.parametrize(("metric", "reach"), [("error", 1.0), ("nll", 0.01)])
def test_a_forest_of_zeros_has_a_sane_axis(metric: str, reach: float) -> None:
    figure = figures.forest([row(0.0, 0.0, 0.0)], metric)
    assert figure is not None
    assert list(figure.layout.xaxis.range) == pytest.approx([-0.45 * reach, 0.45 * reach])
