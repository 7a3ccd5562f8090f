"""Comparisons that vary more than dropout, and sweeps, end to end on the digits."""

import shutil

import numpy as np
import pytest

from dropkit.files import read_json, write_json
from dropkit.runs.run import read_run

ARMS = ["none", "none;weight_decay=0.5", "fc=0.5;optimizer=sgd;lr=0.01"]


@pytest.fixture(scope="module")
def varied(tmp_path_factory, study_of):
    out = tmp_path_factory.mktemp("varied") / "out"
    return study_of(out, *ARMS, max_train=211)


def test_arms_that_vary_more_than_dropout_are_called_by_it(varied):
    assert [row["name"] for row in varied.record["policies"]] == ARMS
    assert [row["dropout"] for row in varied.record["policies"]] == ["none", "none", "fc=0.5"]
    assert sorted({run["policy"] for run in varied.record["runs"]}) == sorted(ARMS)
    assert [p["name"] for p in read_json(varied.folder / "details.json")["policies"]] == ARMS
    assert varied.record["config"]["weight_decay"] == "see the policies"
    assert "--policies none 'none;weight_decay=0.5' 'fc=0.5;optimizer=sgd;lr=0.01'" in varied.record["command"]
    assert "dropout" not in varied.recommendation["sentence"]


def test_each_arm_was_trained_as_it_says(varied):
    runs = {run["policy"]: read_run(varied.folder / run["folder"]) for run in varied.record["runs"]}
    told = {
        name: (r.config.dropout, r.config.weight_decay, r.config.optimizer, r.config.lr) for name, r in runs.items()
    }
    assert told == {
        "none": ("none", 0.0, "adam", None),
        "none;weight_decay=0.5": ("none", 0.5, "adam", None),
        "fc=0.5;optimizer=sgd;lr=0.01": ("fc=0.5", 0.0, "sgd", 0.01),
    }
    errors = {row["name"]: row["metrics"]["train_error"]["mean"] for row in varied.record["policies"]}
    assert errors["none;weight_decay=0.5"] > errors["none"] + 0.1  # so much L2 leaves nothing to learn


def test_the_rows_hold_what_the_page_draws(varied):
    row = varied.record["policies"][0]
    assert {key: figure["unit"] for key, figure in row["metrics"].items()} == {
        "error": "fraction",
        "balanced_error": "fraction",
        "nll": "nats",
        "ece": "fraction",
        "gap": "nats",
        "train_loss": "nats",
        "train_error": "fraction",
    }
    summaries = [run["summary"] for run in varied.record["runs"] if run["policy"] == "none"]
    for key, values in {
        "balanced_error": [s["test"]["balanced_error"] for s in summaries],
        "train_loss": [s["train"]["loss"] for s in summaries],
        "train_error": [s["train"]["error"] for s in summaries],
    }.items():
        assert row["metrics"][key]["mean"] == pytest.approx(np.mean(values))


def test_runs_of_the_first_version_get_their_balanced_error(varied, tmp_path, study_of):
    """Their summaries do not have it; their predictions do."""
    folder = tmp_path / "old"
    shutil.copytree(varied.folder, folder)
    for path in folder.glob("runs/*/summary.json"):
        summary = read_json(path)
        del summary["test"]["balanced_error"]
        write_json(path, summary)
    again = study_of(folder, *ARMS, max_train=211)
    for before, after in zip(varied.record["policies"], again.record["policies"], strict=True):
        assert after["metrics"]["balanced_error"] == pytest.approx(before["metrics"]["balanced_error"])


def test_the_balanced_error_can_decide(tmp_path, study_of):
    study = study_of(tmp_path / "s", "none", "fc=0.97", metric="balanced-error", epochs=1, max_train=211)
    rows = study.record["policies"]
    means = [row["metrics"]["balanced_error"]["mean"] for row in rows]
    assert rows[1]["verdict"]["difference"] == pytest.approx(means[1] - means[0])
    assert "balanced" in str(study).splitlines()[1]
    assert "--metric balanced-error" in study.record["command"]
    assert "by balanced test error on 3 seeds" in study.record["verdict"]


def test_a_sweep_compares_its_rates_with_the_first(tmp_path, study_of):
    study = study_of(tmp_path / "s", "none", sweep="fc=0:0.9:0.45", max_train=211)
    assert [(row["name"], row["rate"]) for row in study.record["policies"]] == [
        ("fc=0", 0.0),
        ("fc=0.45", 0.45),
        ("fc=0.9", 0.9),
    ]
    losses = {}
    for run in study.record["runs"]:
        losses.setdefault(run["policy"], []).append(run["summary"]["val"]["loss"])
    best = min(losses, key=lambda name: np.mean(losses[name]))
    assert study.record["sweep"]["lowest"]["policy"] == best
    assert study.record["sweep"]["sentence"] in " ".join(str(study).split())
    assert "--sweep fc=0:0.9:0.45" in study.record["command"]
    assert "--policies" not in study.record["command"] + study.recommendation["command"]
    again = study_of(tmp_path / "s", "fc=0", "fc=0.45", "fc=0.9", max_train=211)  # the same study by its policies
    assert again.record["trained"] == 0
    assert "sweep" not in again.record
