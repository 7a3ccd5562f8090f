"""Cross-validation, end to end on the digits."""

import shutil

import numpy as np
import pytest

from dropkit.errors import DropkitError
from dropkit.files import read_json
from dropkit.runs.metrics import per_picture
from dropkit.runs.run import read_run
from dropkit.runs.training import load_data
from dropkit.studies import analysis
from dropkit.studies import plan as module
from dropkit.studies.estimate import Estimate
from dropkit.studies.executor import LocalProcesses
from dropkit.studies.folds import fold_difference
from dropkit.studies.question import Question


@pytest.fixture(scope="module")
def cross(tmp_path_factory, study_of):
    return study_of(tmp_path_factory.mktemp("folds") / "out", "none", "fc=0.97", folds=3, seeds=None)


def test_every_picture_is_tested_once_with_every_policy(cross):
    tested = {}
    for run in cross.record["runs"]:
        tested.setdefault(run["policy"], []).extend(read_json(cross.folder / run["folder"] / "split.json")["test"])
    assert list(tested) == ["none", "fc=0.97"]
    for ids in tested.values():
        assert len(ids) == len(set(ids)) == 1797
    assert cross.record["folds"] == {"k": 3, "repetitions": 1}
    assert cross.record["seeds"] == [0, 1, 2]
    assert cross.record["tested"] == 1797
    assert [run["fold"] for run in cross.record["runs"]] == ["1/3", "2/3", "3/3"] * 2


def test_the_verdict_of_folds_is_the_corrected_test(cross):
    values = {"none": [], "fc=0.97": []}
    for run in cross.record["runs"]:
        logits, labels = read_run(cross.folder / run["folder"]).test_predictions()
        values[run["policy"]].append(per_picture(logits.numpy(), labels.numpy(), "error"))
    train = np.mean([run["summary"]["data"]["train"] for run in cross.record["runs"]])
    expected = fold_difference(*values.values(), folds=3, n_train=train, n_pictures=1797)
    verdict = cross.record["policies"][1]["verdict"]
    assert (verdict["difference"], verdict["p_value"]) == (expected.mean, expected.p_value)
    assert (verdict["low"], verdict["high"]) == (expected.low, expected.high)
    assert (verdict["from_seeds"], verdict["from_pictures"]) == (None, None)
    error = cross.record["policies"][0]["metrics"]["error"]
    means = [each.mean() for each in values["none"]]
    shared = 1797 / 3 / train
    assert error["high"] - error["mean"] == pytest.approx(
        4.3027 * np.std(means, ddof=1) * (1 / 3 + shared) ** 0.5, 1e-4
    )


def test_folds_are_told_as_folds(cross):
    text = " ".join(str(cross).split())
    assert "3 folds, each of some" in text
    assert "Look 1 at these 1,797 test pictures." in text
    assert "in 3 folds of 1,797 pictures" in cross.record["verdict"]
    assert "--folds 3 --seeds 1" in cross.record["command"]
    assert "--folds 3" in cross.recommendation["command"]  # to train longer


def test_another_repetition_keeps_the_folds_there_are(cross, tmp_path, study_of):
    shutil.copytree(cross.folder, tmp_path / "s")
    more = study_of(tmp_path / "s", "none", "fc=0.97", folds=3, seeds=2)
    assert more.record["trained"] == 6
    assert more.record["folds"] == {"k": 3, "repetitions": 2}
    assert "Look 2 at these 1,797 test pictures" in more.record["verdict"]
    runs = [read_run(more.folder / run["folder"]) for run in more.record["runs"] if run["policy"] == "none"]
    assert [run.config.split_seed for run in runs] == [0, 0, 0, 1, 1, 1]
    parts = [read_json(run.folder / "split.json")["test"] for run in runs]
    assert sorted(parts[3]) != sorted(parts[0])
    with pytest.raises(DropkitError, match="was begun with 2 repetitions"):
        study_of(tmp_path / "s", "none", "fc=0.97", folds=3, seeds=1)


def test_a_recommended_policy_is_trained_on_the_usual_split(cross, configs):
    command = analysis._next_command(plan_groups(cross)["none"], Question(configs("none", "fc=0.97"), folds=3))
    assert "--fold" not in command
    assert "--split-seed" not in command


def plan_groups(study):
    groups = {}
    for run in study.record["runs"]:
        groups.setdefault(run["policy"], []).append(read_run(study.folder / run["folder"]))
    return groups


def test_runs_that_were_tested_on_other_pictures_are_not_compared(cross, configs):
    groups = plan_groups(cross)
    groups["none"] = groups["none"][1:] + groups["none"][:1]
    with pytest.raises(DropkitError, match="saw different data"):
        analysis.analyse(Question(configs("none", "fc=0.97"), folds=3), groups, command="", trained=0)


def test_folds_cost_their_number_in_a_budget(tmp_path, monkeypatch, configs):
    monkeypatch.setattr(module, "estimate", lambda *args: Estimate(seconds=4.0, epochs=1))
    two = configs("none", "fc=0.5", epochs=1, fold=None)
    plan = module.Plan(Question(two, folds=3), tmp_path / "s", LocalProcesses(1, 1))
    data = load_data(two[0])
    plan.refuse_other_pictures(data[0])
    plan.settle_seeds(None, "50s", data, progress=False)
    assert plan.count == 2  # 3 folds of 2 policies of 4 s
