"""One process at a time works in a folder, whatever ends it."""

import os
import signal
import subprocess
import sys

import pytest

import dropkit
from dropkit import cli
from dropkit.errors import DropkitError
from dropkit.runs.occupied import LOCK, occupied

HOLD = """
import sys, time
from pathlib import Path
from dropkit.runs.occupied import occupied
with occupied(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def holder(tmp_path):
    """Start a process that holds the folder for a time; it is there when this returns."""
    started = []

    def hold(seconds):
        child = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path), str(seconds)], stdout=subprocess.PIPE, text=True
        )
        started.append(child)
        assert child.stdout.readline() == "held\n"
        return child

    yield hold
    for child in started:
        child.kill()
        child.wait()
        child.stdout.close()


def test_the_second_is_refused_and_told_by_whom(tmp_path, holder):
    child = holder(60)
    message = f"another dropkit \\(process {child.pid} on .+\\) is at work in"
    with pytest.raises(DropkitError, match=message), occupied(tmp_path):
        pytest.fail("both are in")


def test_a_killed_process_leaves_it(tmp_path, holder):
    child = holder(60)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert (tmp_path / LOCK).is_file()
    with occupied(tmp_path):
        pass
    assert not (tmp_path / LOCK).exists()


def test_whoever_has_patience_waits(tmp_path, holder):
    holder(0.5)
    with occupied(tmp_path, patience=60.0):
        pass


def test_within_one_process_it_nests_and_ends_with_the_outer_block(tmp_path, holder):
    with occupied(tmp_path):
        with occupied(tmp_path):
            pass
        assert (tmp_path / LOCK).is_file()
    holder(0)


def test_an_error_lets_go(tmp_path):
    with pytest.raises(ValueError, match="inside"), occupied(tmp_path):
        raise ValueError("inside")
    assert list(tmp_path.iterdir()) == []


def test_a_second_training_writes_nothing(tmp_path, holder, short, capsys):
    child = holder(60)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DropkitError, match=str(child.pid)):
        dropkit.train(short(out=str(tmp_path)), progress=False)
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train", "digits", "--model", "mlp", "--epochs", "1", "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert "is at work in" in capsys.readouterr().err


def test_a_second_study_is_refused(tmp_path, holder, short):
    holder(60)
    configs = [short(out=None, dropout=dropout, epochs=1, max_train=50) for dropout in ("none", "fc=0.5")]
    with pytest.raises(DropkitError, match="is at work in"):
        dropkit.compare(configs, seeds=3, workers=1, out=tmp_path, progress=False)
    assert not (tmp_path / "runs").exists()


def test_a_training_that_another_process_has_just_finished_is_read(tmp_path, short, monkeypatch):
    """The run was unfinished when it was looked at, and finished when the folder could be held."""
    from dropkit.runs import training

    config = short(epochs=1)
    original = training._hold

    def finished_meanwhile(folder, held, patience):
        monkeypatch.setattr(training, "_hold", original)
        training.train(config, progress=False, page=False)
        original(folder, held, patience)

    monkeypatch.setattr(training, "_hold", finished_meanwhile)
    run = training.train(config, progress=False, page=False)
    assert len(run.epochs) == 1


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_lock_that_is_a_link_is_not_written_through(tmp_path, link):
    """As in a folder that somebody sent."""
    victim = tmp_path / "victim.txt"
    victim.write_text("precious")
    folder = tmp_path / "sent"
    folder.mkdir()
    link(victim, folder / LOCK)
    with pytest.raises(DropkitError), occupied(folder):
        pytest.fail("it was taken")
    assert victim.read_text() == "precious"


def test_another_run_that_began_meanwhile_is_not_taken_for_ones_own(tmp_path, short, monkeypatch):
    from dropkit.runs import training

    original = training._hold

    def other_run_meanwhile(folder, held, patience):
        monkeypatch.setattr(training, "_hold", original)
        training.train(short(seed=7, epochs=1), progress=False, page=False)
        original(folder, held, patience)

    monkeypatch.setattr(training, "_hold", other_run_meanwhile)
    with pytest.raises(DropkitError, match="holds another run: seed is 7 there and 0 here"):
        training.train(short(epochs=1), progress=False, page=False)
