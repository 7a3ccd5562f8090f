"""Where a recipe's pictures come from: files, parts, the hub; and the one file that is drawn from them."""

import io

import numpy as np
import pytest
from PIL import Image

from dropkit.data.pictures import Part, join, load
from dropkit.errors import DropkitError
from dropkit.studies.recipes import data_sources
from dropkit.studies.recipes.data_sources import SOURCES, drawn, find, same_arrays
from dropkit.studies.recipes.recipe import Sizes

NAMES = np.array(["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"])


def write_part(path, images, labels, *, tiles=2):
    """Write pictures [N, 32, 32, 3] as mosaics of tiles x tiles of them."""
    blobs = []
    for start in range(0, len(images), tiles * tiles):
        rows = images[start : start + tiles * tiles].reshape(tiles, tiles, 32, 32, 3)
        mosaic = np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)
        file = io.BytesIO()
        Image.fromarray(mosaic).save(file, "WEBP", lossless=True)
        blobs.append(file.getvalue())
    offsets = np.cumsum([0, *map(len, blobs)])
    np.savez(path, webp=np.frombuffer(b"".join(blobs), np.uint8), offsets=offsets, labels=labels, class_names=NAMES)


@pytest.fixture
def parts(tmp_path):
    """A folder of CIFAR-10's six parts, of 20 pictures each, and what they hold."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 20, 32, 32, 3), dtype=np.uint8)
    labels = np.stack([rng.permutation(np.arange(20) % 10) for _ in range(6)]).astype(np.uint8)
    for number, name in enumerate(SOURCES["cifar10"].parts):
        write_part(tmp_path / name, images[number], labels[number])
    return tmp_path, images, labels


def test_parts_are_joined_in_order(parts, capsys):
    folder, images, labels = parts
    found = find("cifar10", folder)
    assert f"CIFAR-10: joined from its 6 parts in {folder}" in capsys.readouterr().err
    assert found.given == {"train": (0, 100), "test": (100, 120)}
    assert found.class_names == tuple(NAMES)
    assert (found.images.numpy() == images.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)).all()
    assert (found.labels.numpy() == labels.ravel()).all()


def test_a_joined_file_is_taken_before_the_parts(parts, capsys):
    folder, images, labels = parts
    arrays = {"train_images": images[1], "train_labels": labels[1], "test_images": images[0], "test_labels": labels[0]}
    np.savez(folder / "cifar10.npz", **arrays)
    assert len(find("cifar10", folder)) == 40
    assert f"from {folder / 'cifar10.npz'}" in capsys.readouterr().err
    assert len(find("cifar10", folder, progress=False)) == 40
    assert capsys.readouterr().err == ""


def test_damaged_parts_are_named(parts):
    folder = parts[0]
    damaged = folder / SOURCES["cifar10"].parts[2]
    whole = damaged.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\x93NUMPY"):
        damaged.write_bytes(content)
        with pytest.raises(DropkitError, match="cifar10_train_3.npz' is damaged .*: restore it"):
            find("cifar10", folder, progress=False)
    with np.load(io.BytesIO(whole)) as stored:
        arrays = dict(stored)
    np.savez(damaged, **{**arrays, "labels": arrays["labels"][1:]})
    with pytest.raises(DropkitError, match="20 pictures and 19 labels"):
        find("cifar10", folder, progress=False)


def test_what_is_not_there(tmp_path):
    with pytest.raises(DropkitError, match=r"has no mnist.npz: name the folder that holds MNIST, or leave --data out"):
        find("mnist", tmp_path)
    with pytest.raises(DropkitError, match=r"no cifar10.npz, nor the parts cifar10_train_1.npz to cifar10_test.npz"):
        find("cifar10", tmp_path)
    with pytest.raises(DropkitError, match="unknown data of a recipe 'mnst'"):
        find("mnst", tmp_path)


def test_what_is_something_else(tmp_path):
    np.savez(tmp_path / "mnist.npz", train_images=np.zeros((20, 8, 8), np.uint8), train_labels=np.arange(20) % 10)
    with pytest.raises(DropkitError, match=r"is not MNIST: pictures 1x8x8 of 10 classes with the splits train, where"):
        find("mnist", tmp_path, progress=False)


def test_without_a_folder_the_usual_one_is_looked_at_then_the_hub(small_mnist, tmp_path, monkeypatch, capsys):
    asked = []

    def from_hub(source, **how):
        asked.append((source, how["image_size"]))
        return load(small_mnist / "mnist.npz")

    monkeypatch.setattr(data_sources, "DEFAULT_FOLDER", small_mnist)
    assert len(find("mnist", None)) == 1797
    assert f"MNIST: from {small_mnist}" in capsys.readouterr().err
    monkeypatch.setattr(data_sources, "DEFAULT_FOLDER", tmp_path)
    monkeypatch.setattr(data_sources, "load", from_hub)
    assert len(find("mnist", None)) == 1797
    assert asked == [("hub:ylecun/mnist", "native")]
    assert "MNIST: fetched from the Hugging Face hub (ylecun/mnist)" in capsys.readouterr().err


def test_pictures_are_drawn_by_class_without_overlap(small_mnist, tmp_path):
    found = find("mnist", small_mnist, progress=False)
    content = drawn("mnist", found, Sizes(701, 203))
    (tmp_path / "drawn.npz").write_bytes(content)
    pictures = load(tmp_path / "drawn.npz")
    assert pictures.given == {"train": (0, 701), "val": (701, 904), "test": (904, 1201)}
    assert pictures.shape == (1, 28, 28)
    assert (pictures.images[904:] == found.images[1500:]).all()
    digests = {pictures.digests[i].tobytes() for i in range(701)}
    assert not digests & {pictures.digests[i].tobytes() for i in range(701, 904)}
    share = np.bincount(found.labels[:1500]) / 1500
    for start, stop in ((0, 701), (701, 904)):
        counts = np.bincount(pictures.labels[start:stop])
        assert np.abs(counts - share * (stop - start)).max() < 1.0  # largest remainders
    assert same_arrays(tmp_path / "drawn.npz", drawn("mnist", found, Sizes(701, 203)))
    assert not same_arrays(tmp_path / "drawn.npz", drawn("mnist", found, Sizes(702, 203)))


def test_all_that_validation_leaves_is_taken_where_the_recipe_takes_all(small_mnist, tmp_path):
    found = find("mnist", small_mnist, progress=False)
    (tmp_path / "drawn.npz").write_bytes(drawn("mnist", found, Sizes(1000, 500)))
    pictures = load(tmp_path / "drawn.npz")
    together = np.concatenate([pictures.labels[:1000], pictures.labels[1000:1500]])
    assert (np.bincount(together) == np.bincount(found.labels[:1500])).all()


def test_too_few_pictures_are_refused(small_mnist):
    found = find("mnist", small_mnist, progress=False)
    with pytest.raises(DropkitError, match="MNIST should have 1,501 training pictures or more, but 'mnist' has 1,500"):
        drawn("mnist", found, Sizes(1001, 500))


def test_colours_stay_in_place(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 3, 32, 32), dtype=np.uint8)
    parts = [
        Part(split, images[part], np.arange(10 * size) % 10, tuple(f"{split}{i}" for i in range(10 * size)))
        for split, part, size in (("train", slice(0, 20), 2), ("test", slice(20, 30), 1))
    ]
    found = join("cifar10", parts, list(NAMES))
    (tmp_path / "drawn.npz").write_bytes(drawn("cifar10", found, Sizes(10, 10)))
    pictures = load(tmp_path / "drawn.npz")
    assert (pictures.images[20:].numpy() == images[20:]).all()
    assert {row.tobytes() for row in pictures.digests[:20]} == {row.tobytes() for row in found.digests[:20]}
    assert pictures.class_names == tuple(NAMES)
