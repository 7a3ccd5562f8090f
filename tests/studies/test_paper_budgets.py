"""The script of the paper's budgets: it stops in time, goes on, and says which marks are reached."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from dropkit.files import read_json
from dropkit.runs.record import RunFolder
from dropkit.studies.recipes.recipe import Recipe, Row, at_most
from dropkit.studies.recipes.registry import RECIPES
from dropkit.studies.recipes.srivastava2014 import mnist

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "paper_budgets.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("paper_budgets", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def small(budget):
    rows = tuple(
        Row(name=name, config=mnist.training("mlp:16", policy, epochs=5))
        for name, policy in (("none", "none"), ("dropout", "fc=0.5"))
    )
    return Recipe(
        paper="srivastava2014",
        table="table-9",
        budget=budget,
        title="Small",
        where="nowhere",
        rows=rows,
        pictures={"mnist": mnist.PICTURES[budget]},
        claims=(),
        why="why",
        differences=("All is small.",),
        marks=(at_most("none", 99), at_most("dropout", 0)),
        seeds=2,
    )


@pytest.fixture
def run(script, monkeypatch, small_mnist, tmp_path, capsys):
    """Run the script on a share of the recipe; return its exit code and what it printed."""
    monkeypatch.setitem(RECIPES["srivastava2014"], "table-9", small)

    def once(*words):
        given = [str(small_mnist), str(tmp_path / "out"), "--table", "table-9", "--scale", "0.02", *map(str, words)]
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *given])
        code = 0
        try:
            script.main()
        except SystemExit as ended:
            code = ended.code
        return code, capsys.readouterr().out

    return once


def test_it_goes_on_epoch_by_epoch_and_says_what_is_reached(run, script, monkeypatch, tmp_path):
    stops = iter([1, 0, 1, 1, 0])
    original = script.piece
    monkeypatch.setattr(script, "piece", lambda *args: next(stops))
    code, out = run()
    assert code == script.LEFT
    assert "table-9 none-seed0: epoch 1 of 1" in out
    assert "table-9: 3 trainings with 3 epochs are left" in out
    assert "Mark reached: none: at or under 99%" in out
    assert "Mark still open: dropout: at or under 0%" in out
    assert not (tmp_path / "out" / "table-9" / "reproduction.json").exists()
    code, out = run()
    assert code == script.LEFT
    assert "none-seed1" in out
    assert "none-seed0: epoch" not in out
    assert "Mark not reached: dropout: at or under 0%" in out
    monkeypatch.setattr(script, "piece", original)
    code, out = run()
    assert code == 0
    assert "everything is finished" in out
    assert "What is not as in the paper" in out
    record = read_json(tmp_path / "out" / "table-9" / "reproduction.json")
    assert [row["n"] for row in record["rows"]] == [2, 2]


def test_no_time_is_no_training(run, script, tmp_path):
    code, out = run("--minutes", "0")
    assert code == script.LEFT
    assert "left: table-9; the same command goes on" in out
    assert not (tmp_path / "out").exists()


def test_pieces_fit_into_what_is_left(script, monkeypatch):
    monkeypatch.setattr(script, "pace", lambda plan, config: 2.0)
    assert [script.piece(None, None, left) for left in (500, 30, 15, 14, 5, -3)] == [22, 10, 2, 0, 0, 0]
    monkeypatch.setattr(script, "pace", lambda plan, config: 300.0)
    assert [script.piece(None, None, left) for left in (1000, 611, 600)] == [1, 1, 0]
    monkeypatch.setattr(script, "pace", lambda plan, config: None)
    assert [script.piece(None, None, left) for left in (500, 11, 10)] == [1, 1, 0]


def test_the_pace_is_a_runs_own_or_another_seeds(script, tmp_path):
    plan = script.ReproductionPlan(small("quick"), tmp_path)
    first, second = (plan.config("none", seed) for seed in (0, 1))
    assert script.pace(plan, first) is None
    for config, seconds in ((second, 8.0), (first, 6.0)):
        config.folder().mkdir(parents=True)
        for epoch in (1, 2):
            RunFolder(config.folder()).append_metrics({"epoch": epoch, "seconds": epoch * seconds / 2})
        assert script.pace(plan, first) == seconds / 2
    assert script.pace(plan, plan.config("dropout", 0)) is None
    assert script.epochs_of(first) == 2


def test_the_recipes_are_the_papers_and_their_shares(script):
    args = script.argparse.Namespace(scale=1)
    assert script.recipe_of("table-4", args).budget == "paper"
    args.scale = 0.1
    assert script.recipe_of("table-4", args).pictures["cifar10"].train == 4500
    assert set(script.TABLES) == set(RECIPES["srivastava2014"])


EXTRAS = ("datasets", "optuna", "ray", "timm", "torchvision", "tensorboard", "onnx", "onnxruntime")


def test_it_needs_no_extra(small_mnist, tmp_path):
    words = [str(SCRIPT), str(small_mnist), str(tmp_path / "out"), "--table", "table-9", "--scale", "0.001"]
    words += ["--seeds", "1", "--minutes", "0.4"]
    code = f"import runpy, sys; sys.modules.update(dict.fromkeys({EXTRAS})); sys.argv = {words}"
    code += "; runpy.run_path(sys.argv[0], run_name='__main__')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "left: table-9" in ended.stdout or "everything is finished" in ended.stdout, ended.stderr
    assert "epoch 1 of" in ended.stdout
