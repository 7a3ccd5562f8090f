"""The pictures that a run was tested on, read again."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from dropkit.runs import reread as module
from dropkit.runs.reread import reread_test_pictures
from dropkit.runs.training import load_data, train


@pytest.fixture
def photos(tmp_path):
    """Eleven photographs in each of two classes, in colour, of different sizes."""
    rng = np.random.default_rng(0)
    for name in ("bright", "dark"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(11):
            pixels = rng.integers(0, 256, (17 + i, 23 + i, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


def test_files_are_read_as_they_were_and_no_others(short, photos, monkeypatch):
    run = train(short(data=str(photos), image_size="13", epochs=1), progress=False, page=False)
    pictures, split = load_data(run.config)
    monkeypatch.setattr(module, "load", None)  # nothing else is read
    assert torch.equal(reread_test_pictures(run, 100), pictures.read(split.test))
    some = reread_test_pictures(run, 2)
    assert torch.equal(some, pictures.read(split.test[[0, -1]]))
    (photos / pictures.ids[split.test[0]]).write_bytes(b"none")
    assert torch.equal(reread_test_pictures(run, 2), some[1:])


def test_pictures_that_are_gone_are_none(short, photos):
    run = train(short(data=str(photos), image_size="13", epochs=1), progress=False, page=False)
    shutil.rmtree(photos)
    assert reread_test_pictures(run, 5) is None


def test_arrays_are_loaded_and_pictures_of_another_size_are_not_taken(short, tmp_path):
    file = tmp_path / "data.npz"
    images = np.random.default_rng(0).integers(0, 256, (60, 9, 7), dtype=np.uint8)
    np.savez(file, train_images=images, train_labels=np.arange(60) % 3)
    run = train(short(data=str(file), epochs=1), progress=False, page=False)
    pictures, split = load_data(run.config)
    assert torch.equal(reread_test_pictures(run, 100), pictures.read(split.test))
    np.savez(file, train_images=images[:, 1:], train_labels=np.arange(60) % 3)
    assert reread_test_pictures(run, 100) is None
