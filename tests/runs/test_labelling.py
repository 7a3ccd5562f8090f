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
from dropkit.layers.base import DropLayer
from dropkit.masks import key_words, site_of
from dropkit.runs.config import TrainConfig
from dropkit.runs.inference import ReadyNetwork
from dropkit.runs.label_output import as_csv, as_json, as_text, print_labels
from dropkit.runs.labelling import Label, Sampled, find_pictures, label_pictures
from dropkit.runs.training import load_data, train
from dropkit.uncertainty.prediction import predict
from dropkit.uncertainty.sampling import sample


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


@pytest.mark.parametrize("samples", [0, 2])
def test_no_more_pictures_are_read_than_labels_are_asked_for(run, files, monkeypatch, samples):
    monkeypatch.setattr("dropkit.runs.labelling.BATCH", 2)
    pictures = iter(find_pictures([str(files)]))
    labels = label_pictures(run, pictures, samples=samples, device="cpu")
    next(labels)
    assert len(list(pictures)) == 7 - 2


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


def test_samples_are_the_mean_of_thinned_networks_with_what_it_says(run, files):
    labels = list(label_pictures(run, find_pictures([str(files)]), samples=11, seed=3, device="cpu"))
    pictures, split = load_data(TrainConfig(data="digits"))
    network = ReadyNetwork(run, "cpu")
    x = network.normalised(pictures.read(torch.from_numpy(split.test[:7])))
    found = predict(network.model, x, n=11, seed=3)
    for row, label in enumerate(labels):
        given = [label.probabilities[name] for name in network.class_names]
        assert given == pytest.approx(found.probabilities[row].tolist(), abs=1e-6)
        assert label.class_name == network.class_names[int(found.label[row])]
        assert label.sampled.samples == 11
        assert label.sampled.interval == pytest.approx(tuple(found.interval[row].tolist()), abs=1e-6)
        for name in ("std", "entropy", "expected_entropy", "mutual_information", "variation_ratio"):
            assert getattr(label.sampled, name) == pytest.approx(float(getattr(found, name)[row]), abs=1e-6), name
        assert label.entropy == label.sampled.entropy


@pytest.mark.parametrize("batch", [1, 3])
def test_neither_batches_nor_broken_files_change_the_masks(run, files, tmp_path, monkeypatch, batch):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    paths = find_pictures([str(files)])
    whole = list(label_pictures(run, paths, samples=5, device="cpu"))
    monkeypatch.setattr("dropkit.runs.labelling.BATCH", batch)
    paths[2] = tmp_path / "broken.png"
    labels = list(label_pictures(run, paths, samples=5, device="cpu"))
    assert [place for place, label in enumerate(labels) if label.error] == [2]
    for place in (0, 1, 3, 4, 5, 6):
        assert labels[place].sampled.mutual_information == pytest.approx(
            whole[place].sampled.mutual_information, abs=1e-5
        )


def test_a_run_without_dropout_cannot_be_sampled_and_says_so_before_a_picture_is_asked_for(short):
    without = train(short(dropout="none", epochs=1), progress=False, page=False)
    with pytest.raises(DropkitError, match="all thinned networks of this MLP would be the same"):
        label_pictures(without, [Path("nowhere.png")], samples=5)


@pytest.mark.parametrize("samples", [-1, True, 1, 2.5])
def test_samples_are_none_or_enough_for_an_interval(run, samples):
    with pytest.raises(DropkitError, match=f"must be 0, for a single pass, or .* at least 2 .* but got {samples}"):
        label_pictures(run, [], samples=samples)


@pytest.mark.parametrize("seed", [0, 3])
def test_a_single_pass_has_no_seed(run, seed):
    with pytest.raises(DropkitError, match="the seed is that of thinned networks' masks: give --samples too"):
        label_pictures(run, [Path("nowhere.png")], seed=seed)


def test_the_seed_is_that_of_the_masks_and_is_told(run, files):
    paths = find_pictures([str(files)])
    one, other, again = (list(label_pictures(run, paths, samples=5, seed=seed, device="cpu")) for seed in (3, 4, 3))
    assert one == again
    assert all(a.sampled.std != b.sampled.std for a, b in zip(one, other, strict=True))
    assert [json.loads(line.lstrip("[,"))["seed"] for line in list(as_json(other))[:-1]] == [4] * 7
    with pytest.raises(DropkitError, match=r"seed a whole number of 0 or more, below 2\*\*64, but got -1"):
        label_pictures(run, [Path("nowhere.png")], samples=5, seed=-1)


def test_a_network_that_must_be_run_draw_by_draw_is_noted_once(run, files, capsys, monkeypatch):
    def slow(*args, **kwargs):
        raise RuntimeError("vmap cannot\nfollow")

    monkeypatch.setattr("torch.vmap", slow)
    monkeypatch.setattr("dropkit.runs.labelling.BATCH", 2)
    assert len(list(label_pictures(run, find_pictures([str(files)]), samples=3, device="cpu"))) == 7
    said = capsys.readouterr().err
    assert said == (
        "note: the thinned networks are computed one after the other, which takes longer: vmap cannot follow\n"
    )


SAMPLED = [
    Label("a.png", {"cat": 0.75, "dog": 0.25}, sampled=Sampled(5, (0.5, 0.875), 0.1, 0.6, 0.4, 0.2, 0.0)),
    Label("bad.png", {}, error="the file is empty"),
]


def test_csv_of_samples_has_all_figures():
    rows = list(csv.DictReader(io.StringIO("\n".join(as_csv(SAMPLED, sampled=True)))))
    first = {"picture": "a.png", "class": "cat", "probability": "0.750000"}
    first |= {"second_class": "dog", "second_probability": "0.250000", "samples": "5"}
    first |= {"interval_low": "0.500000", "interval_high": "0.875000", "std": "0.100000", "entropy": "0.600000"}
    first |= {"expected_entropy": "0.400000", "mutual_information": "0.200000", "variation_ratio": "0.000000"}
    assert rows[0] == {**first, "error": ""}
    assert rows[1] == {**dict.fromkeys(first, ""), "picture": "bad.png", "error": "the file is empty"}


def test_json_and_text_of_samples_have_the_figures():
    rows = json.loads("\n".join(as_json(SAMPLED)))
    assert rows[0]["interval"] == [0.5, 0.875]
    assert (rows[0]["samples"], rows[0]["entropy"], rows[0]["variation_ratio"]) == (5, 0.6, 0.0)
    assert "samples" not in rows[1]
    first, second = as_text(SAMPLED)
    assert " ".join(first.split()) == (
        "a.png 75.0% [ 50.0% to 87.5%] cat (dog 25.0%) entropy 0.600, mutual information 0.200, std 0.100"
    )
    assert second.endswith("cannot be read: the file is empty")


def test_the_entropy_of_a_single_pass_is_that_of_its_probabilities():
    assert LABELS[0].entropy == pytest.approx(0.5623351446)
    assert str(Label("a", {"cat": 1.0, "dog": 0.0}).entropy) == "0.0"
    assert LABELS[2].entropy is None


def test_dropout_within_attention_is_noted_once(run, files, capsys, monkeypatch):
    class Attending(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = torch.nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
            self.drop, self.fc = torch.nn.Dropout(0.5), torch.nn.Linear(8, 10)

        def forward(self, x):
            rows = x.flatten(1, 2)
            return self.fc(self.drop(self.attention(rows, rows, rows)[0].mean(1)))

    monkeypatch.setattr(type(run), "model", lambda self: Attending().eval())
    monkeypatch.setattr("dropkit.runs.labelling.BATCH", 2)
    assert len(list(label_pictures(run, find_pictures([str(files)]), samples=3, device="cpu"))) == 7
    assert capsys.readouterr().err.count("note: dropout within attention") == 1


def test_of_a_run_with_published_weights_the_head_alone_drops(short, published):
    """The frozen network has dropout of its own, which was off while its features were computed."""
    how = {"model": "torchvision:mobilenet_v3_small", "pretrained": True, "image_size": "32", "precision": "float32"}
    model = ReadyNetwork(train(short(dropout="head=0.5", epochs=1, max_train=60, **how), progress=False), "cpu").model
    assert model.backbone.classifier[2].p == 0.2
    model.head.fc.bias.data.zero_()  # beside it the features of random weights are too small to be seen
    x = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    draws = sample(model, x, n=3, chunk=3)
    ((path, layer),) = [(path, module) for path, module in model.head.named_modules() if isinstance(module, DropLayer)]
    features, largest = model.backbone(x), float(draws.abs().max())
    layer.train()
    for draw, logits in enumerate(draws):
        layer.key = key_words(0, site_of(f"head.{path}"), draw, 0)
        torch.testing.assert_close(model.head(features).detach(), logits, rtol=1e-4, atol=1e-4 * largest)
    assert draws.std(0).max() > 0.01 * largest
