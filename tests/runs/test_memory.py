"""Batches that fit into the memory are found; where none is left, the message says what to try."""

import pytest
import torch

import dropkit
from dropkit.errors import DropkitError
from dropkit.runs import memory, training
from dropkit.runs.allocation import ran_out
from dropkit.runs.config import TrainConfig
from dropkit.runs.fitting import Fit
from dropkit.runs.memory import sized
from dropkit.runs.run import read_run, train_command

CANNOT = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"


@pytest.fixture
def digits(short):
    return training.load_data(short())


@pytest.fixture
def available(monkeypatch):
    """Say how much memory there is."""

    def set_to(count):
        monkeypatch.setattr(memory, "available_memory", lambda: count)

    return set_to


@pytest.mark.parametrize("error", [RuntimeError(CANNOT), MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
@pytest.mark.parametrize(("size", "advice"), [(96, "--batch-size 48, or auto"), (1, "a smaller --model")])
def test_what_runs_out_of_memory_says_what_to_try(short, monkeypatch, tmp_path, error, size, advice):
    def fail(*_, **__):
        raise error

    assert ran_out(error)
    with monkeypatch.context() as patch:
        patch.setattr(Fit, "train_step", fail)
        with pytest.raises(DropkitError, match=advice):
            dropkit.train(short(batch_size=size, max_train=60), progress=False)
    smaller = short(batch_size=max(size // 2, 2), max_train=60, out=str(tmp_path / "smaller"))
    assert dropkit.train(smaller, progress=False).summary["status"] == "finished"


def test_other_errors_are_not_called_by_that_name(short, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Fit, "train_step", fail)
    with pytest.raises(RuntimeError, match="mat1"):
        dropkit.train(short(), progress=False)


def test_auto_is_128_where_that_fits(short, digits):
    found = sized(short(batch_size="auto", model="cnn"), lambda config: Fit(config, *digits))
    assert found.batch_size == 128
    assert sized(short(batch_size=7), None).batch_size == 7  # nothing is tried


def test_auto_is_the_largest_half_that_fits(short, digits, available):
    """The bound is what two pictures save for backward; ten times the memory holds ten times the pictures."""
    config = short(batch_size="auto", model="cnn")
    one = memory._bytes_a_picture(Fit(short(model="cnn"), *digits))
    assert 32 * 64 * 4 < one < 2**20  # the first convolution's maps at least
    for share, size in ((130, 128), (120, 64), (33, 32), (1.5, 1)):
        available(share * one / memory.SHARE)
        assert sized(config, lambda tried: Fit(tried, *digits)).batch_size == size


def test_where_not_even_one_picture_fits(short, digits, available):
    available(10)
    with pytest.raises(DropkitError, match="batches of one picture: take a smaller --model or --image-size"):
        sized(short(batch_size="auto"), lambda tried: Fit(tried, *digits))


def test_the_run_keeps_what_was_found_and_goes_on_with_it(short, available, tmp_path, capsys):
    one = memory._bytes_a_picture(Fit(short(), *training.load_data(short())))
    config = short(batch_size="auto", max_train=100)
    available(40 * one / memory.SHARE)
    run = dropkit.train(config, progress=True)
    assert "batches of 32 pictures fit into the memory" in capsys.readouterr().err
    assert run.config.batch_size == 32
    assert "--batch-size 32" in train_command(read_run(run.folder).config)
    available(2**40)
    again = dropkit.train(config, progress=False)
    assert (again.repeated, again.config.batch_size) == (True, 32)
    plain = dropkit.train(short(batch_size=32, max_train=100, out=str(tmp_path / "plain")), progress=False)
    assert (plain.folder / "model.safetensors").read_bytes() == (run.folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("given", [0, -1, 1.5, "x", "", None, True])
def test_what_is_no_batch_size(given):
    with pytest.raises(DropkitError, match="batch_size must be"):
        TrainConfig(data="digits", batch_size=given)


def test_a_study_takes_a_number(short):
    configs = [short(batch_size="auto", dropout=dropout) for dropout in ("none", "fc=0.5")]
    with pytest.raises(DropkitError, match="batch_size auto is for one training"):
        dropkit.compare(configs, progress=False)
    with pytest.raises(DropkitError, match="batch_size auto is for one training"):
        dropkit.tune(configs[0], progress=False)


def test_an_evaluation_goes_on_in_smaller_parts(short, digits, monkeypatch):
    fit = Fit(short(precision="float32"), *digits)
    expected, forward, sizes = fit.predict(fit.data.val), fit.model.forward, []

    def cramped(x):
        sizes.append(len(x))
        if len(x) > 20:
            raise RuntimeError(CANNOT)
        return forward(x)

    monkeypatch.setattr(fit.model, "forward", cramped)
    torch.testing.assert_close(fit.predict(fit.data.val), expected)
    assert max(sizes) > 20
    monkeypatch.setattr(fit.model, "forward", lambda x: forward(torch.empty(2**60)))
    with pytest.raises(RuntimeError):
        fit.predict(fit.data.val)
