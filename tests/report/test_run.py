"""What a single run's page says."""

from typing import Any

import pytest

from dropkit.report.page import render
from dropkit.report.run import run_view


def test_a_run_shows_its_error_its_splits_and_its_curves(single_run: dict[str, Any]) -> None:
    single_run["summary"]["test"] = {"error": 0.0833, "nll": 0.4567, "ece": 0.021}
    page = render(single_run)
    assert "8.33\xa0% of the test pictures are classified wrongly." in page
    assert "0.457" in page
    assert 'id="learning-loss-0"' in page
    assert 'id="learning-error-0"' in page
    assert 'id="gap-figure"' in page
    assert "seed 3" in page


def test_the_loss_of_training_and_validation_stands_in_the_nll_column(single_run: dict[str, Any]) -> None:
    single_run["summary"]["train"] = {"loss": 0.0495, "error": 0.0}
    assert run_view(single_run)["splits"][0] == (
        "training (a part)",
        {"error": "0.00\xa0%", "balanced_error": "–", "nll": "0.050", "ece": "–"},
    )


def test_the_balanced_error_has_a_column_where_it_is_known(single_run: dict[str, Any]) -> None:
    assert "Balanced error" not in render(single_run)
    single_run["summary"]["test"]["balanced_error"] = 0.1234
    assert 'data-label="Balanced error">12.34\xa0%' in render(single_run)


def test_a_run_has_no_faint_runs_to_explain(single_run: dict[str, Any]) -> None:
    page = render(single_run)
    page = page[page.index("<body>") : page.index('id="figures"')]
    assert "single runs" not in page
    assert "to compare" not in page


@pytest.mark.parametrize("inside", ["record", "summary"])
def test_a_diverged_run_says_so(single_run: dict[str, Any], inside: str) -> None:
    del single_run["status"]
    single_run["summary"] = {"best_epoch": None, "epochs": 3, "test": None}
    (single_run if inside == "record" else single_run["summary"])["status"] = "diverged"
    for row in single_run["epochs"]:
        row.update(train_loss=None, val_loss=float("nan"))
    page = render(single_run)
    assert "The training diverged" in page
    assert "None" not in page[page.index("<body>") : page.index('id="figures"')]


@pytest.mark.parametrize("missing", ["summary", "epochs", "data", "config", "policy", "seed", "environment"])
def test_a_run_may_lack_parts(single_run: dict[str, Any], missing: str) -> None:
    del single_run[missing]
    page = render(single_run)
    assert "None" not in page[page.index("<body>") : page.index('id="figures"')]


def test_a_run_without_epochs_has_no_figures(single_run: dict[str, Any]) -> None:
    single_run["epochs"] = []
    assert run_view(single_run)["blocks"] == []


def test_the_seed_is_found_where_the_record_has_it() -> None:
    assert run_view({"policy": "a", "seed": 7})["seed"] == "7"
    assert run_view({"policy": "a", "seeds": [5]})["seed"] == "5"
    assert run_view({"policy": "a", "config": {"seed": 3}})["seed"] == "3"
