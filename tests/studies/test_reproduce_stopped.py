"""A reproduction that is killed, that computes elsewhere, or whose pictures cannot be had."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dropkit import cli
from dropkit.errors import DropkitError
from dropkit.runs.config import TrainConfig
from dropkit.studies import reproduce as module
from dropkit.studies.executor import LocalProcesses
from dropkit.studies.recipes import data_sources
from dropkit.studies.recipes.recipe import Claim, Recipe, Row, Sizes
from dropkit.studies.recipes.registry import RECIPES
from dropkit.studies.reproduce import reproduce

PAPER = "srivastava2014"
DEADLINE = 120.0  # seconds that a killed training may take to begin, on a busy machine

# Trains four times; the kill falls into a training after the first, whatever the machine's pace.
KILLED = """
import sys
sys.path.insert(0, {here!r})
import test_reproduce_stopped as recipes
from dropkit.studies.recipes.registry import RECIPES
from dropkit.studies.reproduce import reproduce
RECIPES[recipes.PAPER]["table-9"] = recipes.tiny
reproduce(recipes.PAPER, "9", data={data!r}, out={out!r}, workers=1, progress=False)
"""


def tiny(budget):
    def row(name, policy):
        return Row(name=name, config=TrainConfig(data="mnist", model="mlp:16", dropout=policy, epochs=3))

    return Recipe(
        paper=PAPER,
        table="table-9",
        budget=budget,
        title="Tiny",
        where="nowhere",
        rows=(row("none", "none"), row("dropout", "fc=0.5")),
        pictures={"mnist": Sizes(400, 100)},
        claims=(Claim("dropout", "none"),),
        why="as it is tiny",
        differences=("All is tiny.",),
        seeds=2,
    )


@pytest.fixture(autouse=True)
def one_recipe(monkeypatch):
    monkeypatch.setitem(RECIPES[PAPER], "table-9", tiny)


def wait_until(true):
    end = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < end, "it did not come so far"
        time.sleep(0.01)


def stamps(folder):
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("runs/*/summary.json")}


def test_what_is_killed_goes_on_and_repeats_nothing(small_mnist, tmp_path):
    folder = tmp_path / "killed"
    code = KILLED.format(here=str(Path(__file__).parent), data=str(small_mnist), out=str(folder))
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        second = folder / "runs" / "dropout-seed0" / "metrics.jsonl"
        wait_until(lambda: process.poll() is not None or (second.is_file() and second.stat().st_size > 0))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = stamps(folder)
    assert "none-seed0" in before
    assert len(before) < 4
    assert not (folder / "reproduction.json").exists()
    told = reproduce(PAPER, "9", out=folder, workers=1, progress=False)
    assert told.record["trained"] == 4 - len(before)
    after = stamps(folder)
    assert {name: after[name] for name in before} == before
    whole = reproduce(PAPER, "9", data=small_mnist, out=tmp_path / "whole", workers=1, progress=False)
    assert [told.record[part] for part in ("rows", "claims")] == [whole.record[part] for part in ("rows", "claims")]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--workers", "2"], (2, None, None, None, None)),
        (["--ray", "10.0.0.1:6379", "--cpus-per-trial", "2"], (None, None, "10.0.0.1:6379", 2.0, None)),
        (["--ray", "auto", "--gpus-per-trial", "0.25"], (None, None, "auto", None, 0.25)),
    ],
)
def test_workers_and_ray_choose_the_executor_of_every_study(monkeypatch, capfd, tmp_path, small_mnist, words, wanted):
    asked, mapped = [], []

    class Seen(LocalProcesses):
        def map(self, configs, pictures, spool, **how):
            mapped.append(([config.folder().name for config in configs], len(pictures), spool))
            raise DropkitError("seen")

    def choose(*given):
        asked.append(given)
        return Seen(1, None)

    monkeypatch.setattr(module, "choose_executor", choose)
    out = tmp_path / "r"
    given = ["--table", "9", "--data", str(small_mnist), "--out", str(out)]
    with pytest.raises(SystemExit) as ended:
        cli.main(["reproduce", PAPER, *given, *words])
    assert (ended.value.code, asked) == (2, [wanted])
    assert mapped == [(["none-seed0", "dropout-seed0", "none-seed1", "dropout-seed1"], 797, out)]
    assert "seen" in capfd.readouterr().err


def test_no_pictures_and_no_extra_is_an_error_that_names_the_extra(monkeypatch, capfd, tmp_path):
    monkeypatch.setattr(data_sources, "DEFAULT_FOLDER", tmp_path / "nothing")
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main(["reproduce", PAPER, "--table", "9"])
    told = " ".join(capfd.readouterr().err.split())
    assert ended.value.code == 2
    assert "MNIST: fetched from the Hugging Face hub" in told
    assert "pip install 'dropkit[hub]'" in told
    assert list(tmp_path.iterdir()) == []


def test_pictures_that_are_gone_are_asked_for_anew(small_mnist, tmp_path):
    folder = tmp_path / "r"
    reproduce(PAPER, "9", data=small_mnist, out=folder, seeds=1, workers=1, progress=False)
    (folder / "data" / "mnist.npz").unlink()
    with pytest.raises(DropkitError, match="has no mnist.npz"):
        reproduce(PAPER, "9", data=tmp_path / "nothing", out=folder, workers=1, progress=False)
    assert reproduce(PAPER, "9", data=small_mnist, out=folder, workers=1, progress=False).record["trained"] == 0
