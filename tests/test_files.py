"""Files are whole or not there."""

import json
import os
import subprocess
import sys

import pytest

from dropkit import files
from dropkit.errors import DropkitError
from dropkit.files import append_line, make_folder, read_json, write_atomic, write_json


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
    with pytest.raises(DropkitError, match="cannot write .+a.json': no space left on device. Make room; what was"):
        write_atomic(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_what_the_system_refuses_for_another_reason(tmp_path):
    with pytest.raises(DropkitError, match="cannot write .+: no such file or directory. Make it writable, or give"):
        write_atomic(tmp_path / "gone" / "a.json", b"")


def test_a_line_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    append_line(path, "one")

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", fail)
        with pytest.raises(DropkitError, match="no space left"):
            append_line(path, "two")
    assert path.read_text() == "one\n"
    append_line(path, "three")
    assert path.read_text() == "one\nthree\n"


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


def test_what_a_killed_process_left_of_a_file_is_removed_with_the_next(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for name in (
        f".a.json.{ended.pid}.part",
        f".b.json.{ended.pid}.part",
        f".a.json.{os.getppid()}.part",
        ".a.json.x.part",
    ):
        (tmp_path / name).write_bytes(b"half")
    write_atomic(tmp_path / "a.json", b"whole")
    kept = [f".b.json.{ended.pid}.part", f".a.json.{os.getppid()}.part", ".a.json.x.part", "a.json"]
    assert sorted(os.listdir(tmp_path)) == sorted(kept)
