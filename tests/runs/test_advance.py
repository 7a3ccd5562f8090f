"""A training that pauses after an epoch, and goes on."""

import dataclasses

import pytest

from dropkit.data.pictures import load
from dropkit.runs.record import RunFolder
from dropkit.runs.run import read_run
from dropkit.runs.training import advance, split_data, train


@pytest.fixture
def data(short):
    pictures = load("digits")
    return pictures, split_data(short(), pictures)


def test_a_paused_training_ends_with_the_bits_of_one_that_never_paused(short, data, tmp_path, capfd):
    config = short(epochs=5)
    folder = RunFolder(config.folder())
    assert not advance(config, data, until=2)
    assert [row["epoch"] for row in folder.read_metrics()] == [1, 2]
    assert folder.checkpoint.is_file()
    assert not advance(config, data, until=1)  # it is further already
    assert not advance(config, data, until=4)
    assert advance(config, data)
    whole = train(dataclasses.replace(config, out=str(tmp_path / "whole")), progress=False, page=False)
    assert folder.model.read_bytes() == (whole.folder / "model.safetensors").read_bytes()
    assert [row["val_loss"] for row in read_run(folder.path).epochs] == [row["val_loss"] for row in whole.epochs]
    assert "going on" not in capfd.readouterr().err  # that is the caller's to say


def test_the_last_epoch_ends_the_run_also_where_a_pause_was_asked_for(short, data):
    config = short(epochs=2)
    assert advance(config, data, until=2)
    assert RunFolder(config.folder()).finished
    assert advance(config, data, until=1)


def test_a_training_that_diverges_before_the_pause_has_ended(short, data):
    config = short(epochs=5, lr=1e30, optimizer="sgd", batch_size=64)
    assert advance(config, data, until=4)
    assert read_run(config.folder()).diverged
