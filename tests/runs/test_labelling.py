"""Labels for new pictures: those of the run's own test predictions, whatever form the file has; errors are rows."""

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dropkit.errors import DropkitError
from dropkit.runs.config import TrainConfig
from dropkit.runs.label_output import as_csv, as_json, as_text, print_labels
from dropkit.runs.labelling import Label, find_pictures, label_pictures
from dropkit.runs.training import load_data, train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = TrainConfig(data="digits", model="mlp", epochs=2, threads=1, out=str(tmp_path_factory.mktemp("run") / "r"))
    return train(config, progress=False, page=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Seven test pictures of the digits as files."""
    folder = tmp_path_factory.mktemp("pictures")
    pictures, split = load_data(TrainConfig(data="digits"))
    for place, image in enumerate(pictures.read(torch.from_numpy(split.test[:7]))):
        Image.fromarray(image[0].numpy()).save(folder / f"{place}.png")
    return folder


def test_labels_are_the_runs_own_test_predictions(run, files):
    labels = list(label_pictures(run, find_pictures([str(files)]), device="cpu"))
    logits, _ = run.test_predictions()
    expected = logits[:7].double().softmax(1)
    names = run.summary["data"]["class_names"]
    for label, row in zip(labels, expected, strict=True):
        assert label.error is None
        assert label.class_name == names[int(row.argmax())]
        given = [label.probabilities[name] for name in names]
        assert given == pytest.approx(row.tolist(), abs=1e-5)
        assert list(label.probabilities.values()) == sorted(given, reverse=True)
        assert label.probability == max(given)


def test_batches_do_not_change_labels(run, files, monkeypatch):
    paths = find_pictures([str(files)])
    whole = [label.probabilities for label in label_pictures(run, paths, device="cpu")]
    monkeypatch.setattr("dropkit.runs.labelling.BATCH", 3)
    for one, other in zip(whole, label_pictures(run, paths, device="cpu"), strict=True):
        assert other.probabilities == pytest.approx(one, abs=1e-6)


def test_a_picture_that_cannot_be_read_is_a_row_with_its_error(run, files, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    labels = list(label_pictures(run, [files / "0.png", tmp_path / "broken.png", files / "1.png"], device="cpu"))
    assert [label.error is None for label in labels] == [True, False, True]
    assert labels[1].picture == str(tmp_path / "broken.png")
    assert labels[1].class_name is None
    assert "WEBP picture" in labels[1].error


def test_another_size_and_colours_are_brought_to_the_runs(run, tmp_path):
    Image.fromarray(np.full((31, 17, 4), 200, np.uint8), "RGBA").save(tmp_path / "large.png")
    assert next(label_pictures(run, [tmp_path / "large.png"], device="cpu")).error is None


def test_a_folder_means_its_pictures_at_any_depth(tmp_path):
    for name in ("b.png", "deep/er/a.JPG", ".hidden.png", "notes.txt", ".git/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert find_pictures([str(tmp_path)]) == [tmp_path / "b.png", tmp_path / "deep/er/a.JPG"]
    # a file that is named counts whatever its ending
    assert find_pictures([str(tmp_path / "notes.txt")]) == [tmp_path / "notes.txt"]


@pytest.mark.parametrize(
    ("name", "message"), [("nowhere.png", "there is no file or folder"), ("empty", "has no picture")]
)
def test_paths_without_pictures_are_messages(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DropkitError, match=message):
        find_pictures([str(tmp_path / name)])


LABELS = [
    Label('a,"b".png', {"cat": 0.75, "dog": 0.25}),
    Label("=1+1.png", {"dog": 0.9, "cat": 0.1}),
    Label("bad\n.png", {}, error="the file is empty"),
]


def test_csv_has_a_row_a_picture_and_no_formulas():
    rows = list(csv.DictReader(io.StringIO("\n".join(as_csv(LABELS)), newline="")))
    assert [row["picture"] for row in rows] == ['a,"b".png', "'=1+1.png", "bad\n.png"]
    assert rows[0] == {
        "picture": 'a,"b".png',
        "class": "cat",
        "probability": "0.750000",
        "second_class": "dog",
        "second_probability": "0.250000",
        "error": "",
    }
    assert rows[2]["error"] == "the file is empty"
    assert rows[2]["class"] == ""


@pytest.mark.parametrize("labels", [LABELS, [], LABELS[:1]])
def test_json_is_one_list(labels):
    rows = json.loads("\n".join(as_json(labels)))
    assert [row["picture"] for row in rows] == [label.picture for label in labels]
    assert all(row["probabilities"] == label.probabilities for row, label in zip(rows, labels, strict=True))


def test_text_is_one_line_a_picture():
    lines = list(as_text(LABELS))
    assert len(lines) == 3
    assert lines[0].split() == ['a,"b".png', "75.0%", "cat", "(dog", "25.0%)"]
    assert lines[2].startswith("bad\\n.png")
    assert "cannot be read: the file is empty" in lines[2]


def test_errors_are_counted_and_told(capsys):
    assert print_labels(iter(LABELS), 3, "csv") == 1
    said = capsys.readouterr()
    assert said.out.startswith("picture,class,")
    assert "1 of 3 pictures could not be read" in said.err


def test_what_cannot_be_read_in_a_folder_is_not_passed_over(run, tmp_path):
    (tmp_path / "real").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "real" / "a.png")
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "linked").symlink_to(tmp_path / "real")
    (folder / "dangling.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "pipe.png")
    (folder / "around").symlink_to(folder)
    labels = {Path(label.picture).name: label.error for label in label_pictures(run, find_pictures([str(folder)]))}
    assert labels["a.png"] is None
    assert labels["pipe.png"] == "it is not a file"
    assert "No such file" in labels["dangling.png"]
    assert len(labels) == 3
