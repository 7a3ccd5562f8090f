"""What `dropkit uncertainty` measures: the library's figures on the run's own pictures, streamed; errors are words."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from dropkit import cli
from dropkit.cli.said import GOES_ON
from dropkit.data.decoding import decode
from dropkit.errors import DropkitError
from dropkit.files import read_json, write_json
from dropkit.runs import uncertainty
from dropkit.runs.config import TrainConfig
from dropkit.runs.inference import ReadyNetwork
from dropkit.runs.outside import load_outside, recoloured
from dropkit.runs.run import Run
from dropkit.runs.scores import Averages, Scores
from dropkit.runs.training import load_data, train
from dropkit.runs.uncertainty import keep, measure
from dropkit.runs.uncertainty_output import print_uncertainty
from dropkit.uncertainty import calibration, ranking
from dropkit.uncertainty.prediction import statistics
from dropkit.uncertainty.sampling import sample

SAMPLES = 7


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "r"
    config = TrainConfig(data="digits", model="mlp", epochs=2, threads=1, dropout="fc=0.5", out=str(folder))
    return train(config, progress=False, page=False)


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    """Coloured noise of another size."""
    path = tmp_path_factory.mktemp("ood") / "noise.npz"
    rng = np.random.default_rng(0)
    labels = np.arange(53) % 2
    np.savez(path, train_images=rng.integers(0, 256, (53, 11, 13, 3), dtype=np.uint8), train_labels=labels)
    return str(path)


@pytest.fixture(scope="module")
def record(run, strange):
    return measure(run, samples=SAMPLES, ood=strange, progress=False)


@pytest.fixture(scope="module")
def drawn(run):
    """Logits of the single pass and of the draws, and labels, for the test and the validation pictures at once."""
    network = ReadyNetwork(run, "cpu")
    pictures, split = load_data(TrainConfig(data="digits"))
    found = {}
    for name, indices, first in (("test", split.test, 0), ("val", split.val, len(split.test))):
        chosen = torch.from_numpy(indices)
        x = network.normalised(pictures.read(chosen))
        with torch.no_grad():
            single = network.model(x)
        found[name] = single, sample(network.model, x, SAMPLES, 0, first_sample=first), pictures.labels[chosen]
    return found


def test_every_figure_is_the_librarys(record, drawn):
    single, draws, labels = drawn["test"]
    temperatures = [calibration.fit_temperature(logits, drawn["val"][2]) for logits in drawn["val"][:2]]
    assert list(record["temperature"].values()) == pytest.approx(temperatures, rel=1e-4)
    assert [(row["way"], row["scaled"]) for row in record["methods"]] == [
        ("single", False),
        ("single", True),
        ("average", False),
        ("average", True),
    ]
    scales = [1, temperatures[0], 1, temperatures[1]]
    for row, logits, scale in zip(record["methods"], (single, single, draws, draws), scales, strict=True):
        p = calibration.temperature_scaled(logits, scale)
        assert row["temperature"] == pytest.approx(scale, rel=1e-4)
        assert row["error"] == pytest.approx((p.argmax(1) != labels.numpy()).mean())
        for name in ("nll", "brier", "ece"):
            assert row[name] == pytest.approx(getattr(calibration, name)(p, labels), abs=1e-5), name
        assert row["ece_mass"] == pytest.approx(calibration.ece(p, labels, binning="mass"), abs=1e-5)
        assert row["aurc"] == pytest.approx(ranking.aurc(p, labels), abs=1e-5)
    assert len({row["nll"] for row in record["methods"]}) == 4


def test_averages_of_k_are_those_over_all_pictures(record, drawn):
    expected = calibration.averaging(drawn["test"][1], drawn["test"][2], [1, 2, 5, 7])
    for row, found in zip(record["averages"], expected, strict=True):
        assert (row["k"], row["groups"]) == (found.k, found.groups)
        for name in ("error", "error_se", "nll", "nll_se"):
            value = getattr(found, name)
            assert row[name] == (None if value is None else pytest.approx(value, abs=1e-5)), (found.k, name)


def test_the_single_pass_is_the_runs_own(record, run):
    assert record["methods"][0]["error"] == run.summary["test"]["error"]
    assert record["methods"][0]["nll"] == pytest.approx(run.summary["test"]["nll"], abs=1e-5)
    assert record["test"] == run.summary["data"]["test"]


def test_batches_change_nothing(run, record, monkeypatch):
    monkeypatch.setattr(uncertainty, "BATCH", 37)
    again = measure(run, samples=SAMPLES, progress=False)
    for one, other in zip(record["averages"], again["averages"], strict=True):
        assert other == pytest.approx(one, abs=1e-5)
    assert again["ood"] is None


def test_few_enough_validation_pictures_are_kept(run, monkeypatch):
    monkeypatch.setattr(uncertainty, "FIT_NUMBERS", SAMPLES * 10 * 41)
    assert measure(run, samples=SAMPLES, progress=False)["validation"] == 41


def test_other_data_are_told_by_entropy_and_mutual_information(record, run, strange, drawn):
    network = ReadyNetwork(run, "cpu")
    outside = load_outside(strange, (1, 8, 8), most=269, seed=0, fingerprint="")
    x = network.normalised(outside.read(outside.chosen))
    assert x.shape == (53, 1, 8, 8)
    first = run.summary["data"]["test"] + run.summary["data"]["val"]
    there = statistics(sample(network.model, x, SAMPLES, 0, first_sample=first))
    here = statistics(drawn["test"][1])
    ood = record["ood"]
    assert (ood["name"], ood["pictures"], ood["of"]) == ("noise", 53, 53)
    for name in ("entropy", "mutual_information"):
        assert ood["auroc"][name] == pytest.approx(ranking.auroc(getattr(here, name), getattr(there, name)), abs=1e-3)
    with torch.no_grad():
        alone = [statistics(logits[None]).entropy for logits in (drawn["test"][0], network.model(x))]
    assert ood["auroc"]["single_entropy"] == pytest.approx(ranking.auroc(*alone), abs=1e-3)
    assert sum(ood["histograms"]["entropy"]["ood"]) == 53
    assert sum(ood["histograms"]["single_entropy"]["test"]) == 269
    assert ood["edges"][-1] == pytest.approx(np.log(10))


def test_other_data_are_a_seeded_choice_of_as_many(strange):
    chosen = [load_outside(strange, (3, 8, 8), most=17, seed=seed, fingerprint="").chosen for seed in (0, 0, 1)]
    assert len(chosen[0].unique()) == 17
    assert chosen[0].equal(chosen[1])
    assert not chosen[0].equal(chosen[2])


@pytest.fixture
def flat(tmp_path):
    """Pictures of several sizes and colours beside one another, and in one folder; one cannot be read."""
    folder = tmp_path / "flat"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for place in range(13):
        pixels = rng.integers(0, 256, (9 + place, 11, 3) if place % 2 else (9 + place, 11), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / ("more" if place > 10 else "") / f"{place:02}.png")
    (folder / "05.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.mark.parametrize("channels", [1, 3])
def test_other_data_may_be_a_folder_without_classes(flat, channels):
    outside = load_outside(str(flat), (channels, 7, 5), most=100, seed=0, fingerprint="")
    assert (outside.name, outside.found, outside.unreadable) == ("flat", 13, 1)
    assert outside.chosen.tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12]
    found = outside.read(outside.chosen[[1, -1]])
    expected = [decode(flat / name, size=(7, 5), channels=channels) for name in ("01.png", "more/12.png")]
    assert torch.equal(found, torch.tensor(np.stack(expected)))


def test_of_a_folder_without_classes_too_a_seeded_choice_is_taken(flat, run):
    chosen = [load_outside(str(flat), (1, 7, 5), most=4, seed=seed, fingerprint="").chosen for seed in (3, 3, 4)]
    assert [len(which) for which in chosen] == [4] * 3
    assert chosen[0].equal(chosen[1])
    assert not chosen[0].equal(chosen[2])


def test_files_that_cannot_be_read_are_told_and_recorded(flat, run, capsys):
    ood = measure(run, samples=2, ood=str(flat), progress=False)["ood"]
    assert (ood["name"], ood["pictures"], ood["of"], ood["unreadable"]) == ("flat", 12, 13, 1)
    assert "note: 1 file of --ood could not be read\n" in capsys.readouterr().err


@pytest.mark.parametrize("seed", range(5))
def test_others_take_the_place_of_what_cannot_be_read(flat, seed):
    """Of 13 files, 3 of them broken, 8 are asked for: the choice begins as if all could be read."""
    for name in ("02.png", "09.png"):
        (flat / name).write_bytes(b"no picture")
    outside = load_outside(str(flat), (1, 7, 5), most=8, seed=seed, fingerprint="")
    chosen = outside.chosen.tolist()
    assert len(set(chosen)) == 8
    assert chosen == sorted(chosen)
    assert not set(chosen) & {2, 5, 9}
    first = set(np.random.default_rng(seed).choice(13, 8, replace=False).tolist())
    assert first - {2, 5, 9} <= set(chosen)
    assert len(first & {2, 5, 9}) <= outside.unreadable <= 3
    assert len(outside.read(outside.chosen)) == 8


def saved(folder, *names):
    """Grey pictures of values that no two share; what has no picture's name is a file of text."""
    for value, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".png"):
            Image.new("L", (7, 5), 10 * value).save(folder / name)
        else:
            (folder / name).write_text("no picture")


LOOSE = {
    "one folder": ["only/a.png", "only/b.png"],
    "deeper": ["x/y/z/a.png", "x/y/b.png"],
    "beside classes": ["cat/a.png", "dog/b.png", "c.png"],
    "beside classes of a split": ["train/cat/a.png", "train/dog/b.png", "train/c.png"],
    "beside one folder": ["a.png", "only/b.png"],
    "a class without pictures": ["cat/a.png", "dog/x/b.png", "empty/notes.txt"],
}


@pytest.mark.parametrize("name", LOOSE)
def test_what_cannot_be_classes_is_pictures_at_any_depth(name, tmp_path):
    saved(tmp_path, *LOOSE[name])
    outside = load_outside(str(tmp_path), (1, 5, 7), most=9, seed=0, fingerprint="")
    values = sorted(outside.read(outside.chosen)[:, 0, 0, 0].tolist())
    assert values == [10 * value for value, file in enumerate(LOOSE[name]) if file.endswith(".png")]


def test_an_empty_folder_is_told_as_predict_tells_it(tmp_path):
    (tmp_path / "cat").mkdir()
    with pytest.raises(DropkitError, match="the folder .* has no picture: names may end with .bmp"):
        load_outside(str(tmp_path), (1, 5, 7), most=4, seed=0, fingerprint="")


def test_what_is_no_folder_is_told_as_for_a_training(tmp_path):
    with pytest.raises(DropkitError, match="there is no such file or folder"):
        load_outside(str(tmp_path / "nowhere"), (1, 5, 7), most=4, seed=0, fingerprint="")


def test_a_folder_of_what_is_no_picture_is_told(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(DropkitError, match="--ood .* has no picture that can be read"):
        load_outside(str(tmp_path), (1, 7, 5), most=4, seed=0, fingerprint="")


def test_classes_are_read_as_for_a_training(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("L", (7, 5), 9).save(tmp_path / name / "a.png")
    assert load_outside(str(tmp_path), (1, 5, 7), most=4, seed=0, fingerprint="").found == 2


def test_the_seed_is_recorded_and_decides_the_masks(run):
    one, other = (measure(run, samples=2, seed=seed, progress=False) for seed in (3, 4))
    assert (one["seed"], other["seed"]) == (3, 4)
    assert one["methods"][0] == other["methods"][0]
    assert one["methods"][2] != other["methods"][2]
    with pytest.raises(DropkitError, match="seed a whole number of 0 or more"):
        measure(run, seed=-1, progress=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predict", "run", "."], "stopped; the rows that were printed are all there is, and"),
        (["uncertainty", "run"], "stopped; what was measured so far is not kept, and"),
        (["export", "run"], "stopped; no file was written, one that was there stays, and"),
        (["check", "mlp"], "stopped; nothing of it is kept, and"),
    ],
)
def test_ctrl_c_says_what_is_kept(words, said, tmp_path, monkeypatch, capsys):
    def interrupted(*given, **named):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    Image.new("L", (7, 5)).save("a.png")
    monkeypatch.setattr("dropkit.studies.reopen.best_run", interrupted)
    monkeypatch.setattr("dropkit.runs.checking.network_to_check", interrupted)
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == 130
    assert capsys.readouterr().err == f"{said} the same command begins anew\n"


def test_only_what_goes_on_says_so():
    goes_on = {name for name, command in cli.COMMANDS.items() if getattr(command, "stopped", "") == GOES_ON}
    assert {"train", "compare"} <= goes_on
    assert not goes_on & {"predict", "uncertainty", "export", "report", "check", "bench"}


@pytest.mark.parametrize("words", [["predict", "run", "a.png", "--samples", "5"], ["uncertainty", "run"]])
def test_the_commands_pass_their_seed_on(words, tmp_path, run, monkeypatch):
    given = []

    def noted(*args, **named):
        given.append(named["seed"])
        raise DropkitError("enough")

    monkeypatch.chdir(tmp_path)
    Image.new("L", (7, 5)).save("a.png")
    monkeypatch.setattr("dropkit.studies.reopen.best_run", lambda folder: run)
    monkeypatch.setattr("dropkit.runs.uncertainty.measure", noted)
    monkeypatch.setattr("dropkit.runs.labelling.label_pictures", noted)
    for seed in ([], ["--seed", "17"]):
        with pytest.raises(SystemExit):
            cli.main([*words, *seed])
    assert given == [None if words[0] == "predict" else 0, 17]


def test_colours_become_grey_as_in_decoding_and_grey_becomes_coloured():
    colours = torch.tensor([[[[255]], [[0]], [[0]]], [[[9]], [[9]], [[9]]]], dtype=torch.uint8)
    assert recoloured(colours, 1).flatten().tolist() == [76, 9]  # 0.299 * 255
    assert recoloured(colours[:, :1], 3).shape == (2, 3, 1, 1)


def test_scores_of_parts_are_those_of_the_whole():
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(3), 31), rng.integers(0, 3, 31)
    scores = Scores()
    for part in (slice(0, 7), slice(7, 31)):
        scores.add(p[part], y[part])
    found = scores.figures()
    assert found["brier"] == pytest.approx(calibration.brier(p, y))
    assert found["aurc"] == pytest.approx(ranking.aurc(p, y))  # also where a top probability is under a half
    assert sum(scores.reliability()["count"]) == 31
    curve = scores.curve()
    assert curve["risk"][-1] == pytest.approx(found["error"])
    scores.add([[0.0, 1.0, 0.0]], [0])
    assert scores.figures()["nll"] is None  # infinite: JSON has no word for it


def test_averages_of_one_group_have_no_error():
    averages = Averages(5, [2, 5])
    averages.add(torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2]))
    assert [(row["groups"], row["nll_se"] is None) for row in averages.rows()] == [(2, False), (1, True)]


def test_the_record_is_kept_and_the_page_shows_it(run, record):
    page = keep(run, record)
    assert read_json(run.folder / "uncertainty.json") == json.loads(json.dumps(record))
    assert 'id="uncertainty-error"' in page.read_text(encoding="utf-8")


def test_tables_are_plain_and_whole_however_narrow(record):
    console = Console(width=40, force_terminal=False)
    with console.capture() as captured:
        print_uncertainty({**record, "notes": ["few pictures"]}, console)
    lines = captured.get().splitlines()
    assert lines[0].startswith("269 test pictures, 7 thinned networks; temperatures T fitted on 270 validation")
    assert sum(line.startswith("| single pass") for line in lines) == 3
    assert sum(line.startswith("| average of 7") for line in lines) == 2
    assert any(line.startswith("| mutual information") for line in lines)
    assert lines[-1] == "note: few pictures"
    assert f"{record['methods'][2]['error']:.2%}" in captured.get()


def test_a_run_without_dropout_is_told_before_pictures_are_read(tmp_path, short, monkeypatch):
    run = train(short(dropout="none", epochs=1), progress=False, page=False)
    monkeypatch.setattr(uncertainty, "load", None)
    with pytest.raises(DropkitError, match="all thinned networks of this MLP would be the same"):
        measure(run, progress=False)


@pytest.mark.parametrize("samples", [0, 1, -3, True, 2.5])
def test_too_few_samples_are_told(run, samples):
    with pytest.raises(DropkitError, match="2 or more"):
        measure(run, samples=samples, progress=False)


def test_a_run_that_diverged_at_once_has_no_network(run):
    with pytest.raises(DropkitError, match="it has no network"):
        measure(Run(run.folder, run.config, {**run.summary, "test": None}, []), progress=False)


def test_the_runs_own_data_are_no_other_data(run):
    with pytest.raises(DropkitError, match="is the run's own data"):
        measure(run, samples=2, ood="digits", progress=False)


def test_data_that_changed_are_told(run, tmp_path, monkeypatch):
    split = read_json(run.folder / "split.json")
    write_json(tmp_path / "split.json", {**split, "fingerprint": "0" * 64})
    monkeypatch.setattr(uncertainty, "RunFolder", lambda folder: type("F", (), {"split": tmp_path / "split.json"}))
    with pytest.raises(DropkitError, match="the split was made for other data"):
        measure(run, samples=2, progress=False)


def test_a_folder_that_cannot_be_written_to_is_told(run, monkeypatch):
    uncertainty.require_writable(run)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(DropkitError, match="cannot write to the folder"):
        uncertainty.require_writable(run)
