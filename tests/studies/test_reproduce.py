"""A reproduction from end to end, with a small recipe on small pictures: it goes on, and refuses what is another."""

import json
import shutil

import pytest

from dropkit import cli
from dropkit.errors import DropkitError
from dropkit.files import read_json, write_json
from dropkit.runs.config import TrainConfig
from dropkit.runs.record import RunFolder
from dropkit.runs.training import train
from dropkit.studies.recipes.recipe import Claim, Measure, Recipe, Row, Sizes, at_most, percent
from dropkit.studies.recipes.registry import RECIPES
from dropkit.studies.reopen import best_run, rebuild_page
from dropkit.studies.reproduce import reproduce
from dropkit.studies.reproduction_plan import ReproductionPlan

PAPER = "srivastava2014"


def config(policy):
    return TrainConfig(data="mnist", model="mlp:32", dropout=policy, epochs=2)


def small(budget):
    rows = (
        Row(name="none", config=config("none"), paper=percent(1.62)),
        Row(name="dropout", config=config("fc=0.5"), paper=percent(1.05, 0.1)),
        Row(name="average of 2", config=config("fc=0.5"), measure=Measure("average", 2)),
    )
    return Recipe(
        paper=PAPER,
        table="table-9",
        budget=budget,
        title="Small",
        where="nowhere",
        rows=rows,
        pictures={"mnist": Sizes(400, 100)},
        claims=(Claim("dropout", "none"),),
        why="as it is small",
        differences=("All is small.",),
        marks=(at_most("dropout", 1.05),),
        seeds=2,
    )


@pytest.fixture(autouse=True)
def one_recipe(monkeypatch):
    monkeypatch.setitem(RECIPES[PAPER], "table-9", small)


@pytest.fixture(scope="module")
def made(tmp_path_factory, small_mnist):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES[PAPER], "table-9", small)
        folder = tmp_path_factory.mktemp("reproduction") / "r"
        return reproduce(PAPER, "9", data=small_mnist, out=folder, workers=1, progress=False)


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made.folder, tmp_path / "copy")


def again(folder, **how):
    return reproduce(PAPER, "9", out=folder, workers=1, progress=False, **how)


def test_the_record_is_kept_whole(made):
    record = read_json(made.folder / "reproduction.json")
    assert record == json.loads(json.dumps(made.record))
    assert (record["kind"], record["table"], record["budget"], record["seeds"]) == (
        "reproduction",
        "table-9",
        "quick",
        [0, 1],
    )
    assert record["trained"] == 4
    assert {row["name"]: row["n"] for row in record["rows"]} == {"none": 2, "dropout": 2, "average of 2": 2}
    assert [run["folder"] for run in record["runs"]] == [
        "runs/none-seed0",
        "runs/none-seed1",
        "runs/dropout-seed0",
        "runs/dropout-seed1",
    ]
    assert (record["data"]["train"], record["data"]["val"], record["data"]["test"]) == (400, 100, 297)
    assert record["command"] == f"dropkit reproduce srivastava2014 --table table-9 --budget quick --out {made.folder}"
    errors = [run["summary"]["test"]["error"] for run in record["runs"][:2]]
    assert record["rows"][0]["values"] == errors


def test_it_prints_ours_beside_the_papers(made):
    text = str(made)
    for part in (
        "1.62%",
        "1.05% ±0.10",
        "All is small.",
        "Mark not reached: dropout: at or under 1.05%",
        "4 trainings",
    ):
        assert part in text
    lines = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert lines["none"][1] == "2"
    assert lines["average of 2"][-1] == "-"


def test_a_finished_reproduction_trains_nothing_and_says_the_same(copy, made, monkeypatch):
    monkeypatch.setattr("dropkit.studies.executor.advance", lambda *args, **how: pytest.fail("trained again"))
    told = again(copy)
    assert told.record["trained"] == 0
    assert told.record["rows"] == made.record["rows"]
    assert told.record["claims"] == made.record["claims"]


def test_a_stopped_reproduction_goes_on_with_what_is_missing(copy, made):
    shutil.rmtree(copy / "runs" / "dropout-seed1")
    (copy / "reproduction.json").unlink()
    told = again(copy)
    assert told.record["trained"] == 1
    assert told.record["rows"] == made.record["rows"]  # bit-equal: the same seed, pictures and thread count


def test_more_seeds_add_trainings_and_fewer_are_refused(copy):
    assert again(copy, seeds=3).record["trained"] == 2
    with pytest.raises(DropkitError, match="was begun with 3 seeds: ask for as many or more"):
        again(copy, seeds=2)
    assert again(copy).record["seeds"] == [0, 1, 2]


def test_other_budgets_tables_and_recipes_are_refused(copy, monkeypatch):
    with pytest.raises(DropkitError, match="holds another reproduction: budget is 'quick' there and 'paper' here"):
        reproduce(PAPER, "9", budget="paper", out=copy, progress=False)
    with pytest.raises(DropkitError, match="table is 'table-9' there and 'figure-8' here"):
        reproduce(PAPER, "figure-8", out=copy, progress=False)
    longer = small("quick").scaled(2.0)
    monkeypatch.setitem(RECIPES[PAPER], "table-9", lambda budget: longer)
    with pytest.raises(DropkitError, match="begun with another recipe of table-9"):
        again(copy)


def test_other_pictures_are_refused(copy, small_mnist, tmp_path):
    import numpy as np

    with np.load(small_mnist / "mnist.npz") as stored:
        arrays = dict(stored)
    (tmp_path / "other").mkdir()
    np.savez(tmp_path / "other" / "mnist.npz", **{**arrays, "train_images": arrays["train_images"][::-1]})
    with pytest.raises(DropkitError, match="was begun with other pictures than .*other"):
        again(copy, data=tmp_path / "other")
    assert again(copy, data=small_mnist).record["trained"] == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: (path / "notes.txt").write_text("x"), "holds something else"),
        (lambda path: write_json(path / "study-config.json", {}), "holds a study"),
        (lambda path: write_json(path / "config.json", {}), "holds a single run"),
    ],
)
def test_folders_of_something_else_are_refused(tmp_path, small_mnist, make, message):
    make(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DropkitError, match=message):
        again(tmp_path, data=small_mnist)
    assert sorted(tmp_path.iterdir()) == before


def test_nothing_is_written_where_the_pictures_are_not_there(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DropkitError, match="has no mnist.npz"):
        again(tmp_path / "out", data=tmp_path / "empty")
    assert not (tmp_path / "out").exists()


def test_the_page_is_rebuilt_and_the_folder_explains_itself(copy, made):
    before = (copy / "report.html").read_bytes()
    (copy / "report.html").unlink()
    assert rebuild_page(copy) == copy / "report.html"
    assert (copy / "report.html").read_bytes() == before
    with pytest.raises(DropkitError, match="holds a reproduction, whose networks are those of the runs in its folder"):
        best_run(copy)
    assert best_run(copy / "runs" / "none-seed0").config.seed == 0
    (copy / "reproduction.json").write_text("{}")
    with pytest.raises(DropkitError, match="is damaged: run the reproduce command again"):
        rebuild_page(copy)
    (copy / "reproduction.json").unlink()
    with pytest.raises(DropkitError, match="a reproduction that is not finished"):
        rebuild_page(copy)


def test_a_moved_reproduction_finds_its_pictures(copy, monkeypatch):
    plan = ReproductionPlan(small("quick"), copy)
    plan.settle_seeds(None)
    assert {run.config.data for runs in plan.groups().values() for run in runs} == {str(copy / "data" / "mnist.npz")}


def test_seeds_come_in_whole_rounds(made):
    plan = ReproductionPlan(small("quick"), made.folder)
    assert [config.folder().name for config in plan.runs()] == [
        "none-seed0",
        "dropout-seed0",
        "none-seed1",
        "dropout-seed1",
    ]


def test_the_folder_has_a_name_of_its_own():
    assert str(ReproductionPlan(small("paper")).folder) == "reproductions/srivastava2014-table-9-paper"


def test_the_command(capfd, tmp_path, small_mnist):
    words = ["reproduce", PAPER, "--table", "9", "--data", str(small_mnist), "--out", str(tmp_path / "r")]
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--workers", "1"])
    out, err = capfd.readouterr()
    assert ended.value.code == 0
    assert "4 trainings, about" in err
    assert f"MNIST: from {small_mnist / 'mnist.npz'}" in err
    assert "Small (nowhere), quick budget; mean over 2 seeds" in out
    assert f"page: {tmp_path / 'r' / 'report.html'}" in out
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--json"])
    out, err = capfd.readouterr()
    assert (ended.value.code, json.loads(out)["kind"]) == (0, "reproduction")
    assert "all 4 trainings are finished; the table is computed anew" in err


def test_a_diverged_training_is_exit_code_1(capfd, copy):
    path = copy / "runs" / "none-seed1" / "summary.json"
    write_json(path, {**read_json(path), "status": "diverged"})
    with pytest.raises(SystemExit) as ended:
        cli.main(["reproduce", PAPER, "--table", "9", "--out", str(copy), "--workers", "1"])
    assert ended.value.code == 1
    assert "1 training diverged and is left out" in " ".join(capfd.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--table", "99"], "unknown table or figure of srivastava2014 '99'"),
        ([], "name a table or figure of srivastava2014 with --table: allowed are table-4"),
        (["--table", "9", "--seeds", "0"], "seeds must be a whole number of at least 1, but got 0"),
        (["--table", "9", "--gpus-per-trial", "1"], "is of a Ray cluster"),
    ],
)
def test_mistakes_are_words(capfd, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main(["reproduce", PAPER, *words])
    assert ended.value.code == 2
    assert message in " ".join(capfd.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_another_training_in_the_way_is_refused(copy, small_mnist):
    folder = copy / "runs" / "none-seed0"
    shutil.rmtree(folder)
    train(TrainConfig(data="digits", model="mlp:8", epochs=1, out=str(folder), threads=1), progress=False, page=False)
    assert RunFolder(folder).finished
    with pytest.raises(DropkitError, match="holds another run"):
        again(copy)
