"""How a study prints: which columns, which looks."""

import copy

import pytest

from dropkit.studies.study import Study, describe_looks


def figure(mean, half, unit="fraction"):
    return {"mean": mean, "low": mean - half, "high": mean + half, "unit": unit}


RECORD = {
    "data": {"name": "pets", "train": 701, "val": 149, "test": 151},
    "seeds": [0, 1, 2],
    "metric": "error",
    "imbalance": 1.2,
    "look": "Look 1 at these 151 test pictures.",
    "policies": [
        {
            "name": name,
            "n": 3,
            "verdict": {"sentence": f"{name} is judged."},
            "metrics": {
                "error": figure(0.1612, 0.0123),
                "balanced_error": figure(0.3034, 0.0456),
                "nll": figure(0.51, 0.02),
                "ece": figure(0.03, 0.01),
                "gap": {"mean": None, "low": None, "high": None},
            },
        }
        for name in ("none", "fc=0.5")
    ],
    "recommendation": {"policy": "none", "sentence": "Keep none.", "command": "dropkit train pets"},
}


def printed(tmp_path, **changes):
    return str(Study(tmp_path, {**copy.deepcopy(RECORD), **changes}))


def test_the_text_has_title_table_verdicts_looks_and_the_next_command(tmp_path):
    assert printed(tmp_path).splitlines() == [
        "pets: 701 training, 149 validation, 151 test pictures; mean of 3 seeds with its 95% interval",
        "policy  n         error           NLL           ECE  gap",
        "none    3  16.12% ±1.23  0.510 ±0.020  0.030 ±0.010    -",
        "fc=0.5  3  16.12% ±1.23  0.510 ±0.020  0.030 ±0.010    -",
        "",
        "fc=0.5 is judged.",
        "",
        "Look 1 at these 151 test pictures.",
        "Keep none.",
        "Next: dropkit train pets",
    ]


@pytest.mark.parametrize(
    ("changes", "shown"),
    [({}, False), ({"imbalance": 1.5}, True), ({"imbalance": None}, False), ({"metric": "balanced-error"}, True)],
)
def test_the_balanced_error_is_shown_where_classes_differ_or_it_decides(tmp_path, changes, shown):
    text = printed(tmp_path, **changes)
    assert ("balanced" in text.splitlines()[1]) is shown
    assert ("30.34% ±4.56" in text) is shown


def test_folds_and_sweeps_are_told(tmp_path):
    folds = {"k": 5, "repetitions": 2}
    text = printed(tmp_path, folds=folds, sweep={"sentence": "Lowest at rate 0.4."})
    assert text.startswith("pets: 2 repetitions of 5 folds, each of some 701 training")
    assert "Lowest at rate 0.4.\n" in text


def test_later_looks_warn():
    assert describe_looks([4], 1001) == "Look 1 at these 1,001 test pictures."
    assert describe_looks([1, 2, 2], 7, "repetition") == (
        "Look 3 at these 7 test pictures. "
        "Looked at with 1, then 2, then 2 repetitions: each further look makes a false positive likelier than 5%."
    )


def test_an_interval_that_was_cut_is_written_with_both_ends(tmp_path):
    policies = copy.deepcopy(RECORD["policies"])
    policies[0]["metrics"]["error"] = {"mean": 0.9167, "low": 0.7374, "high": 1.0}
    assert "91.67% (73.74 to 100.00)" in printed(tmp_path, policies=policies)


def test_looks_without_a_verdict_cannot_mislead():
    assert describe_looks([4, 4], 1001, judged=False) == "Look 2 at these 1,001 test pictures."


SEARCH = {
    "sentence": "Of 4 policies tried on validation loss, fc=0.45 was best.",
    "trials": [{"number": number} for number in range(4)],
    "spent": {"trainings": 5, "epochs": 1499, "seconds": 184.2},
    "whole": {"epochs": 3200, "seconds": 440.0},
    "saved": 0.58,
    "importance": [
        {"name": "fc rate", "share": 0.551, "low": 0.302, "high": 0.794},
        {"name": "[conv] kind", "share": 0.07, "low": 0.01, "high": 0.18},
    ],
    "use": {"policy": "fc=[0.45]", "why": "shown to help"},
    "train": "dropkit train pets --dropout fc=0.45",
    "python": "import dropkit, torch\nmodel = ...  # your network",
}


def test_a_search_is_told_before_the_recommendation_and_how_to_use_it_after(tmp_path):
    lines = printed(tmp_path, search=SEARCH).splitlines()
    assert lines[lines.index("Look 1 at these 151 test pictures.") + 1 :] == [
        "Of 4 policies tried on validation loss, fc=0.45 was best.",
        "1,499 epochs in 3 min 4 s of training, where 4 whole trainings would have taken 3,200 epochs in 7 min 20 s: "
        "58% saved.",
        "What makes the validation loss vary, with 95% intervals: fc rate 55% (30 to 79%), [conv] kind 7% (1 to 18%).",
        "Keep none.",
        "Next: dropkit train pets",
        "To train with fc=[0.45] (shown to help):",
        "dropkit train pets --dropout fc=0.45",
        "In Python:",
        "import dropkit, torch",
        "model = ...  # your network",
    ]


def test_a_search_that_learned_and_saved_nothing_claims_nothing(tmp_path):
    text = printed(tmp_path, search={**SEARCH, "importance": [], "saved": -0.1})
    assert "in 7 min 20 s: nothing saved. Keep none." in " ".join(text.split())
