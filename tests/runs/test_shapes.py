"""Records that were cut or edited are told from whole ones, with the part that is wrong."""

import json

import pytest

import dropkit
from dropkit.errors import DropkitError
from dropkit.runs.run import read_run
from dropkit.runs.shapes import EPOCH, NUMBER, SUMMARY, misfit, shown_as_damage


@pytest.mark.parametrize(
    ("value", "shape", "wrong"),
    [
        (3, int, None),
        (True, int, "it is True"),  # which Python takes for a number
        (None, (int, None), None),
        ("done", ("finished", "diverged"), "it is 'done'"),
        ([1, 2.5], [NUMBER], None),
        ({}, [int], "it is {}"),
        ([1], {"a": int}, "it is [1]"),
        ({"a": {"b": [1, "x"]}}, {"a": {"b": [int]}}, "b[1] is 'x'"),
        ({"a": None}, {"a": ({"b": int}, None)}, None),
        ({"a": {}}, {"a": ({"b": int}, None)}, "a is {}"),
        ({"a": 1, "more": "x"}, {"a": int}, None),  # a later version may know more
    ],
)
def test_what_fits(value, shape, wrong):
    assert misfit(value, shape) == wrong


def test_what_dropkit_writes_fits(short):
    finished, diverged = (
        dropkit.train(short(lr=lr, out=short().out + str(lr)), progress=False) for lr in (0.001, 1e30)
    )
    assert (finished.summary["status"], diverged.summary["status"]) == ("finished", "diverged")
    for run in (finished, diverged):
        assert misfit(run.summary, SUMMARY) is None
        assert misfit(run.epochs, [EPOCH]) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda summary: summary.pop("status"), "status is missing"),
        (lambda summary: summary["data"].update(shape=[1, 8]), r"shape is \[1, 8\]"),
        (lambda summary: summary["data"].update(class_names=["a"]), "10 classes have 1 names"),
        (lambda summary: summary.update(test=None), "it is finished and has no figures"),
        (lambda summary: summary["test"].update(error="none"), "test is {'error': 'none'"),
    ],
)
def test_a_summary_that_was_edited_is_named(short, change, words):
    run = dropkit.train(short(epochs=1), progress=False)
    path = run.folder / "summary.json"
    summary = json.loads(path.read_text())
    change(summary)
    path.write_text(json.dumps(summary))
    with pytest.raises(DropkitError, match=f"summary.json is damaged .{words}"):
        read_run(run.folder)


def test_a_config_that_was_edited_is_named(short):
    run = dropkit.train(short(epochs=1), progress=False)
    path = run.folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "epochs": -3}))
    with pytest.raises(DropkitError, match=r"config.json is damaged \(epochs must be a whole number"):
        read_run(run.folder)
    path.write_text("[]")
    with pytest.raises(DropkitError, match=r"config.json is damaged \(it is \[\]\)"):
        read_run(run.folder)


def test_what_cannot_be_shown_keeps_its_cause(tmp_path):
    message = r"cannot be shown \(KeyError: 'a'\): they are damaged, or"
    with pytest.raises(DropkitError, match=message) as caught, shown_as_damage(tmp_path):
        {}["a"]
    assert isinstance(caught.value.__cause__, KeyError)
