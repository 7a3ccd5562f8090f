"""Averages of thinned networks: what the library samples, in groups; kept and read again."""

import numpy as np
import pytest
import torch

from dropkit.runs.config import TrainConfig
from dropkit.runs.inference import ReadyNetwork
from dropkit.runs.training import load_data, train
from dropkit.studies.recipes import averages
from dropkit.studies.recipes.averages import share_wrong, wrong_averages
from dropkit.uncertainty.sampling import sample


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with seed 3, its pictures and its split."""
    config = TrainConfig(data="digits", model="mlp:32", dropout="input=0.2,fc=0.5", epochs=2, seed=3, threads=1)
    data = load_data(config)
    folder = tmp_path_factory.mktemp("run") / "r"
    return train(_at(config, folder), progress=False, page=False, data=data), *data


def _at(config, folder):
    return TrainConfig(**{**vars(config), "out": str(folder)})


def test_groups_are_disjoint_and_averaged_as_probabilities():
    rng = np.random.default_rng(0)
    logits, labels = torch.from_numpy(rng.normal(size=(7, 11, 3))), torch.from_numpy(rng.integers(0, 3, 11))
    for k, groups in ((1, 7), (2, 3), (3, 2), (7, 1)):
        each = [logits[g * k : (g + 1) * k].softmax(-1).mean(0).argmax(-1) != labels for g in range(groups)]
        assert share_wrong(logits, labels, k).tolist() == pytest.approx(torch.stack(each).double().mean(0).tolist())


def test_averages_of_a_run_are_those_of_its_thinned_networks(trained, tmp_path):
    run, pictures, split = trained
    found = wrong_averages(run, (1, 3), pictures, tmp_path / "m" / "a.safetensors", progress=False)
    network = ReadyNetwork(run, "cpu")
    logits = sample(network.model, network.normalised(pictures.read(split.test)), n=3, seed=3)
    labels = pictures.labels[torch.from_numpy(split.test)]
    single = (logits.argmax(-1) != labels).double().mean(0).numpy()
    assert found[1] == pytest.approx(single, abs=1e-6)
    assert found[3].tolist() == (logits.softmax(-1).mean(0).argmax(-1) != labels).double().tolist()
    assert 0 < found[3].mean() < found[1].mean() < 0.9


def test_what_was_drawn_is_read_and_fewer_draws_are_not_taken_for_more(trained, tmp_path, monkeypatch, capsys):
    run, pictures, _ = trained
    place = tmp_path / "a.safetensors"
    first = wrong_averages(run, (1, 2), pictures, place, progress=False)
    assert capsys.readouterr().err == ""
    drawn = []
    original = averages._sampled
    monkeypatch.setattr(averages, "_sampled", lambda *args: drawn.append(args[2]) or original(*args))
    again = wrong_averages(run, (1, 2), pictures, place, progress=False)
    assert drawn == []
    assert all((first[k] == again[k]).all() for k in (1, 2))
    wrong_averages(run, (1, 4), pictures, place, progress=False)
    assert drawn == [4]
