"""Details, from predictions that are known beforehand: every figure by hand."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dropkit.files import write_json
from dropkit.runs import details as module
from dropkit.runs.details import details, run_details, shared_pictures
from dropkit.runs.training import train

IDS = tuple(f"p{i}" for i in range(7))
LABELS = (0, 0, 1, 1, 2, 2, 2)


@pytest.fixture(autouse=True)
def no_filters(monkeypatch):
    """The runs here have no network."""
    monkeypatch.setattr(module, "first_filters", lambda run: {"seed": run.config.seed})


class Shades:
    """Seven pictures of one shade each, as `Pictures` answers."""

    ids, class_names, classes, labels = IDS, ("a", "b", "c"), 3, torch.tensor(LABELS)

    def read(self, indices):
        return torch.from_numpy(np.asarray(indices)).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


@pytest.fixture
def run(tmp_path):
    """Make a run that predicted these classes, each with this probability, for these pictures."""

    def make(predicted, probability=0.8, tested=range(7), val=1.0, fold=None, seed=0, status="finished"):
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        tested = list(tested)
        write_json(folder / "split.json", {"test": [IDS[i] for i in tested]})
        p = np.full((len(tested), 3), np.nan)
        for row, (label, top) in enumerate(zip(predicted, np.broadcast_to(probability, len(tested)), strict=True)):
            p[row] = (1 - top) / 2
            p[row, label] = top
        labels = torch.tensor([LABELS[i] for i in tested])
        return SimpleNamespace(
            folder=folder,
            config=SimpleNamespace(seed=seed, fold=fold, dropout="fc=0.5"),
            summary={"val": {"loss": val}, "data": {"train": 20, "test": len(tested)}},
            diverged=status == "diverged",
            test_predictions=lambda: (torch.from_numpy(np.log(p)), labels),
        )

    return make


RIGHT = list(LABELS)


def test_confusion_support_and_recall_count_every_run(run):
    runs = [run(RIGHT, seed=0, val=2.0), run([0, 1, 1, 1, 2, 0, 0], seed=1)]
    found = details({"none": runs}, Shades(), policy="none", against=None)
    (policy,) = found["policies"]
    assert (policy["name"], policy["runs"], policy["n"], policy["support"]) == ("none", 2, 14, [2, 2, 3])
    assert policy["confusion"] == [[3, 1, 0], [0, 4, 0], [2, 0, 4]]
    assert [r["mean"] for r in policy["recall"]] == pytest.approx([0.75, 1.0, 2 / 3])
    assert policy["recall"][1] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert policy["recall"][0]["low"] == 0.0  # the t-interval of 1 and 1/2 goes beyond both ends
    assert policy["recall"][0]["high"] == 1.0
    assert policy["filters"] == {"seed": 1}  # of the lowest validation loss
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_calibration_is_counted_in_tenths(run):
    top = [0.95, 0.95, 0.9, 0.55, 0.55, 0.55, 0.55]
    found = details({"none": [run([0, 1, 1, 1, 2, 0, 0], top)]}, Shades(), policy="none", against=None)
    calibration = found["policies"][0]["calibration"]
    assert calibration["edges"] == pytest.approx([i / 10 for i in range(11)])
    assert calibration["count"] == [0, 0, 0, 0, 0, 4, 0, 0, 1, 2]  # 0.9 is the upper end of its bin
    assert calibration["accuracy"][5] == 0.5
    assert calibration["accuracy"][9] == 0.5
    assert calibration["confidence"][9] == pytest.approx(0.95)
    assert calibration["confidence"][0] is None
    assert calibration["ece"] == pytest.approx((4 * 0.05 + 1 * 0.1 + 2 * 0.45) / 7)


def test_mistakes_are_the_most_confident_first(run):
    found = details(
        {"none": [run([1, 1, 1, 1, 0, 2, 2], [0.6, 0.9, 0.8, 0.8, 0.7, 0.9, 0.9])]},
        Shades(),
        policy="none",
        against=None,
    )["pictures"]
    shown = [(m["id"], m["true"], m["predicted"], round(m["confidence"], 3)) for m in found["mistakes"]]
    assert shown == [("p1", 0, 1, 0.9), ("p4", 2, 0, 0.7), ("p0", 0, 1, 0.6)]
    assert found["counts"] == {"mistakes": 3, "fixed": 0, "broken": 0}
    assert (found["fixed"], found["broken"], found["against"], found["n"]) == ([], [], None, 7)


def test_changed_answers_are_those_of_the_mean_probabilities(run):
    none = [run([0, 1, 1, 1, 2, 0, 0], [0.8, 0.9, 0.8, 0.8, 0.8, 0.6, 0.9])]
    # Picture 6 is wrong in one of two runs, but right in the mean; picture 0 becomes wrong.
    half = [run([1, 0, 1, 1, 2, 0, 2], 0.9), run([1, 0, 1, 1, 2, 0, 0], [0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.5])]
    found = details({"none": none, "fc=0.5": half}, Shades(), policy="fc=0.5", against="none")["pictures"]
    assert [f["id"] for f in found["fixed"]] == ["p1", "p6"]
    assert found["fixed"][0]["before"] == pytest.approx({"predicted": 1, "confidence": 0.9})
    assert found["fixed"][0]["after"] == pytest.approx({"predicted": 0, "confidence": 0.9})
    assert [b["id"] for b in found["broken"]] == ["p0"]
    assert [m["id"] for m in found["mistakes"]] == ["p0", "p5"]
    assert found["counts"] == {"mistakes": 2, "fixed": 2, "broken": 1}
    assert (found["policy"], found["against"], found["runs"]) == ("fc=0.5", "none", 2)


def test_folds_are_put_together_again(run):
    def folds(*predicted):
        parts = ((0, 2, 4), (1, 3), (5, 6))
        return [
            run([answer[i] for i in part], tested=part, fold=f"{k}/3")
            for answer in predicted
            for k, part in enumerate(parts, 1)
        ]

    none, half = folds(RIGHT, RIGHT), folds([0, 1, 1, 1, 2, 2, 2], [0, 1, 1, 1, 2, 2, 2])
    found = details({"none": none, "fc=0.5": half}, Shades(), policy="fc=0.5", against="none")
    policy = found["policies"][1]
    assert (policy["runs"], policy["n"], policy["support"]) == (6, 14, [2, 2, 3])
    assert policy["confusion"] == [[2, 2, 0], [0, 4, 0], [0, 0, 6]]
    assert policy["recall"][0]["mean"] == 0.5  # of the folds that have a picture of the class: 1, 0, 1, 0
    assert [b["id"] for b in found["pictures"]["broken"]] == ["p1"]
    assert found["pictures"]["n"] == 7
    assert shared_pictures(half) == pytest.approx(7 / 60)
    assert shared_pictures([run(RIGHT)]) == 0.0


def test_runs_that_diverged_are_left_out(run):
    lost = run([1] * 7, status="diverged")
    found = details({"none": [lost, run(RIGHT)], "fc=0.5": [lost]}, Shades(), policy="none", against=None)
    assert [(p["name"], p["runs"], p["n"]) for p in found["policies"]] == [("none", 1, 7)]
    assert found["policies"][0]["recall"][0] == {"mean": 1.0, "low": None, "high": None}
    assert details({"none": [lost]}, Shades(), policy="none", against=None)["pictures"] is None


def test_only_a_dozen_pictures_are_kept_and_all_are_counted(run, monkeypatch):
    monkeypatch.setattr(module, "MOST_PICTURES", 2)
    found = details({"none": [run([1, 1, 0, 0, 2, 2, 2])]}, Shades(), policy="none", against=None)["pictures"]
    assert (len(found["mistakes"]), found["counts"]["mistakes"]) == (2, 4)


def test_the_matrix_of_very_many_classes_is_not_kept(run, monkeypatch):
    monkeypatch.setattr(module, "MOST_CONFUSED", 2)
    found = details({"none": [run(RIGHT)]}, Shades(), policy="none", against=None)
    assert found["policies"][0]["confusion"] is None


def test_a_real_run_has_details_that_agree_with_its_summary(short):
    from dropkit.data.pictures import load

    run = train(short(model="cnn", epochs=1), progress=False, page=False)
    found = run_details(run, load("digits"))
    (policy,) = found["policies"]
    confusion = np.array(policy["confusion"])
    assert 1 - np.trace(confusion) / confusion.sum() == pytest.approx(run.summary["test"]["error"])
    assert found["pictures"]["counts"]["mistakes"] == confusion.sum() - np.trace(confusion)
    assert [r["mean"] for r in policy["recall"]] == pytest.approx(run.summary["test"]["recall"])
