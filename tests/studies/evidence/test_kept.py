"""Evidence of runs and studies: kept in the folder, shown on the page, refused where it would mislead."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import dropkit
from dropkit import cli
from dropkit.errors import DropkitError
from dropkit.files import read_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("evidence")


@pytest.fixture(scope="module")
def study(folder):
    """Two policies of three seeds."""
    configs = [
        dropkit.TrainConfig(data="digits", model="mlp", max_train=100, epochs=3, threads=1, dropout=dropout)
        for dropout in ("none", "fc=0.5")
    ]
    return dropkit.compare(configs, seeds=3, workers=1, out=folder / "study", progress=False)


@pytest.fixture(scope="module")
def runs(folder):
    """One run without dropout and one with."""

    def trained(dropout, **changes):
        given = {"data": "digits", "model": "mlp", "max_train": 100, "epochs": 2, "threads": 1, **changes}
        name = "-".join((dropout, *map(str, changes.values())))
        config = dropkit.TrainConfig(**given, dropout=dropout, out=str(folder / name))
        return dropkit.train(config, progress=False)

    return trained("none"), trained("fc=0.5"), trained


def test_of_a_study_every_run_is_measured_and_each_claim_judged(study):
    found = dropkit.evidence(study.folder, progress=False)
    plain, thinned = found.record["policies"]
    assert (plain["name"], plain["n"], thinned["name"], thinned["n"]) == ("none", 3, "fc=0.5", 3)
    assert plain["claims"] == []
    assert {claim["kind"] for claim in thinned["claims"]} <= {
        "shown",
        "not shown",
        "opposite",
        "undertrained",
        "measured",
    }
    assert len(found.record["runs"]) == 6
    assert read_json(study.folder / "evidence.json") == json.loads(json.dumps(found.record))
    page = found.page.read_text()
    assert 'id="evidence"' in page
    assert thinned["claims"][0]["told"].split(" (")[0] in page
    assert thinned["claims"][0]["sentence"] in str(found)


def test_a_study_that_was_moved(study, tmp_path):
    moved = tmp_path / "moved"
    study.folder.rename(moved)
    try:
        assert dropkit.evidence(moved, progress=False).record["policies"][1]["n"] == 3
    finally:
        moved.rename(study.folder)


def test_a_policy_that_the_study_does_not_judge_is_marked(study, tmp_path):
    record = read_json(study.folder / "study.json")
    kept = json.dumps(record)
    record["policies"][1]["verdict"]["kind"] = "undertrained"
    (study.folder / "study.json").write_text(json.dumps(record))
    try:
        found = dropkit.evidence(study.folder, progress=False)
    finally:
        (study.folder / "study.json").write_text(kept)
    assert {claim["kind"] for claim in found.record["policies"][1]["claims"]} == {"undertrained", "measured"}
    assert "not judged, as it was not trained long enough" in str(found)


def test_one_run_has_numbers_and_no_verdict(runs):
    _, thinned, _ = runs
    found = dropkit.evidence(thinned.folder, progress=False)
    (policy,) = found.record["policies"]
    assert policy["n"] == 1
    assert [claim["kind"] for claim in policy["claims"] if claim["kind"] in ("shown", "opposite")] == []
    assert 'id="evidence"' in found.page.read_text()


def test_a_run_against_another(runs):
    plain, thinned, _ = runs
    found = dropkit.evidence(thinned.folder, against=plain.folder, progress=False)
    assert [policy["name"] for policy in found.record["policies"]] == ["none", "fc=0.5"]
    assert found.folder == thinned.folder
    assert not (plain.folder / "evidence.json").exists()


def test_two_runs_of_one_policy_are_told_apart(runs):
    _, thinned, trained = runs
    other = trained("fc=0.5", seed=1)
    found = dropkit.evidence(thinned.folder, against=other.folder, progress=False)
    assert [policy["name"] for policy in found.record["policies"]] == ["fc=0.5;seed=1", "fc=0.5;seed=0"]


def refused(folder, message, **given):
    before = sorted(path.name for path in Path(folder).iterdir()) if Path(folder).is_dir() else []
    with pytest.raises(DropkitError, match=message):
        dropkit.evidence(folder, progress=False, **given)
    assert before == (sorted(path.name for path in Path(folder).iterdir()) if Path(folder).is_dir() else [])


def test_what_cannot_be_held_against_each_other(runs, study):
    plain, thinned, trained = runs
    refused(thinned.folder, "is the run itself: --against takes the folder of another one", against=thinned.folder)
    refused(thinned.folder, "is a study: --against takes the folder of one run", against=study.folder)
    refused(study.folder, "is for two runs, and this is a study", against=plain.folder)
    apart = trained("none", split_seed=5)
    refused(thinned.folder, "were tested on different pictures", against=apart.folder)


def test_where_there_is_nothing(tmp_path):
    refused(tmp_path / "nothing", "nothing")
    refused(tmp_path, "holds no finished run or study|holds neither")


def test_a_network_that_is_gone(runs):
    _, _, trained = runs
    gone = trained("fc=0.4")
    (gone.folder / "model.safetensors").unlink()
    refused(gone.folder, "model.safetensors|network")


def test_every_training_diverged(study, monkeypatch):
    monkeypatch.setattr(type(study_run(study)), "diverged", property(lambda run: True))
    refused(study.folder, "every training diverged: there is no network to measure. Train with a lower --lr")


def study_run(study):
    from dropkit.runs.run import read_run

    return read_run(study.folder / study.record["runs"][0]["folder"])


def test_a_run_that_diverged_is_left_out(study, monkeypatch):
    run = study_run(study)
    lost = {run.folder.name}
    monkeypatch.setattr(type(run), "diverged", property(lambda each: each.folder.name in lost))
    plain, thinned = dropkit.evidence(study.folder, progress=False).record["policies"]
    assert (plain["n"], plain["diverged"]) == (2, 1)
    assert (thinned["n"], thinned["diverged"]) == (3, 0)
    assert {claim["n"] for claim in thinned["claims"] if claim["quantity"] == "gap"} == {2}


def test_progress_counts_runs(study, capfd):
    dropkit.evidence(study.folder, progress=True)
    said = capfd.readouterr().err
    assert "run 1 of 6: none, seed 0" in said
    assert "run 6 of 6: fc=0.5, seed 2" in said


def command(*words):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evidence", *map(str, words)])
    return stopped.value.code


def test_the_command_prints_tables_sentences_and_the_page(study, capsys):
    assert command(study.folder) == 0
    out = capsys.readouterr().out
    assert out.startswith("the networks, on ")
    assert f"page: {study.folder / 'report.html'}" in out.replace("\n", " ")


def test_the_command_prints_json(study, capsys):
    assert command(study.folder, "--json") == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "evidence"


def test_the_command_says_what_is_wrong(study, runs, capsys):
    assert command(study.folder, "--against", runs[0].folder) == 2
    assert "dropkit: --against" in capsys.readouterr().err
    assert command(study.folder, "--seed", "-1") == 2
    assert "the seed must be a whole number from 0 to 2**64 - 1, but got -1" in capsys.readouterr().err


def test_the_record_prints_as_the_command_does(study, capsys):
    found = dropkit.evidence(study.folder, progress=False)
    command(study.folder)
    out = capsys.readouterr().out
    assert str(found).splitlines()[0] == out.splitlines()[0]
    assert replace(found, record=found.record).page == study.page
