"""The executor: every training once, in processes or in this one, with the same result."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from dropkit.data.pictures import load
from dropkit.errors import DropkitError
from dropkit.files import read_json
from dropkit.runs.record import RunFolder
from dropkit.runs.run import read_run
from dropkit.studies.executor import LocalProcesses, choose_executor

DIGITS = load("digits")


def configs(short, tmp_path, name):
    return [short(seed=seed, epochs=1, out=str(tmp_path / name / str(seed)), threads=None) for seed in range(3)]


def test_processes_and_one_process_give_the_same_bits(short, tmp_path):
    several, one = configs(short, tmp_path, "several"), configs(short, tmp_path, "one")
    done = list(LocalProcesses(workers=2, threads=1).map(several, DIGITS, tmp_path))
    assert sorted(done) == sorted(config.folder() for config in several)
    assert list(LocalProcesses(workers=1, threads=1).map(one, DIGITS, tmp_path)) == [config.folder() for config in one]
    for a, b in zip(several, one, strict=True):
        first, second = read_run(a.folder()), read_run(b.folder())
        assert first.config == dataclasses.replace(a, threads=1)
        weights = [(run.folder / "model.safetensors").read_bytes() for run in (first, second)]
        assert weights[0] == weights[1]


@pytest.mark.parametrize("workers", [1, 2])
def test_trainings_pause_after_an_epoch_and_go_on(short, tmp_path, workers):
    executor = LocalProcesses(workers=workers, threads=1)
    two = [short(seed=seed, epochs=3, out=str(tmp_path / str(seed))) for seed in (0, 1)]
    whole = [dataclasses.replace(config, out=f"{config.out}-whole") for config in two]
    assert sorted(executor.map(two, DIGITS, tmp_path, until=2)) == [config.folder() for config in two]
    for config in two:
        paused = RunFolder(config.folder())
        assert len(paused.read_metrics()) == 2
        assert not paused.finished
    for group in (two, whole):
        assert len(list(executor.map(group, DIGITS, tmp_path))) == 2
    for config, other in zip(two, whole, strict=True):
        weights = [RunFolder(each.folder()).model.read_bytes() for each in (config, other)]
        assert weights[0] == weights[1]


def test_the_cores_are_shared_out():
    cores = torch.get_num_threads()
    both = LocalProcesses(workers=2)
    assert both.threads == max(1, cores // 2)
    assert LocalProcesses(workers=1).threads == cores
    assert LocalProcesses(workers=cores, threads=3).threads == 3


def test_copies_are_those_of_the_processes_that_hold_the_pictures():
    assert [LocalProcesses(workers=workers, threads=1).copies for workers in (1, 2, 5)] == [1, 3, 6]


def test_pictures_that_change_in_mid_study_are_refused(short, tmp_path, write_pets):
    write_pets(tmp_path / "pets")
    data = str(tmp_path / "pets")
    two = [short(data=data, seed=seed, epochs=1, out=str(tmp_path / f"run{seed}")) for seed in (0, 1)]
    before = load(data)
    executor = LocalProcesses(workers=2, threads=1)
    assert len(list(executor.map(two, before, tmp_path))) == 2
    # Inside a class: the time of the top folder stays as it was.
    Image.fromarray(np.full((8, 8), 255, dtype=np.uint8)).save(tmp_path / "pets" / "cat" / "3.png")
    again = [dataclasses.replace(config, out=f"{config.out}-again") for config in two]
    after = load(data)
    assert len(list(executor.map(again, after, tmp_path))) == 2
    assert after.fingerprint in (tmp_path / "run0-again" / "split.json").read_text()
    with pytest.raises(DropkitError, match="changed while the study ran"):
        list(executor.map([dataclasses.replace(config, out=f"{config.out}-third") for config in two], before, tmp_path))


def test_every_process_reads_the_pictures_as_the_study_did(short, tmp_path, write_pets):
    """Another size and another split than the process had before: what it holds is not taken for what is asked."""
    write_pets(tmp_path / "pets")
    executor = LocalProcesses(workers=2, threads=1)
    for size in ("8", "11"):
        options = {"data": str(tmp_path / "pets"), "image_size": size, "epochs": 1, "augment": "none"}
        folds = [short(**options, fold=f"{k}/3", out=str(tmp_path / f"run{size}-{k}")) for k in (1, 2, 3)]
        list(executor.map(folds, load(options["data"], image_size=size), tmp_path))
        runs = [read_run(config.folder()) for config in folds]
        assert {tuple(run.summary["data"]["shape"]) for run in runs} == {(1, int(size), int(size))}
        tested = [name for run in runs for name in read_json(run.folder / "split.json")["test"]]
        assert sorted(tested) == sorted(load(options["data"]).ids)


def test_processes_of_this_machine_are_the_default():
    chosen = choose_executor(workers=3, threads=2)
    assert isinstance(chosen, LocalProcesses)
    assert (chosen.workers, chosen.threads, chosen.shares_disk) == (3, 2, True)
    assert not choose_executor(workers=1).shares_disk


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers must be a whole number of at least 1"),
        ({"cpus_per_trial": 2}, "cpus_per_trial is of a Ray cluster: give its address too"),
        ({"gpus_per_trial": 0.5}, "gpus_per_trial is of a Ray cluster: give its address too"),
        ({"ray": "auto", "threads": 2}, "threads is of this machine: on a Ray cluster .* give --cpus-per-trial"),
    ],
)
def test_options_of_the_one_are_not_those_of_the_other(options, message):
    with pytest.raises(DropkitError, match=message):
        choose_executor(**options)
