"""Questions: what makes two studies the same, where they are kept, which command asks them."""

import dataclasses
import shlex

import pytest

from dropkit.errors import DropkitError
from dropkit.runs.config import TrainConfig
from dropkit.runs.record import refuse_other_fields
from dropkit.studies.config import CompareConfig
from dropkit.studies.question import Question, shared_fields
from dropkit.studies.sweep import Sweep

FIRST_VERSION = {
    "data": "some/x.npz",
    "model": "cnn",
    "epochs": None,
    "patience": 10,
    "min_steps": 1000,
    "max_epochs": 200,
    "batch_size": 128,
    "optimizer": "adam",
    "lr": None,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "max_train": None,
    "split_seed": 0,
    "precision": "auto",
    "policies": ["none", "fc=0.5", "conv=0.1,fc=0.5"],
    "metric": "error",
    "first_seed": 0,
}


def ask(*, metric="error", first_seed=0, folds=None, **options):
    config = CompareConfig(data="some/x.npz", **options)
    sweep = None if config.sweep is None else Sweep.parse(config.sweep)
    return Question(config.configs(), metric, first_seed, folds, sweep)


def refuse(folder, stored, question):
    refuse_other_fields("study", folder, stored, question.identity())


def test_studies_of_the_first_version_are_found_again(tmp_path):
    assert ask().identity() == FIRST_VERSION
    assert str(ask().folder(None)) == "studies/x-cnn-3a2995"
    assert str(ask(model="mlp", lr=0.01, metric="nll", first_seed=3).folder(None)) == "studies/x-mlp-db5425"
    stored = {**FIRST_VERSION, "fingerprint": "x", "seeds": 5, "looks": [5]}
    refuse(tmp_path, stored, ask())
    refuse(tmp_path, stored, ask(stream="yes", threads=1, device="cpu"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weights": "balanced"}, "class_weights is 'none' there and 'balanced' here"),
        ({"image_size": "32"}, "image_size is None there and '32' here"),
        ({"folds": 5}, "folds is None there and 5 here"),
        ({"policies": ("none", "fc=0.5;lr=0.1")}, "policies is"),
        ({"metric": "balanced-error"}, "metric is 'error' there and 'balanced-error' here"),
        ({"lr": 0.1}, "lr is None there and 0.1 here"),
    ],
)
def test_another_question_is_refused_in_both_directions(tmp_path, options, message):
    with pytest.raises(DropkitError, match=message):
        refuse(tmp_path, FIRST_VERSION, ask(**options))
    with pytest.raises(DropkitError, match="holds another study"):
        refuse(tmp_path, ask(**options).identity(), ask())


def test_the_same_options_find_the_same_folder():
    assert ask().folder(None) == ask(threads=2).folder(None)
    assert ask().folder("here").name == "here"
    different = [
        ask(),
        ask(metric="nll"),
        ask(lr=0.1),
        ask(policies=("none", "fc=0.1")),
        ask(folds=5),
        ask(augment="flip"),
    ]
    assert len({question.folder(None) for question in different}) == len(different)


def test_a_sweep_is_the_study_of_its_policies():
    assert ask(sweep="fc=0:0.5:0.5").identity() == ask(policies=("fc=0", "fc=0.5")).identity()


def parsed(command):
    """What a command would ask, and where."""
    words = shlex.split(command)
    assert words[:3] == ["dropkit", "compare", "some/x.npz"]
    options, lists = {}, {}
    for word in words[3:]:
        if word.startswith("--"):
            name = word[2:].replace("-", "_")
            lists[name] = []
        else:
            lists[name].append(word)
    for name, given in lists.items():
        options[name] = tuple(given) if name == "policies" else given[0]
    return options


@pytest.mark.parametrize(
    "options",
    [
        {"policies": ("none", "fc=0.5;weight_decay=1e-4", "fc=0.5"), "lr": 0.01},
        {"policies": ("none;epochs=7", "fc=0.5"), "batch_size": 32, "first_seed": 3},
        {"sweep": "conv=0.1,fc=0:0.4:0.2", "folds": 5, "metric": "nll"},
    ],
)
def test_the_command_asks_the_same_question(tmp_path, options):
    question = ask(**options)
    told = parsed(question.command(4, tmp_path / "a b"))
    assert (told.pop("seeds"), told.pop("out")) == ("4", str(tmp_path / "a b"))
    again = {
        "metric": told.pop("metric"),
        "first_seed": int(told.pop("first_seed", 0)),
        "folds": int(told.pop("folds")) if "folds" in told else None,
    }
    numbers = {"lr": float, "batch_size": int}
    plain = {name: numbers.get(name, lambda v: v)(value) for name, value in told.items()}
    assert ask(**again, **plain).identity() == question.identity()
    assert ("sweep" in told) == ("sweep" in options)


def test_longer_and_slower_change_every_arm():
    question = ask(policies=("none;epochs=7", "fc=0.5;optimizer=sgd"))
    assert [(c.epochs, c.max_epochs) for c in question.with_epochs_doubled().configs] == [(14, 200), (None, 400)]
    assert [c.lr for c in question.with_lower_rates().configs] == pytest.approx([1e-4, 5e-3])
    assert "'none;lr=0.0001;epochs=7' 'fc=0.5;optimizer=sgd;lr=0.005'" in question.with_lower_rates().command(3, "x")


def test_fields_that_vary_are_not_shown_as_shared():
    shown = shared_fields(ask(policies=("none", "fc=0.5;lr=0.1"), batch_size=31).configs)
    assert (shown["lr"], shown["batch_size"]) == ("see the policies", 31)
    assert not {"dropout", "seed", "out"} & set(shown)


def test_folds_are_three_or_more_and_not_named_twice():
    with pytest.raises(DropkitError, match="folds must be a whole number of at least 3, but got 2"):
        ask(folds=2)
    configs = [TrainConfig(data="x", dropout=p, fold="1/5") for p in ("none", "fc=0.5")]
    with pytest.raises(DropkitError, match="the trainings name fold '1/5'"):
        Question(configs, folds=5)
    assert dataclasses.replace(Question(configs), metric="nll").identity()["fold"] == "1/5"
