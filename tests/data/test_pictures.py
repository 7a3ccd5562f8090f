import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dropkit.data.pictures import Part, Pictures, join, load
from dropkit.errors import DropkitError


def part(split=None, count=5, first=0):
    images = (np.arange(count * 3 * 5 * 7) % 251).astype(np.uint8).reshape(count, 3, 5, 7) + np.uint8(first)
    labels = np.arange(count, dtype=np.int64) % 2
    return Part(split, images, labels, tuple(f"{split}[{i}]" for i in range(count)))


def test_join_puts_the_parts_one_after_the_other():
    train, test = part("train", 5), part("test", 3, first=1)
    pictures = join("made up", [train, test], ["cat", "dog"])
    assert isinstance(pictures, Pictures)
    assert pictures.given == {"train": (0, 5), "test": (5, 8)}
    assert pictures.images.dtype == torch.uint8
    assert pictures.labels.dtype == torch.int64
    assert np.array_equal(pictures.images[5:].numpy(), test.images)
    assert pictures.labels.tolist() == [0, 1, 0, 1, 0, 0, 1, 0]
    assert pictures.ids[4:6] == ("train[4]", "test[0]")
    assert (len(pictures), pictures.shape, pictures.classes) == (8, (3, 5, 7), 2)


def test_join_without_splits_gives_none():
    assert join("made up", [part(None)], ["cat", "dog"]).given == {}


def test_join_refuses_a_single_class():
    with pytest.raises(DropkitError, match=r"only the classes \['cat'\].*at least two"):
        join("made up", [part()], ["cat"])


def test_the_fingerprint_is_that_of_the_content_alone():
    prints = {join(name, [part(split)], ["a", "b"]).fingerprint for name in "xy" for split in (None, "train")}
    assert len(prints) == 1
    assert len(prints.pop()) == 64


@pytest.mark.parametrize("change", ["pixel", "label", "class name", "shape", "order"])
def test_the_fingerprint_changes_with(change):
    names = ["a", "b"]
    old, new = part(), part()
    images, labels = new.images, new.labels
    if change == "pixel":
        images[3, 2, 1, 4] ^= 1
    elif change == "label":
        labels[4] = 1
    elif change == "class name":
        names = ["a", "c"]
    elif change == "shape":
        images = images.reshape(5, 3, 7, 5)
    else:
        images = images[::-1]
    changed = join("made up", [Part(None, images, labels, new.ids)], names)
    assert changed.fingerprint != join("made up", [old], ["a", "b"]).fingerprint


def test_digits_is_a_name_and_a_path_of_that_name_needs_a_dot(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("digits").mkdir()
    assert load("digits").name == "digits"
    assert len(load("digits")) == 1797
    with pytest.raises(DropkitError, match="sub-folder"):
        load("./digits")


@pytest.mark.parametrize(
    ("source", "near"),
    [("digit", "digits"), ("Digits", "digits"), ("birds", "brids"), ("mnist", "mnist.npz")],
)
def test_a_missing_path_gets_the_nearest_name(source, near, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for other in ("mnist.npz", "unrelated.txt", "birds.txt", ".birds"):
        Path(other).touch()
    Path("brids").mkdir()
    with pytest.raises(DropkitError) as error:
        load(source)
    text = str(error.value)
    assert f"data {source!r}: there is no such file or folder" in text
    assert ".npz file" in text
    assert "sub-folder for each class" in text
    assert text.endswith(f"Did you mean {near!r}?")


def test_a_missing_path_in_a_folder_is_completed_with_the_folder(tmp_path):
    (tmp_path / "fashion_mnist.npz").touch()
    with pytest.raises(DropkitError) as error:
        load(str(tmp_path / "fashion-mnist.npz"))
    assert f"Did you mean {str(tmp_path / 'fashion_mnist.npz')!r}?" in str(error.value)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DropkitError, match=r"there is no folder .*nowhere' either"):
        load(str(tmp_path / "nowhere" / "mnist.npz"))


@pytest.mark.parametrize("source", ["", "  ", "x" * 5000, "a\0b"])
def test_what_cannot_be_a_path_is_an_error_of_ours(source):
    with pytest.raises(DropkitError, match=r"no such file|cannot be read"):
        load(source)


def test_another_kind_of_file_is_refused(tmp_path):
    (tmp_path / "data.zip").touch()
    with pytest.raises(DropkitError, match=r"is a file, but not one .*\.npz or \.parquet\. Allowed are 'digits'"):
        load(str(tmp_path / "data.zip"))


def test_a_folder_that_cannot_be_listed_is_an_error_of_ours(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DropkitError, match=r"Permission denied.*permissions"):
        load(str(tmp_path))


def test_digests_are_equal_for_identical_pictures_alone():
    images = part(None, 4).images
    images[2] = images[0]
    pictures = join("made up", [Part(None, images, part(None, 4).labels, part(None, 4).ids)], ["a", "b"])
    first, second, third, fourth = (row.tobytes() for row in pictures.digests)
    assert first == third
    assert len({first, second, fourth}) == 3
    without = Pictures("made up", pictures.held, pictures.labels, ("a", "b"), pictures.ids, {}, "f")
    assert np.array_equal(without.digests, pictures.digests)


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
@pytest.mark.parametrize("stream", ["yes", "no"])
def test_pictures_are_read_by_index_in_any_order(stream, kind):
    pictures, whole = load("digits", stream=stream), load("digits").images
    assert (pictures.images is None) == (stream == "yes")
    assert torch.equal(pictures.read(kind([1700, 3, 3, 4])), whole[[1700, 3, 3, 4]])


def test_how_to_fit_a_further_picture_is_what_decode_is_told():
    assert load("digits").fit == {"method": "resize and centre crop", "size": [8, 8], "channels": 1}


def test_digits_come_in_other_sizes():
    assert load("digits", image_size="11x13").shape == (1, 11, 13)
    assert load("digits", image_size="native").fingerprint == load("digits").fingerprint


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"image_size": 2}, "image_size is '2'"),
        ({"on_bad_image": "skp"}, "unknown on_bad_image 'skp': allowed are stop, skip. Did you mean 'skip'"),
        ({"stream": "always"}, "unknown stream 'always': allowed are auto, yes, no"),
    ],
)
def test_an_option_that_is_not_allowed_is_refused(option, text):
    with pytest.raises(DropkitError, match=text):
        load("digits", **option)


def test_readers_are_imported_on_use():
    code = (
        "import sys, dropkit.data.pictures, dropkit.data.split;"
        "print([name for name in ('sklearn', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
