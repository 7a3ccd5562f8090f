"""The executor: every training once, in processes or in this one, with the same result."""

import dataclasses

import torch

from dropkit.runs.run import read_run
from dropkit.studies.executor import LocalProcesses


def configs(short, tmp_path, name):
    return [short(seed=seed, epochs=1, out=str(tmp_path / name / str(seed)), threads=None) for seed in range(3)]


def test_processes_and_one_process_give_the_same_bits(short, tmp_path):
    several, one = configs(short, tmp_path, "several"), configs(short, tmp_path, "one")
    done = list(LocalProcesses(workers=2, threads=1).map(several))
    assert sorted(done) == sorted(config.folder() for config in several)
    assert list(LocalProcesses(workers=1, threads=1).map(one)) == [config.folder() for config in one]
    for a, b in zip(several, one, strict=True):
        first, second = read_run(a.folder()), read_run(b.folder())
        assert first.config == dataclasses.replace(a, threads=1)
        weights = [(run.folder / "model.safetensors").read_bytes() for run in (first, second)]
        assert weights[0] == weights[1]


def test_the_cores_are_shared_out():
    cores = torch.get_num_threads()
    both = LocalProcesses(workers=2)
    assert both.threads == max(1, cores // 2)
    assert LocalProcesses(workers=1).threads == cores
    assert LocalProcesses(workers=cores, threads=3).threads == 3


def test_changed_data_are_loaded_again(short, tmp_path):
    import os

    import numpy as np

    path = tmp_path / "data.npz"
    fingerprints = set()
    for round in range(2):
        images = np.random.default_rng(round).integers(0, 256, (60, 8, 8), dtype=np.uint8)
        np.savez(path, train_images=images, train_labels=np.arange(60) % 2)
        os.utime(path, ns=(round, round))
        config = short(data=str(path), epochs=1, out=str(tmp_path / f"run{round}"))
        (folder,) = LocalProcesses(workers=1).map([config])
        fingerprints.add((folder / "split.json").read_text()[:300])
    assert len(fingerprints) == 2
