"""Which test pictures evidence is measured on, and in what pieces."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import dropkit
from dropkit.errors import DropkitError
from dropkit.runs.inference import ReadyNetwork
from dropkit.studies.evidence import pictures as room
from dropkit.studies.evidence.pictures import TestPictures, load_pictures


@pytest.fixture
def run(short):
    return dropkit.train(short(max_train=60, epochs=1, dropout="fc=0.5"), progress=False)


@pytest.fixture
def pictures(run):
    return load_pictures(run, progress=False)


def test_all_of_a_few_in_order(run, pictures):
    chosen = TestPictures(run, pictures, seed=0)
    assert len(chosen) == chosen.of == run.summary["data"]["test"]
    assert chosen.indices.tolist() == sorted(chosen.indices.tolist())
    assert torch.equal(chosen.labels, pictures.labels[chosen.indices])


def test_some_of_many_and_the_seed_chooses(run, pictures, monkeypatch):
    monkeypatch.setattr(room, "MOST", 23)
    one, again, other = (TestPictures(run, pictures, seed) for seed in (3, 3, 4))
    assert len(one) == 23
    assert one.of == run.summary["data"]["test"]
    assert torch.equal(one.indices, again.indices)
    assert not torch.equal(one.indices, other.indices)
    whole = TestPictures(run, pictures, 0)
    assert set(one.indices.tolist()) <= set(whole.indices.tolist()) or one.of > len(whole)


def test_batches_are_the_pictures_as_the_network_takes_them(run, pictures):
    network = ReadyNetwork(run, "cpu")
    chosen = TestPictures(run, pictures, 0)
    parts = list(chosen.batches(network, most=50))
    assert [len(batch) for _, batch in parts][:2] == [50, 50]
    assert [place.start for place, _ in parts] == list(range(0, len(chosen), 50))
    together = torch.cat([batch for _, batch in parts])
    assert torch.equal(together, network.normalised(pictures.read(chosen.indices)))
    assert torch.equal(chosen.example(network), together[:2])
    logits, labels = run.test_predictions()
    order = np.argsort(np.asarray(chosen.indices))
    with torch.inference_mode():
        found = network.model(together)
    assert torch.equal(labels, chosen.labels[order])
    torch.testing.assert_close(found, logits, atol=1e-4, rtol=1e-4)


def test_data_that_are_gone_are_named(run):
    moved = replace(run, config=replace(run.config, data="no/such/folder"))
    with pytest.raises(DropkitError, match="no/such/folder"):
        load_pictures(moved, progress=False)
