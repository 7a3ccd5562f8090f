import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dropkit.data import arrays
from dropkit.data.pictures import load
from dropkit.errors import DropkitError

DATA = Path(__file__).parents[3] / "shared" / "data"


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def whole():
    """Return arrays of every name there is."""
    return {
        "train_images": pixels(7, 5, 3, 3),
        "train_labels": np.array([0, 1, 2, 0, 1, 2, 0]),
        "val_images": pixels(2, 5, 3, 3, seed=1),
        "val_labels": np.array([1, 0]),
        "test_images": pixels(3, 5, 3, 3, seed=2),
        "test_labels": np.array([2, 2, 1]),
        "class_names": np.array(["cat", "dog", "eel"]),
    }


def read(folder, arrays):
    path = folder / "tiny.npz"
    np.savez(path, **arrays)
    return load(str(path))


def test_every_array_arrives_in_its_place(tmp_path):
    held = whole()
    pictures = read(tmp_path, held)
    assert (pictures.name, pictures.shape, pictures.class_names) == ("tiny", (3, 5, 3), ("cat", "dog", "eel"))
    assert pictures.given == {"train": (0, 7), "val": (7, 9), "test": (9, 12)}
    for split, (start, stop) in pictures.given.items():
        images = pictures.images[start:stop].permute(0, 2, 3, 1).numpy()
        assert np.array_equal(images, held[f"{split}_images"])
        assert np.array_equal(pictures.labels[start:stop].numpy(), held[f"{split}_labels"])
    assert pictures.ids[6:10] == ("train_images[6]", "val_images[0]", "val_images[1]", "test_images[0]")


def test_the_order_in_the_file_does_not_matter(tmp_path):
    backwards = dict(reversed(whole().items()))
    assert read(tmp_path, backwards).given == {"train": (0, 7), "val": (7, 9), "test": (9, 12)}


def test_without_names_classes_are_numbered_up_to_the_largest_label_of_any_split(tmp_path):
    held = whole()
    del held["class_names"]
    held["test_labels"] = np.array([0, 3, 1])
    assert read(tmp_path, held).class_names == ("0", "1", "2", "3")


@pytest.mark.parametrize("shape", [(7, 5, 3), (7, 5, 3, 1)])
def test_grayscale_comes_with_or_without_the_last_axis(tmp_path, shape):
    images = pixels(*shape)
    pictures = read(tmp_path, {"train_images": images, "train_labels": whole()["train_labels"]})
    assert pictures.shape == (1, 5, 3)
    assert pictures.images.numpy().tobytes() == images.tobytes()


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i4", "u8"])
@pytest.mark.parametrize("column", [False, True])
def test_labels_of_any_integer_type_flat_or_in_a_column(tmp_path, dtype, column):
    labels = whole()["train_labels"].astype(dtype)
    held = {"train_images": pixels(7, 5, 3), "train_labels": labels[:, None] if column else labels}
    assert read(tmp_path, held).labels.tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_fortran_order_is_read_as_the_same_pictures(tmp_path):
    held = whole()
    same = {name: np.asfortranarray(array) for name, array in held.items()}
    assert read(tmp_path, same).fingerprint == read(tmp_path, held).fingerprint


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_larger_than_a_piece_are_read_piece_by_piece(tmp_path, monkeypatch, order, save):
    same = {name: np.asarray(array, order=order) for name, array in whole().items()}
    save(tmp_path / "tiny.npz", **same)
    at_once = load(tmp_path / "tiny.npz")
    for name in ("_PIECE", "_SLAB_PIECE"):
        monkeypatch.setattr(arrays, name, 2 * 45 + 1)
    for stream in ("yes", "no"):
        pictures = load(tmp_path / "tiny.npz", stream=stream)
        assert torch.equal(pictures.read(np.arange(12)), at_once.images)
        assert pictures.fingerprint == at_once.fingerprint


def test_a_size_can_be_asked_for(tmp_path):
    np.savez(tmp_path / "tiny.npz", **whole())
    assert load(tmp_path / "tiny.npz").shape == (3, 5, 3)
    assert load(tmp_path / "tiny.npz", image_size="7x11").shape == (3, 7, 11)


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("train_images", lambda content: content[:-1], "train_images is not as long as its header says"),
        ("val_images", lambda content: content + b"x", "val_images is not as long as its header says"),
        ("val_labels", lambda content: content + b"x", "val_labels is longer than its header says"),
    ],
)
def test_an_array_that_is_not_as_long_as_its_header_says_is_damaged(tmp_path, name, change, text):
    np.savez(tmp_path / "whole.npz", **whole())
    with zipfile.ZipFile(tmp_path / "whole.npz") as before, zipfile.ZipFile(tmp_path / "bad.npz", "w") as after:
        for member in before.namelist():
            content = before.read(member)
            after.writestr(member, change(content) if member == f"{name}.npy" else content)
    with pytest.raises(DropkitError, match=text):
        load(tmp_path / "bad.npz")


def test_a_changed_byte_is_found_by_the_checksum(tmp_path):
    path = tmp_path / "tiny.npz"
    np.savez(path, **whole())
    content = path.read_bytes()
    image = whole()["test_images"].tobytes()
    path.write_bytes(content.replace(image, image[:-1] + bytes([image[-1] ^ 1])))
    with pytest.raises(DropkitError, match="Bad CRC-32"):
        load(path)


WRONG = {
    "float": (
        {"train_images": pixels(7, 5, 3, 3) / 255},
        ["train_images has dtype float64", "uint8", "astype"],
    ),
    "rank 2": ({"train_images": pixels(7, 15)}, ["shape [7, 15]", "[N, H, W]"]),
    "rank 5": ({"train_images": pixels(7, 5, 3, 2, 3)}, ["shape [7, 5, 3, 2, 3]", "[N, H, W]"]),
    "channels first": ({"train_images": pixels(7, 3, 5, 5)}, ["transpose(0, 2, 3, 1)"]),
    "four channels": ({"train_images": pixels(7, 5, 5, 4)}, ["[7, 5, 5, 4]", "1 or 3 channels"]),
    "no pictures": (
        {"test_images": pixels(0, 5, 3, 3), "test_labels": np.zeros(0, int)},
        ["test_images", "[0, 5"],
    ),
    "other size": ({"val_images": pixels(2, 3, 5, 3)}, ["val_images", "3x3x5", "train_images, 3x5x3"]),
    "other channels": ({"test_images": pixels(3, 5, 3)}, ["test_images", "1x5x3", "3x5x3"]),
    "float labels": ({"train_labels": np.zeros(7)}, ["train_labels has dtype float64", "integer"]),
    "too few labels": ({"train_labels": np.zeros(6, int)}, ["shape [6]", "[7] and [7, 1]", "7 pictures"]),
    "many labels each": ({"train_labels": np.zeros((7, 2), int)}, ["shape [7, 2]", "one label"]),
    "negative": ({"val_labels": np.array([0, -1])}, ["val_labels has the label -1 at [1]", "from 0"]),
    "beyond the names": (
        {"test_labels": np.array([0, 3, 1])},
        ["test_labels", "label 3 at [1]", "0..2", "3 names"],
    ),
    "huge": ({"train_labels": np.full(7, 2**64 - 1, np.uint64)}, ["train_labels", str(2**64 - 1)]),
    "names of numbers": ({"class_names": np.arange(3)}, ["class_names", "int64", "strings"]),
    "names in a table": ({"class_names": np.array([["a", "b", "c"]])}, ["class_names", "[1, 3]"]),
    "names twice": ({"class_names": np.array(["cat", "dog", "cat"])}, ["'cat' more than once"]),
    "unknown": ({"vall_images": pixels(2)}, ["unknown array 'vall_images'", "Did you mean 'val_images'?"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(tmp_path, case):
    wrong, fragments = WRONG[case]
    with pytest.raises(DropkitError) as error:
        read(tmp_path, whole() | wrong)
    assert "tiny.npz" in str(error.value)
    for fragment in fragments:
        assert fragment in str(error.value)


def test_a_stray_label_does_not_make_a_billion_classes(tmp_path):
    held = {"train_images": pixels(3, 5, 3), "train_labels": np.array([0, 10**9, 1])}
    with pytest.raises(DropkitError, match=r"label 1000000000 at \[1\].*number of pictures, 3"):
        read(tmp_path, held)


def test_one_class_is_too_few(tmp_path):
    with pytest.raises(DropkitError, match="at least two classes"):
        read(tmp_path, {"train_images": pixels(3, 5, 3), "train_labels": np.zeros(3, int)})


def test_keras_names_are_listed_with_the_allowed_ones(tmp_path):
    held = {"x_train": pixels(3, 5, 3), "y_train": np.arange(3)}
    with pytest.raises(DropkitError, match=r"no array 'train_images'; it holds x_train, y_train. Allowed are train_"):
        read(tmp_path, held)


@pytest.mark.parametrize(
    ("missing", "there"),
    [("val_labels", "val_images"), ("test_images", "test_labels"), ("train_labels", "holds")],
)
def test_images_and_labels_come_together(tmp_path, missing, there):
    held = whole()
    del held[missing]
    with pytest.raises(DropkitError, match=f"no (array )?'{missing}'") as error:
        read(tmp_path, held)
    assert there in str(error.value)


def test_pickled_objects_are_not_unpickled(tmp_path):
    with pytest.raises(DropkitError, match=r"objects where plain arrays"):
        read(tmp_path, whole() | {"class_names": np.array(["cat", "dog", "eel"], dtype=object)})


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 and then nothing"])
def test_a_file_that_is_no_archive_is_damaged(tmp_path, content):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(DropkitError, match=r"bad\.npz' cannot be read as \.npz"):
        load(str(tmp_path / "bad.npz"))


def test_a_single_array_is_not_an_archive(tmp_path):
    with (tmp_path / "one.npz").open("wb") as file:
        np.save(file, pixels(3, 5, 3))
    with pytest.raises(DropkitError, match="a single array"):
        load(str(tmp_path / "one.npz"))


@given(st.data())
@settings(max_examples=150)
def test_damage_anywhere_is_either_harmless_or_an_error_of_ours(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "tiny.npz"
    np.savez_compressed(path, **whole())
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), "cut"):
        content = content[: data.draw(st.integers(0, len(content) - 1), "length")]
    else:
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=5), "places"):
            content[place] ^= data.draw(st.integers(1, 255), "bits")
    path.write_bytes(content)
    try:
        pictures = load(str(path))
    except DropkitError:
        return
    assert pictures.shape == (3, 5, 3)


@pytest.mark.skipif(not (DATA / "mnist.npz").is_file(), reason="needs MNIST in ../shared/data")
def test_mnist_loads_as_it_is():
    pictures = load(str(DATA / "mnist.npz"))
    assert (pictures.name, pictures.shape, pictures.classes) == ("mnist", (1, 28, 28), 10)
    assert pictures.given == {"train": (0, 60000), "test": (60000, 70000)}
    assert pictures.labels[:5].tolist() == [5, 0, 4, 1, 9]  # the first digits of the training set
    assert pictures.labels[60000:60005].tolist() == [7, 2, 1, 0, 4]
