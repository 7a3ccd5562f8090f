"""tune: the search, its confirmation with fresh seeds, and what the record says; every refusal in words."""

import json
import os
import shlex
import shutil

import pytest
import torch
from torch import nn

import dropkit
from dropkit import cli
from dropkit.errors import DropkitError
from dropkit.files import read_json, write_json
from dropkit.runs.config import TrainConfig
from dropkit.runs.run import read_run
from dropkit.studies import tune as module
from dropkit.studies.estimate import Estimate
from dropkit.studies.reopen import best_run, rebuild_page, reopen
from dropkit.studies.search_folder import SearchFolder
from dropkit.studies.search_record import SearchRecord, _python
from dropkit.studies.storage import Storage
from dropkit.studies.tune import search_epochs, trials_within, tune

pytest.importorskip("optuna", reason="optuna is not installed (extra tune)")

TRIALS, EPOCHS = 11, 9


def config(**changes):
    given = {"data": "digits", "model": "mlp", "epochs": EPOCHS, "max_train": 150, "precision": "float32", "threads": 1}
    given["seed"] = 1  # with it the search finds dropout
    return TrainConfig(**{**given, **changes})


def tuned(out, base=None, **changes):
    options = {"trials": TRIALS, "seeds": 3, "weight_decays": (1e-3,), "workers": 1, "out": out, "progress": False}
    return tune(base or config(), **{**options, **changes})


def timeless(record):
    """A record without what took how long and where it lies."""
    aside = ("seconds", "images_per_second", "saved", "spent", "whole", "command", "environment", "storage", "trained")

    def kept(value):
        if isinstance(value, dict):
            return {name: kept(each) for name, each in value.items() if name not in aside}
        return [kept(each) for each in value] if isinstance(value, list) else value

    return kept(json.loads(json.dumps(record)))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return tuned(tmp_path_factory.mktemp("tune") / "study")


def test_the_best_is_confirmed_with_fresh_seeds_against_none_and_the_tutorials(study):
    search = study.record["search"]
    assert search["chosen"] == search["finalists"][0]
    names = ["none", "fc=0.5", search["chosen"]["policy"]]
    assert [row["name"] for row in study.record["policies"]] == names
    assert study.record["seeds"] == [2, 3, 4]  # the search's is 1
    seen = {read_json(path)["seed"] for path in (study.folder / "trials").glob("*/config.json")}
    assert seen == {1}
    assert [row["verdict"] is not None for row in study.record["policies"]] == [False, True, True]


def test_the_record_says_what_was_searched_and_what_it_took(study):
    search = study.record["search"]
    assert len(search["trials"]) == TRIALS
    assert search["rungs"] == [2, 5]
    assert search["space"]["weight_decays"] == [0.0, 0.001]
    stopped = sum(trial["status"] == "stopped" for trial in search["trials"])
    best = search["chosen"]
    assert search["sentence"] == (
        f"Of 9 policies tried on the validation loss beside none and fc=0.5, {best['policy']} was best: "
        f"{best['loss']:.3f} nats. {stopped} were stopped early."
    )
    # None and fc=0.5 whole; of 9 all make 2 epochs, 3 make 5, 1 the rest.
    assert search["spent"]["epochs"] == 2 * 9 + 9 * 2 + 3 * 3 + 4 == search_epochs(TRIALS, EPOCHS)
    assert search["spent"]["trainings"] == TRIALS
    assert len({(trial["policy"]) for trial in search["trials"]}) == TRIALS  # none is another one again
    assert search["whole"]["epochs"] == TRIALS * EPOCHS
    assert search["saved"] == pytest.approx(1 - search["spent"]["seconds"] / search["whole"]["seconds"])
    assert [curve["site"] for curve in search["response"]] == ["fc"]
    assert {entry["name"] for entry in search["importance"]} == {"fc rate", "weight decay"}
    json.dumps(study.record, allow_nan=False)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(64, 13), nn.Linear(13, 10)

    def forward(self, x):
        return self.fc2(self.fc1(x.flatten(1)).relu())


def test_the_lines_of_python_bring_the_policy_into_an_own_network(study):
    lines = study.record["search"]["python"].replace("...  # your network", "Own()")
    names = {"Own": Own}
    exec(lines, names)
    assert any(isinstance(layer, dropkit.Dropout) for layer in names["model"].modules())
    assert isinstance(names["optimizer"], torch.optim.Adam)
    assert names["optimizer"].param_groups[0]["lr"] == 0.001


def test_the_train_line_trains_what_was_found(study, tmp_path, monkeypatch, capsys):
    words = shlex.split(study.record["search"]["train"])  # with the default seed, not the search's
    assert words[:3] == ["dropkit", "train", "digits"]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main([*words[1:], "--out", "run"])
    assert ended.value.code == 0
    found = read_run(tmp_path / "run").config
    arm = study.record["search"]["use"]["policy"]
    assert found.dropout == arm.partition(";")[0]
    assert (found.weight_decay == 0.001) is ("weight_decay=0.001" in arm)
    assert (found.epochs, found.max_train, found.model) == (EPOCHS, 150, "mlp")


def test_it_is_a_study_like_any_other(study):
    again = reopen(study.folder)
    assert again.record == study.record
    assert best_run(study.folder).config.dropout == study.recommendation["policy"].partition(";")[0]
    before = study.page.read_text()
    assert rebuild_page(study.folder).read_text() == before
    assert study.record["search"]["sentence"] in before.replace("<wbr>", "")
    assert study.record["search"]["sentence"] in " ".join(str(study).split())


def test_called_again_it_trains_nothing_and_says_the_same(study, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in study.folder.glob("*/*/model.safetensors")}
    monkeypatch.setattr("dropkit.studies.executor.advance", None)  # nothing may be trained
    again = tuned(study.folder, trials=None)  # it keeps its number of trials
    assert timeless(again.record) == timeless(study.record)
    assert {path: path.stat().st_mtime_ns for path in study.folder.glob("*/*/model.safetensors")} == before
    assert len(before) == 3 + 9  # two references, the finalist, the confirmation


def test_the_command_says_what_it_does_and_what_came_out(study, tmp_path, monkeypatch, capsys):
    words = shlex.split(study.record["search"]["command"])
    assert words[:2] == ["dropkit", "tune"]
    monkeypatch.setattr("dropkit.studies.executor.advance", None)
    with pytest.raises(SystemExit) as ended:
        cli.main([*words[1:], "--workers", "1"])
    assert ended.value.code == 0
    printed = capsys.readouterr()
    assert study.record["search"]["sentence"] in " ".join(printed.out.split())
    assert f"page: {study.page}" in printed.out
    assert "search: 11 trials, about 49 epochs" in printed.err
    assert f"watch it: optuna-dashboard sqlite:///{study.folder}/trials.db" in printed.err
    assert "search 1/1: 11 policies tried; lowest validation loss so far" in printed.err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 12}, "has 11 trials, and which are stopped early depends on their number"),
        ({"sites": ("fc[0]",), "trials": None}, r"holds another search: .*sites"),
        ({"kinds": ("unit", "gaussian"), "trials": None}, r"holds another search: .*kinds"),
        ({"weight_decays": None}, r"holds another search: .*weight_decays"),
        ({"base": config(epochs=5)}, r"holds another search: .*epochs"),
        ({"metric": "nll"}, r"holds another search: .*metric"),
    ],
)
def test_another_search_in_the_folder_is_refused(study, changes, message):
    with pytest.raises(DropkitError, match=message):
        tuned(study.folder, **changes)


def test_other_pictures_are_refused(study, tmp_path):
    moved = shutil.copytree(study.folder, tmp_path / "study")
    write_json(moved / "search.json", {**read_json(moved / "search.json"), "fingerprint": "others"})
    with pytest.raises(DropkitError, match="saw other pictures than 'digits' holds now"):
        tuned(moved)


def test_a_storage_that_holds_another_search_is_refused(study, tmp_path):
    url = f"sqlite:///{study.folder}/trials.db"
    with pytest.raises(DropkitError, match="holds a study 'study' that was made for other pictures, options or"):
        tuned(tmp_path / "study", trials=12, storage=url)


def test_a_storage_that_cannot_be_reached_leaves_a_folder_that_goes_on(study, tmp_path):
    away = shutil.copytree(study.folder, tmp_path / "study")
    with pytest.raises(DropkitError, match="'sqlite:////nowhere/trials.db' cannot be used"):
        tuned(away, storage="sqlite:////nowhere/trials.db")
    assert timeless(tuned(away).record)["search"]["trials"] == timeless(study.record)["search"]["trials"]


def test_other_folders_are_refused(study, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DropkitError, match="holds something else"):
        tuned(tmp_path)
    assert os.listdir(tmp_path) == ["notes.txt"]
    with pytest.raises(DropkitError, match="holds another|holds something else|holds a"):
        dropkit.compare([config(dropout=p) for p in ("none", "fc=0.5")], seeds=3, out=study.folder, progress=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 4}, "trials must be a whole number of at least 5"),
        ({"budget": "1h"}, "either trials or a budget of time, not both"),
        ({"budget": "soon", "trials": None}, "budget must be a time such as 20m"),
        ({"seeds": 2}, "seeds must be at least 3"),
        ({"workers": 0}, "workers must be a whole number of at least 1"),
        ({"metric": "loss"}, "unknown metric 'loss'"),
        ({"sites": ("conv",)}, "conv"),
        ({"kinds": ("fog",)}, "unknown kind of dropout 'fog'"),
        ({"gpus_per_trial": 1}, "gpus_per_trial is of a Ray cluster: give its address too"),
        ({"ray": "auto"}, "threads is of this machine: on a Ray cluster a training has as many as CPUs"),
        ({"base": config(model="mpl")}, "unknown model 'mpl'"),
    ],
)
def test_mistakes_are_said_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(DropkitError, match=message):
        tuned(tmp_path / "study", **changes)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("kinds", "recommended", "used", "why"),
    [
        (("none", "helps"), "fc=0.3", "fc=0.3", "shown to help"),
        (("helps", "none"), "fc=0.5", "fc=0.5", "shown to help"),
        (("helps", "hurts"), "fc=0.5", "fc=0.5", "shown to help"),
        (("none", "none"), "none", "fc=0.3", "best in the search, but not shown to help"),
        (("hurts", "undertrained"), "none", "fc=0.3", "best in the search, but not trained long enough to be judged"),
        (("none", "hurts"), "none", "none", "what the search found is shown to hurt"),
        (("none", "diverged"), "none", "none", "what the search found diverges"),
    ],
)
def test_what_the_lines_bring_is_what_helps_or_at_least_does_not_hurt(kinds, recommended, used, why):
    kept = SearchRecord.__new__(SearchRecord)
    kept.arms = [config(dropout=dropout) for dropout in ("none", "fc=0.5", "fc=0.3")]
    verdicts = [None, *({"kind": kind} for kind in kinds)]
    rows = [{"name": arm.dropout, "verdict": verdict} for arm, verdict in zip(kept.arms, verdicts, strict=True)]
    found, told = kept._used({"policies": rows, "recommendation": {"policy": recommended}})
    assert (found.dropout, told) == (used, why)


def test_the_lines_have_what_else_the_trials_had():
    plain = _python(config(dropout="fc=0.3"), (1, 8, 8))
    assert "schedule" not in plain
    assert "max_norm" not in plain
    lines = _python(
        config(dropout="fc=0.3", schedule="early:0.5", max_norm=3.0, weight_decay=1e-4, optimizer="sgd"), (1, 8, 8)
    )
    names = {"Own": Own}
    exec(lines.replace("...  # your network", "Own()"), names)
    names["rates"].apply(0.9)
    assert [layer.p for layer in names["model"].modules() if isinstance(layer, dropkit.Dropout)] == [0.0]
    assert "# after each optimizer.step(): dropkit.max_norm(model, 3)" in lines
    group = names["optimizer"].param_groups[0]
    assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (0.05, 0.9, True, 1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 60}, "the space has 34 different policies, and 60 trials are asked for.* ask for fewer --trials"),
        ({"trials": None, "kinds": ("unit",), "sites": ("fc[9]",)}, "fc.9"),
    ],
)
def test_more_trials_than_there_are_policies_are_refused(tmp_path, changes, message):
    with pytest.raises(DropkitError, match=message):
        tuned(tmp_path / "study", **changes)
    assert os.listdir(tmp_path) == []


def test_a_storage_that_fails_binds_nothing(tmp_path):
    with pytest.raises(DropkitError, match="cannot be used"):
        tuned(tmp_path / "study", storage="foo")
    assert os.listdir(tmp_path) == []
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "trials.db").write_bytes(b"")  # as a stop leaves it, right after it was made
    SearchFolder(config(), {}, folder).refuse_other()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(DropkitError, match="holds something else"):
        SearchFolder(config(), {}, folder).refuse_other()


def test_names_may_be_given_with_commas(study):
    again = tuned(study.folder, trials=None, kinds=None, sites=None)
    assert timeless(again.record) == timeless(study.record)
    with pytest.raises(DropkitError, match="kinds names one twice: unit,unit"):
        tuned(study.folder, kinds="unit, unit")


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_a_budget_buys_as_many_trials_as_fit_with_the_confirmation(workers):
    cost = Estimate(seconds=4.0, epochs=40)
    for seconds in (130.0, 300.0):
        count = trials_within(seconds, cost, 5, workers)
        spent = [(search_epochs(n, 40, workers) + -(-15 // workers) * 40) * 0.1 for n in (count, count + 1)]
        assert spent[0] <= seconds
        assert spent[1] > seconds or count == 300
    assert trials_within(1.0, cost, 5, workers) == 5
    assert trials_within(1e9, cost, 5, workers) == 300


def test_a_budget_is_kept_when_the_search_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "estimate", lambda *given: Estimate(1.0, EPOCHS))
    bought = trials_within(17.0, Estimate(1.0, EPOCHS), 3, 1)
    monkeypatch.setattr(module.Search, "run", lambda self, pictures: (_ for _ in ()).throw(KeyboardInterrupt))
    for budget in ("17s", "1h"):
        with pytest.raises(KeyboardInterrupt):
            tuned(tmp_path / "study", trials=None, budget=budget)
        assert read_json(tmp_path / "study" / "search.json")["trials"] == bought


def test_the_trials_may_be_kept_by_postgresql(study, tmp_path, postgresql):
    found = tuned(tmp_path / "study", storage=postgresql)
    assert timeless(found.record)["search"]["trials"] == timeless(study.record)["search"]["trials"]
    password = postgresql.split(":")[2].partition("@")[0]
    assert found.record["search"]["storage"] == postgresql.replace(password, "***")
    for path in (tmp_path / "study").rglob("*"):
        assert not path.is_file() or password.encode() not in path.read_bytes(), path
    assert not (tmp_path / "study" / "trials.db").exists()
    shutil.rmtree(tmp_path / "study")
    again = tuned(tmp_path / "study", storage=postgresql)  # the folder is lost, the trials are there
    assert timeless(again.record)["search"]["trials"] == timeless(study.record)["search"]["trials"]


def test_a_storage_that_goes_away_and_comes_back(study, tmp_path, postgresql_server, monkeypatch):
    told, original = 0, Storage.tell

    def tell(*args):
        nonlocal told
        told += 1
        if told == 3:
            postgresql_server.stop()
        original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "tell", tell)
        message = (
            "does not answer any more .+What was trained is kept: when the storage is back, the same command goes on"
        )
        with pytest.raises(DropkitError, match=message) as caught:
            tuned(tmp_path / "study", storage=postgresql_server.url)
    assert postgresql_server.url.split(":")[2].partition("@")[0] not in str(caught.value)
    postgresql_server.start()
    found = tuned(tmp_path / "study", storage=postgresql_server.url)
    assert timeless(found.record)["search"]["trials"] == timeless(study.record)["search"]["trials"]
