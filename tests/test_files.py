"""Files are whole or not there."""

import json
import os

import pytest

from dropkit import files
from dropkit.errors import DropkitError
from dropkit.files import make_folder, read_json, write_atomic, write_json


def test_a_write_replaces_the_whole_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"long": "x" * 1000})
    write_json(path, {"short": 1})
    assert json.loads(path.read_text()) == {"short": 1}
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, broken):
    path = tmp_path / "a.json"
    write_atomic(path, b"old")

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((files.os, "fsync", fail) if broken == "fsync" else (files.Path, "replace", fail)))
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_nan_is_refused_rather_than_written_as_json_that_no_other_program_reads(tmp_path):
    with pytest.raises(ValueError, match="Out of range float values"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert os.listdir(tmp_path) == []


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text('{"status": "fini')
    with pytest.raises(DropkitError, match="summary.json is damaged"):
        read_json(path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DropkitError, match="cannot use the folder .*file/below.*--out"):
        make_folder(tmp_path / "file" / "below")
