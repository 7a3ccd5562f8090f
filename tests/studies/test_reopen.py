"""A folder opened again: its page, its best run, and folders that hold something else."""

import shutil

import pytest

from dropkit.errors import DropkitError
from dropkit.files import read_json, write_json
from dropkit.runs.run import Run
from dropkit.runs.training import train
from dropkit.studies.reopen import best_run, rebuild_page, reopen
from dropkit.studies.study import Study


@pytest.fixture(scope="module")
def study(tmp_path_factory, study_of):
    return study_of(tmp_path_factory.mktemp("study") / "out", "none", "fc=0.5", epochs=1, max_train=211)


def test_a_studys_page_is_rebuilt_from_its_records(study):
    before = study.page.read_bytes()
    study.page.write_text("lost")
    assert rebuild_page(study.folder) == study.page
    assert study.page.read_bytes() == before
    assert read_json(study.folder / "details.json")["policies"][0]["filters"]["layer"] == "hidden.fc1"


def test_a_study_of_the_first_version_has_no_details(study, tmp_path):
    shutil.copytree(study.folder, tmp_path / "old")
    (tmp_path / "old" / "details.json").unlink()
    record = read_json(tmp_path / "old" / "study.json")
    for key in ("tested", "imbalance", "look", "look_count"):
        del record[key]
    for row in record["policies"]:
        for key in ("balanced_error", "train_loss", "train_error"):
            del row["metrics"][key]
    write_json(tmp_path / "old" / "study.json", record)
    assert rebuild_page(tmp_path / "old").stat().st_size > 1000
    assert "Next: " in str(reopen(tmp_path / "old"))


def test_a_runs_page_is_rebuilt(short):
    run = train(short(epochs=1), progress=False)
    before = run.page.read_bytes()
    run.page.unlink()
    assert rebuild_page(str(run.folder)) == run.page
    assert run.page.read_bytes() == before
    assert best_run(run.folder).folder == run.folder


def test_the_best_run_is_the_recommended_policys_with_the_lowest_validation_loss(study, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(study.folder, moved)
    losses = {run["seed"]: run["summary"]["val"]["loss"] for run in study.record["runs"] if run["policy"] == "none"}
    best = best_run(moved)
    assert (best.config.dropout, best.config.seed) == ("none", min(losses, key=losses.get))
    assert best.folder.is_relative_to(moved)
    record = read_json(moved / "study.json")
    record["recommendation"]["policy"] = "fc=0.5"
    write_json(moved / "study.json", record)
    assert best_run(moved).config.dropout == "fc=0.5"


def test_where_every_training_diverged_there_is_no_best(study, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(study.folder, moved)
    for path in moved.glob("runs/*/summary.json"):
        write_json(path, {**read_json(path), "status": "diverged"})
    with pytest.raises(DropkitError, match="every training of 'none' .* diverged"):
        best_run(moved)


def test_what_a_folder_holds(study, short):
    assert isinstance(reopen(study.folder), Study)
    assert isinstance(reopen(study.folder / study.record["runs"][0]["folder"]), Run)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist: give the folder of a finished study or run"),
        (lambda path: path.write_text("x"), "is a file"),
        (lambda path: path.mkdir(), "holds neither a study nor a run"),
        (lambda path: (path.mkdir(), (path / "study-config.json").touch()), "a study that is not finished"),
        (lambda path: (path.mkdir(), (path / "config.json").touch()), "a run that is not finished"),
    ],
)
def test_anything_else_is_refused(tmp_path, make, message):
    make(tmp_path / "there")
    for open_it in (rebuild_page, best_run):
        with pytest.raises(DropkitError, match=message):
            open_it(tmp_path / "there")


@pytest.mark.parametrize("content", ["[]", "{}", '{"kind": "run"}'])
def test_a_damaged_study_is_a_message(tmp_path, content):
    (tmp_path / "study.json").write_text(content)
    for function in (rebuild_page, best_run):
        with pytest.raises(DropkitError, match="study.json is damaged"):
            function(tmp_path)
