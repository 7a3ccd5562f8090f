import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dropkit.data import folders
from dropkit.data.pictures import Reading, load
from dropkit.errors import DropkitError


def save(path, shape=(5, 7, 3), seed=0, **options):
    """Write a random picture of [H, W] or [H, W, 3] and return its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def as_they_are(folder):
    return folders.read(folder, Reading(size="native"))


def test_classes_are_sub_folders_in_sorted_order(tmp_path):
    root = tmp_path / "pets"
    wanted = [save(root / name, seed=i) for i, name in enumerate(["ant/a.png", "ant/b/1.png", "Bee/2.bmp"])]
    pictures = load(str(root), image_size="native")
    assert pictures.name == "pets"
    assert pictures.class_names == ("Bee", "ant")
    assert pictures.ids == ("Bee/2.bmp", "ant/a.png", "ant/b/1.png")
    assert pictures.labels.tolist() == [0, 1, 1]
    assert pictures.given == {}
    for at, pixels in zip([1, 2, 0], wanted, strict=True):
        assert np.array_equal(pictures.images[at].permute(1, 2, 0).numpy(), pixels)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_splits_are_folders_of_classes(tmp_path, name):
    for i, place in enumerate([f"{name}/dog", "test/cat", "train/dog", "test/dog", "train/cat"]):
        save(tmp_path / place / "1.png", seed=i)
    pictures = folders.read(tmp_path)
    assert pictures.class_names == ("cat", "dog")
    assert pictures.given == {"train": (0, 2), "val": (2, 3), "test": (3, 5)}
    assert pictures.labels.tolist() == [0, 1, 1, 0, 1]  # a class may be absent from a split
    assert pictures.ids[2:4] == (f"{name}/dog/1.png", "test/cat/1.png")


def test_train_alone_is_a_split(tmp_path):
    save(tmp_path / "train" / "cat" / "1.png")
    save(tmp_path / "train" / "dog" / "1.png")
    assert folders.read(tmp_path).given == {"train": (0, 2)}


def test_train_with_pictures_beside_other_classes_is_a_class(tmp_path):
    save(tmp_path / "train" / "1.png")
    save(tmp_path / "bus" / "1.png")
    pictures = folders.read(tmp_path)
    assert (pictures.class_names, pictures.given) == (("bus", "train"), {})


def test_hidden_files_and_files_that_are_no_pictures_are_left_alone(tmp_path):
    for name in ["cat/1.png", "dog/1.PNG", "dog/.2.png", "dog/.cache/3.png", ".git/4.png"]:
        save(tmp_path / name)
    (tmp_path / "cat" / "notes.txt").write_text("not a picture")
    (tmp_path / "dog" / "folder.png").mkdir()
    (tmp_path / "README.md").touch()
    assert folders.read(tmp_path).ids == ("cat/1.png", "dog/1.PNG")


def test_grayscale_stays_one_channel(tmp_path):
    cat = save(tmp_path / "cat" / "1.png", (5, 7))
    Image.new("1", (7, 5), 1).save(tmp_path / "cat" / "2.png")
    (tmp_path / "dog").mkdir()
    Image.new("LA", (7, 5), (31, 255)).save(tmp_path / "dog" / "1.png")
    pictures = as_they_are(tmp_path)
    assert pictures.shape == (1, 5, 7)
    assert np.array_equal(pictures.images[0, 0].numpy(), cat)
    assert pictures.images[1:].unique(dim=0).flatten(1).float().mean(1).tolist() == [31.0, 255.0]


def test_one_coloured_picture_makes_all_of_them_rgb(tmp_path):
    gray, rgb = save(tmp_path / "cat" / "1.png", (5, 7)), save(tmp_path / "dog" / "1.png")
    pictures = as_they_are(tmp_path)
    assert pictures.shape == (3, 5, 7)
    assert np.array_equal(pictures.images[0].numpy(), np.stack([gray] * 3))
    assert np.array_equal(pictures.images[1].permute(1, 2, 0).numpy(), rgb)


def test_what_is_transparent_is_laid_on_white(tmp_path):
    (tmp_path / "cat").mkdir()
    palette = Image.new("P", (7, 5), 1)
    palette.putpalette([0, 0, 0, 11, 13, 17])
    palette.save(tmp_path / "cat" / "1.png", transparency=bytes([0, 0]))
    save(tmp_path / "dog" / "1.png")
    assert as_they_are(tmp_path).images[0, :, 4, 6].tolist() == [255, 255, 255]


def test_different_sizes_are_named_with_the_cure(tmp_path):
    save(tmp_path / "cat" / "1.png", (5, 7))
    save(tmp_path / "dog" / "1.png", (5, 11))
    with pytest.raises(DropkitError) as error:
        as_they_are(tmp_path)
    assert "'cat/1.png' is 7x5, 'dog/1.png' is 11x5 (width x height)" in str(error.value)
    assert "--image-size N" in str(error.value)


def test_exif_that_turns_a_picture_counts_for_its_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "dog" / "1.png", (5, 7))
    for name in ("1.jpg", "2.png"):
        save(tmp_path / "cat" / name, (7, 5), exif=exif)
    assert as_they_are(tmp_path).shape == (1, 5, 7)
    content = (tmp_path / "cat" / "2.png").read_bytes()
    begin = content.index(b"eXIf") - 4
    end = begin + 12 + int.from_bytes(content[begin : begin + 4], "big")
    # behind the pixels, where whoever reads the header alone does not see it
    (tmp_path / "cat" / "2.png").write_bytes(content[:begin] + content[end:-12] + content[begin:end] + content[-12:])
    with pytest.raises(DropkitError, match=r"'cat/1\.jpg' is 7x5, 'cat/2\.png' is 5x7"):
        as_they_are(tmp_path)


def test_files_become_64x64_unless_told_otherwise(tmp_path):
    save(tmp_path / "cat" / "1.png", (67, 71, 3))
    save(tmp_path / "dog" / "1.png", (5, 131, 3), seed=1)
    assert load(tmp_path).shape == (3, 64, 64)
    assert load(tmp_path).notes == ()
    assert load(tmp_path, image_size=7).shape == (3, 7, 7)
    assert load(tmp_path, image_size="7x11").shape == (3, 7, 11)


@pytest.mark.parametrize(("sizes", "noted"), [([(5, 7)] * 2, True), ([(5, 7), (7, 5)], False), ([(67, 71)] * 2, False)])
def test_small_pictures_of_one_size_get_a_note(tmp_path, sizes, noted):
    for i, size in enumerate(sizes):
        save(tmp_path / f"class {i}" / "1.png", size)
    notes = load(tmp_path).notes
    assert len(notes) == noted
    assert not noted or "every picture is 7x5 and is enlarged to 64x64: --image-size native trains on" in notes[0]
    assert load(tmp_path, image_size="64").notes == ()


def plant_bad(folder, count):
    """Put bad pictures beside good ones of the class dog, and cats."""
    for i in range(3):
        save(folder / "cat" / f"{i}.png", (5, 7), seed=i)
        save(folder / "dog" / f"good {i}.png", (5, 7), seed=10 + i)
    for i in range(count):
        (folder / "dog" / f"{i:02}.png").write_bytes(b"no picture")


def test_bad_pictures_are_counted_and_20_are_listed(tmp_path):
    plant_bad(tmp_path, 23)
    with pytest.raises(DropkitError) as error:
        load(tmp_path)
    lines = str(error.value).splitlines()
    assert "23 of 29 pictures" in lines[0]
    assert len(lines) == 23
    assert lines[20] == "  'dog/19.png': no BMP, " + lines[20].split("no BMP, ")[1]
    assert lines[21] == "  and 3 more"
    assert "--on-bad-image skip" in lines[22]


def test_bad_pictures_are_skipped_and_told(tmp_path):
    plant_bad(tmp_path, 7)
    (tmp_path / "cat" / "!.png").touch()  # the first of all
    pictures = load(tmp_path, on_bad_image="skip", image_size="native")
    assert [name for name, _ in pictures.skipped] == ["cat/!.png", *(f"dog/{i:02}.png" for i in range(7))]
    assert all("WEBP picture" in reason for _, reason in pictures.skipped[1:])
    assert pictures.ids == ("cat/0.png", "cat/1.png", "cat/2.png", *(f"dog/good {i}.png" for i in range(3)))
    assert pictures.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert (
        "8 of 14 pictures cannot be read and were skipped: 'cat/!.png' (the file is empty); 'dog/00.png' (no BMP"
        in pictures.notes[-1]
    )
    for name, _ in pictures.skipped:
        (tmp_path / name).unlink()
    assert load(tmp_path, image_size="native").fingerprint == pictures.fingerprint


def test_a_picture_that_is_cut_short_is_bad_though_its_header_is_whole(tmp_path):
    plant_bad(tmp_path, 0)
    save(tmp_path / "dog" / "half.png", (31, 37))
    whole = (tmp_path / "dog" / "half.png").read_bytes()
    (tmp_path / "dog" / "half.png").write_bytes(whole[: len(whole) // 2])
    (name, reason), *others = load(tmp_path, on_bad_image="skip").skipped
    assert (name, others) == ("dog/half.png", [])
    assert "truncated" in reason


@pytest.mark.parametrize("place", ["dog", "train/dog"])
def test_a_class_of_bad_pictures_alone_is_an_error(tmp_path, place):
    for name in ("cat", "dog"):
        save(tmp_path / place.replace("dog", name) / "1.png")
    if "/" in place:
        save(tmp_path / "test" / "dog" / "1.png")
    (tmp_path / place / "1.png").write_bytes(b"")
    with pytest.raises(
        DropkitError, match=r"class 'dog' has no training picture left .*dog/1\.png' \(the file is empty\)"
    ):
        load(tmp_path, on_bad_image="skip")


def test_a_split_of_bad_pictures_alone_is_an_error(tmp_path):
    splits(tmp_path, "train", "test")
    for file in (tmp_path / "test").rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(DropkitError, match=r"no picture of the test split .* can be read, such as 'test/cat/1\.png'"):
        load(tmp_path, on_bad_image="skip")


def test_other_files_are_counted_by_ending(tmp_path):
    plant_bad(tmp_path, 0)
    for name in ["cat/1.txt", "dog/1.HEIC", "dog/sub/2.heic", "dog/LICENSE"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert load(tmp_path).notes[0] == "4 files left alone: 2 .heic, 1 without ending, 1 .txt"


def test_pictures_beside_the_classes_are_noted(tmp_path):
    plant_bad(tmp_path, 0)
    save(tmp_path / "loose.png")
    assert (
        load(tmp_path)
        .notes[0]
        .startswith("1 picture beside the class folders belongs to no class, such as 'loose.png'")
    )


def test_a_class_with_other_files_alone_lists_their_endings(tmp_path):
    plant_bad(tmp_path, 0)
    (tmp_path / "eel").mkdir()
    for name in ("1.heic", "2.heic", "3.txt"):
        (tmp_path / "eel" / name).touch()
    refused(tmp_path, "eel' has no picture, only 2 .heic, 1 .txt: names may end with .bmp", "convert")


def test_links_are_followed_and_loops_are_not(tmp_path):
    plant_bad(tmp_path, 0)
    save(tmp_path / "elsewhere" / "deep" / "1.png", (5, 7))
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for name in ("cat", "elsewhere"):
        (shelf / name).symlink_to(tmp_path / name)
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to("round")
    (tmp_path / "cat" / "gone.png").symlink_to("nowhere.png")
    pictures = load(shelf, on_bad_image="skip")
    assert pictures.ids[3:] == ("elsewhere/deep/1.png",)
    assert pictures.skipped == (("cat/gone.png", "No such file or directory"),)


def test_a_pipe_with_a_pictures_name_is_a_bad_picture(tmp_path):
    plant_bad(tmp_path, 0)
    os.mkfifo(tmp_path / "dog" / "pipe.png")
    assert load(tmp_path, on_bad_image="skip").skipped == (("dog/pipe.png", "it is not a file"),)


def test_a_folder_in_a_class_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    plant_bad(tmp_path, 0)
    closed = tmp_path / "dog" / "closed"
    closed.mkdir()
    listing = Path.iterdir

    def iterdir(self):
        if self == closed:
            raise PermissionError(13, "Permission denied", str(self))
        return listing(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(DropkitError, match=r"Permission denied: .*dog/closed'.*permissions"):
        load(tmp_path)


ODD = ['it\'s "so"', "<b>bold&", "two\nlines", "caf\udce9", "käse"]


def test_any_name_that_a_folder_takes_is_a_class(tmp_path):
    for i, name in enumerate(ODD):
        try:
            save(tmp_path / name / f"{name[0]}\n<i>\udce9.png", (5, 7), seed=i)
        except (OSError, UnicodeError):
            pytest.skip("this file system does not take names that are no UTF-8")
    pictures = load(tmp_path, image_size="native")
    assert set(pictures.class_names) == {*ODD[:3], "caf\\xe9", "käse"}
    assert all(name.endswith("\n<i>\\xe9.png") for name in pictures.ids)
    json.dumps([pictures.ids, pictures.class_names]).encode()
    "".join(pictures.ids).encode()
    (tmp_path / ODD[2] / "bad.png").touch()
    with pytest.raises(DropkitError, match=r"'two\\nlines/bad\.png': the file is empty"):
        load(tmp_path)


def refused(folder, *fragments):
    with pytest.raises(DropkitError) as error:
        folders.read(folder)
    for fragment in fragments:
        assert fragment in str(error.value)


def test_an_empty_folder_and_a_single_class_are_too_few(tmp_path):
    refused(tmp_path, "two classes or more, and has none")
    save(tmp_path / "loose.png")
    refused(tmp_path, "two classes or more, and has none")
    save(tmp_path / "cat" / "1.png")
    refused(tmp_path, "two classes or more, and has only 'cat'")


@pytest.mark.parametrize("place", ["dog", "train/dog", "test/dog"])
def test_a_class_without_pictures_is_named(tmp_path, place):
    root = "train/" if "/" in place else ""
    for name in ("cat", "dog"):
        save(tmp_path / f"{root}{name}" / "1.png")
    for file in (tmp_path / place).glob("*"):
        file.unlink()
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / place / "notes.txt").touch()
    refused(tmp_path, f"{place}' has no picture", ".png")


def splits(folder, *names):
    for name in names:
        save(folder / name / "cat" / "1.png")
        save(folder / name / "dog" / "1.png")


def test_a_class_that_train_does_not_have_is_refused(tmp_path):
    splits(tmp_path, "train", "test")
    save(tmp_path / "test" / "dogs" / "1.png")
    refused(tmp_path, "dogs' is a class without training pictures", "'cat', 'dog'", "Did you mean 'dog'?")


def test_an_empty_split_is_refused(tmp_path):
    splits(tmp_path, "train")
    (tmp_path / "test").mkdir()
    refused(tmp_path, "test' has no class folders")


@pytest.mark.parametrize("others", [("train", "extra"), ("train", "test", "extra"), ("test", "extra")])
def test_splits_beside_something_else_are_refused(tmp_path, others):
    splits(tmp_path, *others)
    refused(tmp_path, "has 'extra' beside the splits", "Move or rename")


def test_splits_without_train_are_refused(tmp_path):
    splits(tmp_path, "val", "test")
    refused(tmp_path, "'test', 'val' but no 'train'")


def test_splits_under_other_names_are_not_learned_as_classes(tmp_path):
    splits(tmp_path, "Training", "Testing")
    refused(tmp_path, "these look like splits, not classes. Name splits 'train', 'val' and 'test'")


@pytest.mark.parametrize("name", ["Valid", "VAL", "validation"])
def test_splits_may_be_written_in_capitals(tmp_path, name):
    splits(tmp_path, "Train", "TEST", name)
    pictures = folders.read(tmp_path)
    assert (pictures.class_names, pictures.given) == (
        ("cat", "dog"),
        {"train": (0, 2), "val": (2, 4), "test": (4, 6)},
    )
    assert pictures.ids[0] == "Train/cat/1.png"


def test_a_class_may_be_absent_from_test_in_capitals(tmp_path):
    splits(tmp_path, "Train", "Test")
    save(tmp_path / "Train" / "eel" / "1.png")
    assert folders.read(tmp_path).class_names == ("cat", "dog", "eel")


def test_splits_under_other_names_need_not_have_all_classes(tmp_path):
    splits(tmp_path, "Training", "Test_images")
    save(tmp_path / "Training" / "eel" / "1.png")
    refused(tmp_path, "'Test_images', 'Training', with sub-folders of the same names 'cat', 'dog': these look like")


def test_classes_called_as_splits_with_other_folders_inside_are_classes(tmp_path):
    for i, place in enumerate(["trains/steam", "valves/brass"]):
        save(tmp_path / place / "1.png", seed=i)
    assert folders.read(tmp_path).class_names == ("trains", "valves")


def test_two_folders_for_training_are_refused(tmp_path):
    splits(tmp_path, "train", "Train")
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system does not tell capitals from small letters")
    refused(tmp_path, "'Train', 'train': only one of them can hold the training pictures")


def test_endings_cannot_colour_the_terminal(tmp_path):
    for i, name in enumerate(("cat", "dog")):
        save(tmp_path / name / "1.png", seed=i)
    try:
        (tmp_path / "cat" / "notes.\x1b[31m").touch()
    except OSError:
        pytest.skip("this file system does not take such names")
    assert folders.read(tmp_path).notes[0] == "1 file left alone: 1 .\\x1b[31m"


def test_classes_with_the_same_folders_inside_are_classes(tmp_path):
    for i, place in enumerate(["cat/day", "cat/night", "dog/day", "dog/night"]):
        save(tmp_path / place / "1.png", seed=i)
    assert folders.read(tmp_path).class_names == ("cat", "dog")


def test_two_folders_for_validation_are_refused(tmp_path):
    splits(tmp_path, "train", "val", "valid")
    refused(tmp_path, "only one of them can hold the validation pictures")
