"""The gallery keeps the surest and the least sure of however many pictures, and shows what the network was shown."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dropkit.errors import DropkitError
from dropkit.report.images import read_png
from dropkit.report.page import render
from dropkit.runs import label_gallery
from dropkit.runs.config import TrainConfig
from dropkit.runs.label_gallery import LabelGallery, _thumbnail
from dropkit.runs.labelling import Label, Sampled
from dropkit.runs.training import train


def label(name, p):
    return Label(name, {"cat": p, "dog": 1 - p} if p > 0.5 else {"dog": 1 - p, "cat": p})


def filled(tmp_path, probabilities, monkeypatch, surest=3, unsure=5):
    monkeypatch.setattr(label_gallery, "SUREST", surest)
    monkeypatch.setattr(label_gallery, "UNSURE", unsure)
    files = [Path(f"{place}.png") for place in range(len(probabilities))]
    labels = [label(file.name, p) for file, p in zip(files, probabilities, strict=True)]
    gallery = LabelGallery(files, tmp_path / "out.html")
    assert list(gallery.watch(iter(labels))) == labels
    return gallery


def names(entries):
    return [entry[3].picture for entry in entries]


def test_of_many_the_surest_and_the_least_sure_are_kept_in_order(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    probabilities = rng.permutation(np.linspace(0.51, 0.99, 47)).tolist()
    gallery = filled(tmp_path, probabilities, monkeypatch)
    order = [f"{place}.png" for place in np.argsort(probabilities)[::-1]]
    surest, unsure = gallery.chosen()
    assert (names(surest), names(unsure)) == (order[:3], order[-5:])
    assert len(gallery._surest) + len(gallery._unsure) == 8
    assert (gallery.read, gallery.errors, gallery.classes["cat"]) == (47, 0, 47)


def test_what_is_kept_of_very_many_is_no_more_than_is_shown(tmp_path):
    """Watched as a stream: nothing but the two heaps and the counts grows, and those not with the pictures."""
    count, most = 20_000, label_gallery.SUREST + label_gallery.UNSURE
    files = [Path("a.png")] * count
    sizes = []
    gallery = LabelGallery(files, tmp_path / "out.html")
    labels = (label("a.png", 0.51 + 0.48 * (place * 0.6180339887 % 1)) for place in range(count))
    for place, _ in enumerate(gallery.watch(labels)):
        if place % 997 == 0:
            sizes.append((len(gallery._surest), len(gallery._unsure), len(gallery.classes)))
    assert max(sizes) == sizes[-1] == (label_gallery.SUREST, label_gallery.UNSURE, 1)
    surest, unsure = gallery.chosen()
    assert len(surest) + len(unsure) == most
    held = [value for value in vars(gallery).values() if hasattr(value, "__len__") and value is not files]
    assert sum(len(value) for value in held if not isinstance(value, Path)) <= most + 1
    assert gallery.read == count


def test_the_seed_of_the_masks_is_kept_with_the_page(tmp_path):
    config = TrainConfig(data="digits", model="mlp", epochs=1, threads=1, out=str(tmp_path / "run"))
    run = train(config, progress=False, page=False)
    gallery = LabelGallery([], tmp_path / "out.html")
    assert [gallery.record(run, samples, 7)["seed"] for samples in (5, 0)] == [7, None]
    assert gallery.record(run, 5)["network"]["seed"] == 0


@pytest.mark.parametrize("count", [1, 4, 7, 8])
def test_of_few_all_are_one_list(tmp_path, monkeypatch, count):
    probabilities = np.linspace(0.99, 0.51, count).tolist()
    surest, unsure = filled(tmp_path, probabilities, monkeypatch).chosen()
    assert names(surest) == [f"{place}.png" for place in range(count)]
    assert unsure == []


def test_equal_pictures_keep_their_order(tmp_path, monkeypatch):
    surest, unsure = filled(tmp_path, [0.75] * 11, monkeypatch).chosen()
    assert names(surest) == ["0.png", "1.png", "2.png"]
    assert names(unsure) == [f"{place}.png" for place in range(6, 11)]


def test_the_page_is_written_with_thumbnails_and_counts(tmp_path):
    config = TrainConfig(data="digits", model="mlp", epochs=1, threads=1, out=str(tmp_path / "run"))
    run = train(config, progress=False, page=False)
    Image.new("RGB", (200, 100), (10, 200, 30)).save(tmp_path / "wide.png")
    files = [tmp_path / "wide.png", tmp_path / "gone.png", tmp_path / "bad.png"]
    figures = Sampled(5, (0.5, 0.875), 0.1, 0.6, 0.4, 0.2, 0.0)
    labels = [
        Label("wide.png", {"<b>7": 0.75, "1": 0.25}, sampled=figures),
        Label("gone.png", {"1": 0.9, "<b>7": 0.1}, sampled=figures),
        Label("bad.png", {}, error="the file is empty"),
    ]
    gallery = LabelGallery(files, tmp_path / "out.html")
    list(gallery.watch(labels))
    assert gallery.write(run, 5) == tmp_path / "out.html"
    record = gallery.record(run, 5)
    assert (record["read"], record["errors"], record["classes"]) == (2, 1, {"<b>7": 1, "1": 1})
    assert record["surest"][0]["interval"] == (0.5, 0.875)
    assert [row["image"] is None for row in record["surest"]] == [False, True]
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert "<b>7" not in page
    assert "1 file could not be read as a picture." in page
    assert "50.0 to 87.5\u00a0%" in page
    assert render({**record, "seconds": 0}) == render({**record, "seconds": 0})


def test_a_thumbnail_is_the_cut_that_the_network_sees_in_its_colours(tmp_path):
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[:, 45:155] = 255  # the middle is all that a square cut sees, and what its rim is blended with
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = read_png(_thumbnail(tmp_path / "a.png", (1, 8, 8)))
    assert (found.width, found.height) == (96, 96)
    seen = Image.open(io.BytesIO(base64.b64decode(found.uri.partition(",")[2])))
    assert seen.mode == "L"
    assert np.asarray(seen)[:, 2:-2].min() > 250  # the scaling mixes in what lies beyond the edges
    small = read_png(_thumbnail(tmp_path / "a.png", (3, 50, 200)))
    assert (small.width, small.height) == (96, 24)


@pytest.mark.parametrize(
    ("name", "message"),
    [(".", "is a folder"), ("pictures", "does not end with .html"), ("no/where.html", "there is no folder")],
)
def test_a_place_that_cannot_be_is_told_before_pictures_are_read(tmp_path, name, message):
    with pytest.raises(DropkitError, match=message):
        LabelGallery([], tmp_path / name)


def test_a_folder_that_cannot_be_written_to_is_told_before_pictures_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    with pytest.raises(DropkitError, match=f"cannot write to the folder '{tmp_path}'"):
        LabelGallery([], tmp_path / "page.html")
