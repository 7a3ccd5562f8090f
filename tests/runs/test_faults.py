"""What machines do to a training: full and read-only disks, data that change, clocks that go back, losses of NaN.

Each ends in a clear message; the records are intact, and the training goes on to the weights it would have had.
"""

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

import dropkit
from dropkit.errors import DropkitError
from dropkit.runs import training
from dropkit.runs.fitting import Fit
from dropkit.runs.record import RunFolder
from dropkit.runs.training import train


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system in memory of so many bytes; skipped where that is not allowed."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size, options=""):
        if shutil.which("mount") is None:
            pytest.skip("there is no mount command")
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "tmpfs", place], capture_output=True, text=True
        )
        if made.returncode:
            pytest.skip(f"a file system cannot be mounted here: {made.stderr.strip()}")
        return place

    yield mount
    if os.path.ismount(place):
        subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def whole(short, tmp_path):
    """The weights of the same training, undisturbed."""

    def weights(**config):
        return (
            train(short(**config, out=str(tmp_path / "whole")), progress=False).folder / "model.safetensors"
        ).read_bytes()

    return weights


def weights_of(run):
    return (run.folder / "model.safetensors").read_bytes()


def test_a_disk_that_is_full_keeps_what_was_done(short, small_disk, whole):
    """A checkpoint of mlp takes about 5 MB: one fits, and the second does not."""
    config = {"epochs": 3, "max_train": 100, "dropout": "fc=0.5"}
    place = small_disk("7m")
    with pytest.raises(
        DropkitError, match="no space left on device. Make room; what was finished is kept, and the same"
    ):
        train(short(**config, out=str(place / "run")), progress=False)
    folder = RunFolder(place / "run")
    assert folder.resumable
    assert len(folder.read_metrics()) >= 1
    assert not [name for name in os.listdir(place / "run") if name.endswith(".part")]
    subprocess.run(["mount", "-o", "remount,size=200m", place], check=True)
    assert weights_of(train(short(**config, out=str(place / "run")), progress=False)) == whole(**config)


def test_a_disk_that_is_full_from_the_start_is_said(small_disk, tmp_path):
    place = small_disk("16k")
    (place / "filler").write_bytes(b"x" * 8192)
    words = ["train", "digits", "--model", "mlp", "--epochs", "1", "--out", str(place / "run")]
    ended = subprocess.run([sys.executable, "-m", "dropkit", *words], capture_output=True, text=True)
    assert ended.returncode == 2
    assert "no space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_read_only_folder_is_refused_before_anything_is_done(short, small_disk):
    place = small_disk("1m", ",ro")
    with pytest.raises(
        DropkitError, match="run': read-only file system. Give another one with --out|Read-only file system"
    ):
        train(short(out=str(place / "run")), progress=False)


@pytest.fixture
def arrays(tmp_path):
    """Write an .npz file of digits, of which some can be changed."""
    digits = training.load_data(dropkit.TrainConfig(data="digits"))[0]
    images = digits.read(np.arange(300)).squeeze(1).numpy().astype(np.uint8)
    path = tmp_path / "digits.npz"

    def write(first=0):
        changed = images.copy()
        changed[0, 0, 0] = first
        np.savez(path, train_images=changed, train_labels=digits.labels[:300].numpy())
        return path

    return write


def test_data_that_change_in_mid_run_are_seen_when_it_goes_on(short, arrays, monkeypatch):
    path = arrays()
    config = short(data=str(path), epochs=3)
    training.advance(config, training.load_data(config), until=1)
    arrays(first=200)
    with pytest.raises(DropkitError, match="saw other pictures than .+ holds now: restore them, or give a new folder"):
        train(config, progress=False)
    arrays()
    assert train(config, progress=False).summary["epochs"] == 3


def test_data_that_vanish_in_mid_run_do_no_harm_and_are_named_when_it_goes_on(short, arrays):
    path = arrays()
    config = short(data=str(path), epochs=3)
    training.advance(config, training.load_data(config), until=1)
    path.unlink()
    with pytest.raises(DropkitError, match="digits.npz"):
        train(config, progress=False)
    assert RunFolder(training.Path(config.out)).resumable
    arrays()
    assert train(config, progress=False).summary["epochs"] == 3


def test_a_clock_that_goes_back_changes_nothing(short, whole, monkeypatch):
    """Times of day may jump; what is measured comes from a clock that does not."""
    config = {"epochs": 2, "max_train": 100}
    expected = whole(**config)
    now = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    run = train(short(**config), progress=False)
    assert weights_of(run) == expected
    assert run.summary["seconds"] >= 0
    assert all(row["seconds"] >= 0 for row in run.epochs)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pictures_with_numbers_that_are_none_are_refused(short, tmp_path, bad):
    images = np.zeros((30, 7, 7), np.float32)
    images[3, 2, 1] = bad
    np.savez(tmp_path / "bad.npz", train_images=images, train_labels=np.arange(30) % 3)
    with pytest.raises(DropkitError, match="train_images"):
        train(short(data=str(tmp_path / "bad.npz")), progress=False)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_is_recorded_and_can_be_tried_with_a_lower_rate(short, tmp_path):
    run = train(short(lr=1e30, epochs=3, max_train=200), progress=False)
    assert run.summary["status"] == "diverged"
    assert "not finite at step" in run.summary["reason"]
    assert train(short(lr=1e30, epochs=3, max_train=200), progress=False).repeated
    assert train(short(epochs=1, out=str(tmp_path / "lower")), progress=False).summary["status"] == "finished"


def test_a_step_that_fails_leaves_a_run_that_goes_on(short, whole, monkeypatch):
    config = {"epochs": 3, "max_train": 100}
    count = 0
    original = Fit.train_step

    def fail(*args, **kwargs):
        nonlocal count
        count += 1
        if count == 2:
            raise RuntimeError("a loose cable")
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "train_step", fail)
        with pytest.raises(RuntimeError, match="a loose cable"):
            train(short(**config), progress=False)
    assert weights_of(train(short(**config), progress=False)) == whole(**config)
