"""Means over runs of different lengths, the gap, the best epoch."""

import math
from typing import Any

import pytest

from dropkit.report.curves import read_policy, read_trace, remarks


def run(losses: list[float | None], best: int | None = 1, status: str = "finished") -> dict[str, Any]:
    rows = [
        {"epoch": i, "train_loss": 0.25, "val_loss": loss, "train_error": 0.1, "val_error": 0.2}
        for i, loss in enumerate(losses, start=1)
    ]
    return {"policy": "a", "seed": 0, "status": status, "summary": {"best_epoch": best}, "epochs": rows}


def test_a_trace_has_errors_in_percent_and_the_gap_in_nats() -> None:
    trace = read_trace(run([1.0, 0.75], best=2))
    assert trace.curves["val_error"] == {1: 20.0, 2: 20.0}
    assert trace.curves["gap"] == {1: 0.75, 2: 0.5}
    assert (trace.length, trace.best_epoch, trace.finished) == (2, 2, True)


@pytest.mark.parametrize("loss", [None, math.nan, math.inf])
def test_a_loss_that_is_not_finite_leaves_a_hole_in_its_curve_and_in_the_gap(loss: float | None) -> None:
    trace = read_trace(run([1.0, loss, 2.0]))
    assert trace.curves["val_loss"] == {1: 1.0, 2: None, 3: 2.0}
    assert trace.curves["gap"][2] is None
    assert trace.curves["train_loss"][2] == 0.25


def test_the_mean_goes_on_while_at_least_half_the_runs_do() -> None:
    policy = read_policy("a", "#000000", [run([1.0] * 2), run([2.0] * 3), run([3.0] * 5), run([4.0] * 7)])
    assert policy.mean("val_loss") == {1: 2.5, 2: 2.5, 3: 3.0, 4: 3.5, 5: 3.5, 6: None, 7: None}


def test_the_mean_of_an_odd_number_of_runs_stops_below_half() -> None:
    policy = read_policy("a", "#000000", [run([1.0]), run([2.0] * 2), run([3.0] * 3)])
    assert policy.mean("val_loss") == {1: 2.0, 2: 2.5, 3: None}


def test_diverged_runs_count_only_where_all_diverged() -> None:
    good, bad = run([1.0, 1.0], best=2), run([50.0, None, None], best=1, status="diverged")
    assert read_policy("a", "#000000", [good, bad]).mean("val_loss") == {1: 1.0, 2: 1.0}
    assert read_policy("a", "#000000", [bad]).mean("val_loss") == {1: 50.0, 2: None, 3: None}
    assert read_policy("a", "#000000", [good, bad]).best_epoch == 2


def test_the_best_epoch_is_the_median_and_always_one_of_the_epochs() -> None:
    runs = [run([1.0] * 9, best=b) for b in (2, 9, 5, 7)]
    assert read_policy("a", "#000000", runs).best_epoch == 5
    assert read_policy("a", "#000000", [run([1.0], best=None)]).best_epoch is None


def test_remarks_name_the_lengths_and_the_diverged() -> None:
    even = read_policy("a", "#000000", [run([1.0, 1.0]), run([1.0, 1.0])])
    uneven = read_policy("b", "#000000", [run([1.0] * 3), run([1.0] * 5), run([9.0], status="diverged")])
    assert remarks([even]) == []
    lengths, diverged = remarks([even, uneven])
    assert "2 to 5 epochs" in lengths
    assert "at least half" in lengths
    assert diverged.startswith("1 run diverged")


def test_runs_without_epochs_are_left_out() -> None:
    assert read_policy("a", "#000000", [{"policy": "a"}, run([])]).traces == []
