"""A search: the same trials whatever stops it and however many train at a time."""

import dataclasses
import json
import math

import pytest

from dropkit.data.pictures import load
from dropkit.errors import DropkitError
from dropkit.runs.config import TrainConfig
from dropkit.runs.record import RunFolder
from dropkit.studies import search as module
from dropkit.studies.executor import LocalProcesses
from dropkit.studies.search import Search, policy_name
from dropkit.studies.space import make_space
from dropkit.studies.storage import Storage, default_storage

pytest.importorskip("optuna", reason="optuna is not installed (extra tune)")

DIGITS = load("digits")
SPACE = make_space({"fc"}, decays=(1e-3,))
EPOCHS, COUNT = 9, 24


class Stopped:
    """Executes as one process does, until so many trainings are done."""

    def __init__(self, after):
        self.inner, self.left, self.threads, self.workers = LocalProcesses(1, 1), after, 1, 1
        self.trained = []

    def map(self, configs, pictures, spool, *, until=None):
        for folder in self.inner.map(configs, pictures, spool, until=until):
            self.trained.append((folder, until))
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
            yield folder


def searching(folder, executor=None, **changes):
    folder.mkdir(exist_ok=True)
    given = {"data": "digits", "model": "mlp", "epochs": EPOCHS, "max_train": 150, "precision": "float32", "threads": 1}
    base = TrainConfig(**{**given, "dropout": "none", **changes})
    storage = Storage(default_storage(folder), "search", "this", base.seed)
    return Search(
        base,
        SPACE,
        count=COUNT,
        epochs=EPOCHS,
        folder=folder,
        executor=executor or LocalProcesses(1, 1),
        storage=storage,
        progress=False,
    )


def told(search):
    """What a search found, but for how long it took."""
    trials = [{**trial.to_json(), "seconds": None} for trial in search.trials]
    return json.loads(json.dumps([trials, [trial.number for trial in search.finalists]]))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    search = searching(tmp_path_factory.mktemp("whole") / "study")
    search.run(DIGITS)
    return search


def test_references_are_trained_to_the_end_and_a_third_of_the_others_goes_on(whole):
    trials, finalists = told(whole)
    assert [(trial["policy"], trial["status"], trial["epochs"]) for trial in trials[:2]] == [
        ("none", "finished", 9),
        ("fc=0.5", "finished", 9),
    ]
    for generation in (trials[2:13], trials[13:24]):
        ended = sorted(trial["epochs"] for trial in generation)
        assert ended == [2] * 7 + [5, 5, 5, 9]
        for rung in ("2", "5"):
            scores = {trial["number"]: trial["scores"][rung] for trial in generation if rung in trial["scores"]}
            curves = {trial["number"]: trial["curve"] for trial in generation}
            assert scores == {number: curves[number][int(rung) - 1] for number in scores}
            kept = {trial["number"] for trial in generation if trial["epochs"] > int(rung)}
            assert max(scores[number] for number in kept) <= min(
                score for number, score in scores.items() if number not in kept
            )
    ended = [trial for trial in trials[2:] if trial["status"] == "finished"]
    assert finalists == [trial["number"] for trial in sorted(ended, key=lambda trial: trial["val_loss"])]
    assert len(finalists) == 2


def test_nothing_reads_the_test_pictures(whole, tmp_path, monkeypatch):
    """With other logits on the test pictures the search is the same."""
    finish = RunFolder.finish

    def with_other_figures(self, summary, best, test):
        finish(self, {**summary, "test": dict.fromkeys(summary["test"], 0.123)}, best, test)

    monkeypatch.setattr(RunFolder, "finish", with_other_figures)
    search = searching(tmp_path / "study")
    search.run(DIGITS)
    assert told(search) == told(whole)


@pytest.mark.parametrize(("after", "lost"), [(1, False), (13, True), (17, False)])
def test_a_search_that_was_stopped_goes_on_to_the_same_end(whole, tmp_path, after, lost):
    first = Stopped(after)
    with pytest.raises(KeyboardInterrupt):
        searching(tmp_path / "study", first).run(DIGITS)
    if lost:  # optuna's storage alone: all is drawn again
        (tmp_path / "study" / "trials.db").unlink()
    second = Stopped(0)
    search = searching(tmp_path / "study", second)
    search.run(DIGITS)
    assert told(search) == told(whole)
    assert not set(first.trained) & set(second.trained)  # nothing is trained twice
    third = Stopped(1)
    search = searching(tmp_path / "study", third)
    search.run(DIGITS)
    assert told(search) == told(whole)
    assert third.trained == []
    assert len(search.storage.study.get_trials()) == COUNT


def test_several_processes_find_the_same(whole, tmp_path):
    search = searching(tmp_path / "study", LocalProcesses(2, 1))
    search.run(DIGITS)
    assert told(search) == told(whole)


def test_equal_trials_are_trained_once(tmp_path, monkeypatch):
    search = searching(tmp_path / "study", executor := Stopped(0))
    monkeypatch.setattr(module, "generations", lambda count: [range(3)])
    monkeypatch.setattr(type(SPACE), "config", lambda self, base, params: dataclasses.replace(base, dropout="fc=0.25"))
    search.run(DIGITS)
    folders = [folder for folder, until in executor.trained if until == 2]
    assert len(folders) == 1
    assert len({trial.folder for trial in search.trials}) == 3
    assert sum(map(len, search.trained())) == 3 * EPOCHS


def test_what_diverges_is_stopped_and_all_of_it_an_error_that_keeps_the_records(tmp_path):
    search = searching(tmp_path / "study", optimizer="sgd", lr=1e30)
    with pytest.raises(DropkitError, match=r"all diverged: try a lower --lr than 1e\+30.* kept in '.*study'"):
        search.run(DIGITS)
    assert {trial.status for trial in search.trials} == {"diverged"}
    assert len(search.trials) == COUNT
    assert all(trial.loss == math.inf and trial.to_json()["policy"] for trial in search.trials)
    json.dumps([trial.to_json() for trial in search.trials], allow_nan=False)
    assert all(RunFolder(trial.folder).finished for trial in search.trials)
    states = {trial.state.name for trial in search.storage.study.get_trials()}
    assert states == {"FAIL"}


def test_names_tell_the_decay_where_it_is_not_the_searchs_own():
    base = TrainConfig(data="digits", weight_decay=1e-4, dropout="none")
    config = dataclasses.replace(base, dropout="fc=0.5", seed=3, out="elsewhere")
    assert policy_name(base, config) == "fc=0.5"
    assert policy_name(base, dataclasses.replace(config, weight_decay=0.0)) == "fc=0.5;weight_decay=0"
    assert policy_name(base, dataclasses.replace(config, weight_decay=1e-3)) == "fc=0.5;weight_decay=0.001"
