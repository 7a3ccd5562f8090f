"""The comparison, end to end on the digits: pairing, going on, refusing, the record."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from dropkit.errors import DropkitError
from dropkit.runs.metrics import per_picture
from dropkit.runs.run import read_run
from dropkit.runs.training import load_data
from dropkit.studies import plan as module
from dropkit.studies.compare import compare
from dropkit.studies.estimate import Estimate
from dropkit.studies.executor import LocalProcesses
from dropkit.studies.question import Question
from dropkit.studies.statistics import holm, holm_intervals, paired_difference


def plan_of(folder, configs, workers=1):
    return module.Plan(Question(configs), folder, LocalProcesses(workers, threads=1))


@pytest.fixture(scope="module")
def study(tmp_path_factory, study_of):
    return study_of(tmp_path_factory.mktemp("study") / "out", "none", "fc=0.5", "fc=0.97")


def test_the_record_holds_every_policy_and_run(study):
    record = study.record
    assert [row["name"] for row in record["policies"]] == ["none", "fc=0.5", "fc=0.97"]
    assert [(run["policy"], run["seed"]) for run in record["runs"]] == [
        (policy, seed) for policy in ("none", "fc=0.5", "fc=0.97") for seed in (0, 1, 2)
    ]
    assert json.loads((study.folder / "study.json").read_text()) == json.loads(json.dumps(record))
    assert study.page.is_file()
    assert record["policies"][0]["verdict"] is None
    assert all(row["n"] == 3 for row in record["policies"])


def test_equal_seeds_share_split_and_initial_weights(study):
    runs = {(run["policy"], run["seed"]): read_run(study.folder / run["folder"]) for run in study.record["runs"]}
    splits = {(run.folder / "split.json").read_bytes() for run in runs.values()}
    assert len(splits) == 1
    labels = [run.test_predictions()[1] for run in runs.values()]
    assert all(torch.equal(labels[0], other) for other in labels)


def test_the_figures_are_those_of_the_runs_on_disk(study):
    values = {}
    for run in study.record["runs"]:
        logits, labels = read_run(study.folder / run["folder"]).test_predictions()
        values.setdefault(run["policy"], []).append(per_picture(logits.numpy(), labels.numpy(), "error"))
    for row in study.record["policies"]:
        assert row["metrics"]["error"]["mean"] == pytest.approx(np.mean(values[row["name"]]), abs=1e-12)
    difference = paired_difference(np.stack(values["none"]), np.stack(values["fc=0.97"]))
    verdict = study.record["policies"][2]["verdict"]
    assert verdict["difference"] == difference.mean
    assert verdict["p_value"] == difference.p_value
    assert verdict["p_holm"] >= difference.p_value
    assert verdict["difference"] > 0.05  # .97 dropped cannot have learned the digits in 3 epochs


def test_short_trainings_are_told_to_train_longer(study):
    assert {row["verdict"]["kind"] for row in study.record["policies"][1:]} == {"undertrained"}
    assert study.recommendation["policy"] == "none"
    command = study.recommendation["command"]
    assert command.startswith("dropkit compare digits --model mlp --epochs 6")
    assert command.endswith(f"--out {study.folder}-longer")


def test_a_study_prints_its_table_verdicts_and_next_command(study):
    text = str(study)
    for word in ("none", "fc=0.97", "NLL", "ECE", "gap", "Next: dropkit compare digits"):
        assert word in text
    assert study.record["policies"][1]["verdict"]["sentence"][:40] in text


def test_a_finished_study_repeats_no_training(study, monkeypatch, study_of):
    monkeypatch.setattr(
        LocalProcesses,
        "map",
        lambda self, configs, pictures, spool: iter(()) if not configs else pytest.fail("trained again"),
    )
    again = study_of(study.folder, "none", "fc=0.5", "fc=0.97")
    assert again.record["trained"] == 0
    assert again.record["policies"] == study.record["policies"]
    assert (again.record["looks"], again.record["look_count"]) == ([3], 1)  # nothing new was seen
    assert "Look 1 at these 269 test pictures." in str(again)


def test_more_seeds_keep_the_runs_there_are(tmp_path, study_of):
    first = study_of(tmp_path, "none", "fc=0.5", epochs=1)
    times = {path.name: (path / "summary.json").stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    more = study_of(tmp_path, "none", "fc=0.5", epochs=1, seeds=4)
    assert (first.record["trained"], more.record["trained"]) == (6, 2)
    assert more.record["seeds"] == [0, 1, 2, 3]
    assert (first.record["looks"], more.record["looks"]) == ([3], [3, 4])
    assert more.record["look"] == "Look 2 at these 269 test pictures."  # after one epoch nothing is judged
    assert (first.record["look_count"], more.record["look_count"]) == (1, 2)
    assert more.record["verdict"].endswith(more.record["look"])
    assert "Looked at" not in str(first)
    assert all((tmp_path / "runs" / name / "summary.json").stat().st_mtime_ns == t for name, t in times.items())


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"metric": "nll"}, "metric is 'error' there and 'nll' here"), ({"epochs": 2}, "epochs is 3 there and 2 here")],
)
def test_another_study_in_the_folder_is_refused(study, changes, field, study_of):
    with pytest.raises(DropkitError, match=field):
        study_of(study.folder, "none", "fc=0.5", "fc=0.97", **changes)


def test_a_folder_that_holds_something_else_is_refused(tmp_path, study_of):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(DropkitError, match="holds something else"):
        study_of(tmp_path, "none", "fc=0.5")
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_fewer_seeds_than_there_are_is_refused(tmp_path, study_of):
    study_of(tmp_path, "none", "fc=0.5", epochs=1, seeds=4)
    with pytest.raises(DropkitError, match="was begun with 4 seeds: ask for as many or more"):
        study_of(tmp_path, "none", "fc=0.5", epochs=1, seeds=3)


def test_a_second_study_takes_fresh_seeds(tmp_path, configs):
    two = configs("none", "fc=0.5", epochs=1)
    study = compare(two, seeds=3, first_seed=7, workers=1, out=tmp_path, progress=False)
    assert study.record["seeds"] == [7, 8, 9]
    with pytest.raises(DropkitError, match="first_seed is 7 there and 0 here"):
        compare(two, seeds=3, workers=1, out=tmp_path, progress=False)


def test_several_comparisons_are_held_to_holm(study):
    verdicts = [row["verdict"] for row in study.record["policies"][1:]]
    p_values = [verdict["p_value"] for verdict in verdicts]
    assert [verdict["p_holm"] for verdict in verdicts] == holm(p_values)
    assert [verdict["p_holm"] for verdict in verdicts] != p_values
    values = {}
    for run in study.record["runs"]:
        logits, labels = read_run(study.folder / run["folder"]).test_predictions()
        values.setdefault(run["policy"], []).append(per_picture(logits.numpy(), labels.numpy(), "error"))
    differences = [paired_difference(values["none"], values[name]) for name in ("fc=0.5", "fc=0.97")]
    expected = holm_intervals(differences)
    assert [(verdict["low"], verdict["high"]) for verdict in verdicts] == expected
    assert expected != [(d.low, d.high) for d in differences]


def test_the_metric_that_was_declared_decides(tmp_path, study_of):
    study = study_of(tmp_path / "s", "none", "fc=0.9", metric="nll", epochs=1)
    row = study.record["policies"][1]
    means = [policy["metrics"]["nll"]["mean"] for policy in study.record["policies"]]
    assert row["verdict"]["difference"] == pytest.approx(means[1] - means[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda out, of: compare(of("none"), out=out), "at least two policies"),
        (lambda out, of: compare(of("none", "none"), out=out), "'none' is given twice"),
        (lambda out, of: compare(of("fc=0.5", "fc=.5"), out=out), "'fc=0.5' and 'fc=.5' are the same"),
        (
            lambda out, of: compare(of("none", "fc=0.5"), workers=0, out=out),
            "workers must be .* 1, but got 0",
        ),
        (
            lambda out, of: compare(of("none", "fc=0.5"), seeds=2, out=out),
            "seeds must be at least 3, but got 2",
        ),
        (lambda out, of: compare(of("none", "fc=0.5"), seeds=3, budget="5m", out=out), "not both"),
        (lambda out, of: compare(of("none", "fc=0.5"), budget="soon", out=out), "budget must be a time"),
        (
            lambda out, of: compare(of("none", "fc=0.5"), metric="eror", out=out),
            "unknown metric 'eror'.*'error'",
        ),
        (lambda out, of: compare(of("none", "fcc=0.5"), out=out), "unknown site"),
        (lambda out, of: compare(of("none", "fc=0.5", data="nowhere"), out=out), "nowhere"),
        (
            lambda out, of: compare([*of("none"), *of("fc=0.5", split_seed=1)], out=out),
            "split_seed is 0 for 'none' and 1 for 'fc=0.5'",
        ),
        (
            lambda out, of: compare(of("none", "fc=0.5"), folds=2, out=out),
            "folds must be .* at least 3, but got 2",
        ),
        (
            lambda out, of: compare(of("none", "fc=0.5"), folds=5, seeds=0, out=out),
            "seeds must be .* at least 1",
        ),
        (lambda out, of: compare(of("none", "fc=0.5"), folds=500, out=out), "500"),
        (lambda out, of: compare(of("none"), sweep="fc=0.5", out=out), "has no range"),
        (
            lambda out, of: compare(of("none", "fc=0.5"), sweep="fc=0:0.5:0.1", out=out),
            "give one training with it",
        ),
        (lambda out, of: compare(of("none", "none;model=mpl"), out=out), "unknown model 'mpl'"),
    ],
)
def test_bad_input_writes_nothing(tmp_path, call, message, configs):
    with pytest.raises(DropkitError, match=message):
        call(tmp_path / "study", configs)
    assert os.listdir(tmp_path) == []


def test_a_budget_of_time_buys_seeds_and_is_remembered(tmp_path, monkeypatch, configs):
    monkeypatch.setattr(module, "estimate", lambda *args: Estimate(seconds=4.0, epochs=1))
    two = configs("none", "fc=0.5", epochs=1)
    study = compare(two, budget="35s", workers=1, out=tmp_path, progress=False)
    assert study.record["seeds"] == [0, 1, 2, 3]  # 8 s a seed
    monkeypatch.setattr(module, "estimate", lambda *args: Estimate(seconds=1.0, epochs=1))
    again = compare(two, budget="35s", workers=1, out=tmp_path, progress=False)  # the same command, a faster machine
    assert again.record["seeds"] == [0, 1, 2, 3]
    again = compare(two, workers=1, out=tmp_path, progress=False)  # as many as there were, not the default
    assert (again.record["seeds"], again.record["trained"]) == ([0, 1, 2, 3], 0)


def test_a_budget_counts_the_workers_and_their_start(tmp_path, monkeypatch, configs):
    monkeypatch.setattr(module, "estimate", lambda *args: Estimate(seconds=4.0, epochs=1))
    two = configs("none", "fc=0.5", epochs=1)
    plan = plan_of(tmp_path / "s", two, workers=2)
    data = load_data(two[0])
    plan.refuse_other_pictures(data[0])
    plan.settle_seeds(None, "45s", data, progress=False)
    assert plan.count == 10  # 5 s to start, then 2 x 4 s a seed, two at a time


def test_a_policy_whose_training_diverges_gets_no_verdict_and_is_not_recommended(tmp_path, monkeypatch, study_of):
    from dropkit.runs.fitting import Fit

    original = Fit.train_step

    def explode(self, x, y):
        bad = self.config.dropout == "fc=0.5" and self.config.seed == 1
        return original(self, x, y) * (float("nan") if bad else 1.0)

    monkeypatch.setattr(Fit, "train_step", explode)
    study = study_of(tmp_path, "none", "fc=0.5", epochs=1)
    row = study.record["policies"][1]
    assert (row["diverged"], row["n"], row["verdict"]["kind"]) == (1, 2, "diverged")
    assert study.recommendation["policy"] == "none"


def test_a_killed_study_goes_on_with_the_same_command(tmp_path):
    words = [
        "compare",
        "digits",
        "--model",
        "mlp",
        "--epochs",
        "25",
        "--threads",
        "1",
        "--policies",
        "none",
        "fc=0.5",
        "--seeds",
        "3",
    ]
    words += ["--out", str(tmp_path / "s"), "--workers", "2"]
    command = [sys.executable, "-m", "dropkit", *words]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    runs, deadline = tmp_path / "s" / "runs", time.monotonic() + 120
    while len(list(runs.glob("*/summary.json"))) < 2 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    finished = {path: path.stat().st_mtime_ns for path in runs.glob("*/summary.json")}
    assert 2 <= len(finished) < 6
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{6 - len(finished)} training" in done.stderr
    assert all(path.stat().st_mtime_ns == time for path, time in finished.items())
    assert len(list(runs.glob("*/summary.json"))) == 6


def test_rates_that_diverge_at_once_are_forecast_and_reported(tmp_path, monkeypatch, capsys, configs):
    from dropkit.runs.fitting import Fit

    original = Fit.train_step
    monkeypatch.setattr(Fit, "train_step", lambda self, x, y: original(self, x, y) * float("nan"))
    two = configs("none", "fc=0.5", epochs=1)
    study = compare(two, seeds=3, workers=1, out=tmp_path / "s")
    assert [row["diverged"] for row in study.record["policies"]] == [3, 3]
    command = study.recommendation["command"]
    assert command.startswith("dropkit compare")
    assert "--lr 0.0001" in command
    assert command.endswith("s-lower-lr")
    assert "6 trainings, about" in capsys.readouterr().err


def test_other_pictures_are_refused_before_anything_is_trained_on_them(tmp_path, study_of):
    path = tmp_path / "data.npz"
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 8, 8), dtype=np.uint8), np.arange(60) % 2
    np.savez(path, train_images=images, train_labels=labels)
    study_of(tmp_path / "s", "none", "fc=0.5", data=str(path), epochs=1)
    np.savez(tmp_path / "same.npz", train_images=images, train_labels=labels)
    np.savez(path, train_images=255 - images, train_labels=labels)
    before = sorted((tmp_path / "s" / "runs").iterdir())
    for seeds in (3, 4):
        with pytest.raises(DropkitError, match="saw other pictures than"):
            study_of(tmp_path / "s", "none", "fc=0.5", data=str(path), epochs=1, seeds=seeds)
    assert sorted((tmp_path / "s" / "runs").iterdir()) == before


def test_an_undecided_study_names_the_seeds_that_would_settle_it(study, configs):
    record = json.loads(json.dumps(study.record))
    for row in record["policies"][1:]:
        row["verdict"] |= {"kind": "none", "needed_seeds": 12}
    record["policies"][2]["verdict"]["needed_seeds"] = None  # more than can be had
    plan = plan_of(study.folder, configs("none", "fc=0.5", "fc=0.97"))
    plan.count = 3
    command = plan._what_settles(record)
    assert command.endswith(f"--seeds 12 --first-seed 3 --metric error --out {study.folder}-from-seed-3")
    record["policies"][1]["verdict"]["kind"] = "helps"
    assert plan._what_settles(record) is None


def test_trainings_made_anew_are_a_further_look(study, configs, monkeypatch):
    plan = plan_of(study.folder, configs("none", "fc=0.5", "fc=0.97"))
    plan.count = 3
    monkeypatch.setattr(plan, "_note", lambda *, looks: None)
    monkeypatch.setattr(plan, "_stored", lambda name, default: [3])
    assert plan._count_look(0) == [3]
    assert plan._count_look(2) == [3, 3]


def test_the_forecast_counts_one_epoch_as_one(tmp_path, configs):
    plan = plan_of(tmp_path / "new", configs("none", "fc=0.5", epochs=1))
    plan.count = 3
    assert "(1 epoch each, " in plan._forecast([Estimate(2.0, 1)])


@pytest.mark.parametrize("kind", ["undertrained", "diverged", "none"])
def test_a_further_look_warns_only_where_a_verdict_was_possible(study, configs, monkeypatch, kind):
    record = json.loads(json.dumps(study.record))
    for row in record["policies"][1:]:
        row["verdict"]["kind"] = kind
    plan = plan_of(study.folder, configs("none", "fc=0.5", "fc=0.97"))
    plan.count = 3
    monkeypatch.setattr("dropkit.studies.plan.analyse", lambda *args, **more: record)
    monkeypatch.setattr(plan, "_count_look", lambda trained: [3, 3])
    assert ("false positive" in plan.record({}, trained=0)["look"]) is (kind == "none")


def test_intervals_end_where_the_figure_does():
    from dropkit.studies.analysis import _figure

    wide = [0.0, 1.0, 1.0]
    assert [_figure(wide, "error", 0.0)[end] for end in ("low", "high")] == [0.0, 1.0]
    nll, gap = _figure(wide, "nll", 0.0), _figure(wide, "gap", 0.0)
    assert nll["low"] == 0.0
    assert nll["high"] == gap["high"] > 1.0
    assert gap["low"] < 0.0
