import numpy as np
import pytest
from PIL import Image

from dropkit.errors import DropkitError
from dropkit.runs import folders
from dropkit.runs.pictures import load


def save(path, shape=(5, 7, 3), seed=0, **options):
    """Write a random picture of [H, W] or [H, W, 3] and return its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def test_classes_are_sub_folders_in_sorted_order(tmp_path):
    root = tmp_path / "pets"
    wanted = [save(root / name, seed=i) for i, name in enumerate(["ant/a.png", "ant/b/1.png", "Bee/2.bmp"])]
    pictures = load(str(root))
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
    Image.new("LA", (7, 5), (31, 0)).save(tmp_path / "dog" / "1.png")
    pictures = folders.read(tmp_path)
    assert pictures.shape == (1, 5, 7)
    assert np.array_equal(pictures.images[0, 0].numpy(), cat)
    assert pictures.images[1:].unique(dim=0).flatten(1).float().mean(1).tolist() == [31.0, 255.0]


def test_one_coloured_picture_makes_all_of_them_rgb(tmp_path):
    gray, rgb = save(tmp_path / "cat" / "1.png", (5, 7)), save(tmp_path / "dog" / "1.png")
    pictures = folders.read(tmp_path)
    assert pictures.shape == (3, 5, 7)
    assert np.array_equal(pictures.images[0].numpy(), np.stack([gray] * 3))
    assert np.array_equal(pictures.images[1].permute(1, 2, 0).numpy(), rgb)


def test_palettes_and_transparency_become_plain_rgb(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
    palette = Image.new("P", (7, 5), 1)
    palette.putpalette([0, 0, 0, 11, 13, 17])
    palette.save(tmp_path / "cat" / "1.png", transparency=bytes([0, 128]))
    Image.new("RGBA", (7, 5), (19, 23, 29, 128)).save(tmp_path / "dog" / "1.png")
    assert folders.read(tmp_path).images[:, :, 4, 6].tolist() == [[11, 13, 17], [19, 23, 29]]


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees clockwise to show
    sideways = save(tmp_path / "cat" / "1.png", (5, 7), exif=exif)
    save(tmp_path / "dog" / "1.png", (7, 5))
    pictures = folders.read(tmp_path)
    assert pictures.shape == (1, 7, 5)
    assert np.array_equal(pictures.images[0, 0].numpy(), np.rot90(sideways, k=-1))


def test_different_sizes_are_named(tmp_path):
    save(tmp_path / "cat" / "1.png", (5, 7))
    save(tmp_path / "dog" / "1.png", (5, 11))
    with pytest.raises(DropkitError, match=r"cat/1\.png is 7x5, dog/1\.png is 11x5 \(width x height\).*Resize"):
        folders.read(tmp_path)


def test_unreadable_pictures_are_counted_and_five_are_named(tmp_path):
    save(tmp_path / "cat" / "1.png")
    for i in range(7):
        save(tmp_path / "dog" / f"{i}.png", (31, 37))
        whole = (tmp_path / "dog" / f"{i}.png").read_bytes()
        (tmp_path / "dog" / f"{i}.png").write_bytes(whole[: len(whole) // 2] if i % 2 else b"no picture")
    with pytest.raises(DropkitError) as error:
        folders.read(tmp_path)
    text = str(error.value)
    assert "7 of 8 pictures" in text
    assert all(f"dog/{i}.png (" in text for i in range(5))
    assert "dog/5.png" not in text
    assert "; ..." in text
    assert text.count(str(tmp_path)) == 1


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_pixels_are_refused_and_not_clipped(tmp_path, mode):
    save(tmp_path / "cat" / "1.png", (5, 7))
    (tmp_path / "dog").mkdir()
    Image.new(mode, (7, 5), 1000).save(tmp_path / "dog" / "1.tif")
    with pytest.raises(DropkitError, match=rf"dog/1\.tif \(its pixels are of Pillow's mode {mode}.*8 bits"):
        folders.read(tmp_path)


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


def test_classes_with_the_same_folders_inside_are_classes(tmp_path):
    for i, place in enumerate(["cat/day", "cat/night", "dog/day", "dog/night"]):
        save(tmp_path / place / "1.png", seed=i)
    assert folders.read(tmp_path).class_names == ("cat", "dog")


def test_two_folders_for_validation_are_refused(tmp_path):
    splits(tmp_path, "train", "val", "valid")
    refused(tmp_path, "only one of them can hold the validation pictures")
