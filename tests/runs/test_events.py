"""TensorBoard's event files: every epoch's figures, once, also over a resumed run; a missing extra is named."""

import sys

import pytest

from dropkit.errors import DropkitError
from dropkit.runs.events import event_files
from dropkit.runs.training import train


def scalars(folder, tag):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the extra tensorboard is not installed"
    )
    events = accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {event.step: event.value for event in events.Scalars(tag)}


def test_a_runs_epochs_are_written(short):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    run = train(short(tensorboard=True), progress=False, page=False)
    expected = {row["epoch"]: pytest.approx(row["val_loss"], rel=1e-6) for row in run.epochs}
    assert scalars(run.folder, "loss/validation") == expected
    assert scalars(run.folder, "gap")[1] == pytest.approx(run.epochs[0]["val_loss"] - run.epochs[0]["train_loss"])


def test_what_a_killed_run_wrote_ahead_is_hidden(tmp_path):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    row = {"train_loss": 1.0, "train_error": 0.5, "val_loss": 2.0, "val_error": 0.5, "images_per_second": 9.0}
    for epochs, value in ((0, 1.0), (2, 3.0)):
        with event_files(tmp_path, wanted=True, epochs=epochs) as write:
            for epoch in range(epochs + 1, 5):
                write({**row, "train_loss": value, "epoch": epoch})
    assert scalars(tmp_path, "loss/train") == {1: 1.0, 2: 1.0, 3: 3.0, 4: 3.0}


def test_nothing_is_written_unasked(tmp_path):
    with event_files(tmp_path, wanted=False, epochs=0) as write:
        write({})
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_named_before_anything_is_written(short, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    config = short(tensorboard=True)
    with pytest.raises(DropkitError, match=r"pip install 'dropkit\[tensorboard\]'"):
        train(config, progress=False)
    assert not config.folder().exists()
