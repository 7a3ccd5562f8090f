"""What `dropkit uncertainty` measures: the library's figures on the run's own pictures, streamed; errors are words."""

import json
import os

import numpy as np
import pytest
import torch
from rich.console import Console

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
