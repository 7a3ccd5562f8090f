"""A run's folder: a crash in the middle of a line, and configs that differ."""

import dataclasses

import pytest

from dropkit.errors import DropkitError
from dropkit.runs.config import TrainConfig
from dropkit.runs.record import RunFolder, refuse_other_fields


def test_a_line_that_a_crash_cut_off_is_left_out(tmp_path):
    folder = RunFolder(tmp_path)
    for epoch in (1, 2, 3):
        folder.append_metrics({"epoch": epoch})
    with folder.metrics.open("a") as file:
        file.write('{"epoch": 4, "val_lo')
    assert [row["epoch"] for row in folder.read_metrics()] == [1, 2, 3]
    assert folder.keep_metrics(2) == [{"epoch": 1}, {"epoch": 2}]
    folder.append_metrics({"epoch": 3})
    assert [row["epoch"] for row in folder.read_metrics()] == [1, 2, 3]


def test_no_metrics_yet(tmp_path):
    assert RunFolder(tmp_path).read_metrics() == []
    assert RunFolder(tmp_path).keep_metrics(0) == []


def test_every_field_that_differs_is_named(tmp_path):
    refuse_other_fields("run", tmp_path, {"a": 1, "b": [1, 2], "data": "x"}, {"a": 1, "b": (1, 2), "data": "y"})
    with pytest.raises(DropkitError, match="holds another run: a is 1 there and 2 here; b is None there and 'x' here"):
        refuse_other_fields("run", tmp_path, {"a": 1}, {"a": 2, "b": "x"})


def test_a_folder_that_a_crash_left_half_begun_is_begun_again(tmp_path, short):
    folder = RunFolder(tmp_path)
    folder.split.write_text("{}")
    (tmp_path / ".config.json.x1.part").write_text("{")
    folder.require_same(short())
    folder.begin(short(), {}, {"train": []})
    assert folder.begun


def test_a_file_where_the_folder_should_be(tmp_path, short):
    (tmp_path / "run").write_text("")
    with pytest.raises(DropkitError, match="is a file: give a folder"):
        RunFolder(tmp_path / "run").require_same(short())


def test_a_field_of_a_later_version_has_its_default_in_an_older_record(tmp_path):
    config = TrainConfig(data="digits")
    older = {
        name: value for name, value in dataclasses.asdict(config).items() if name not in ("augment", "fold", "group")
    }
    refuse_other_fields("run", tmp_path, older, config.identity())
    with pytest.raises(DropkitError, match="augment is None there and 'flip' here"):
        refuse_other_fields("run", tmp_path, older, TrainConfig(data="digits", augment="flip").identity())
    newer = {**older, "augment": "flip"}
    with pytest.raises(DropkitError, match="augment is 'flip' there and None here"):
        refuse_other_fields("run", tmp_path, newer, config.identity())


def test_the_first_versions_folder_is_found_again():
    assert str(TrainConfig(data="digits").folder()) == "runs/digits-cnn-fc=0.5-seed0-3959ab"
    assert TrainConfig(data="digits", augment="flip").folder() != TrainConfig(data="digits").folder()
