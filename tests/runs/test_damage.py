"""A run whose records were damaged between two commands: said in words, never a traceback, never wrong figures."""

import json
import shutil

import pytest

import dropkit
from dropkit.errors import DropkitError
from dropkit.files import read_json
from dropkit.runs import training
from dropkit.runs.checkpoint import previous_of
from dropkit.runs.record import RunFolder
from dropkit.runs.training import advance, load_data, train
from dropkit.studies.reopen import rebuild_page


@pytest.fixture
def unfinished(short):
    """A run of six epochs that was stopped after four."""
    config = short(epochs=6, max_train=100, dropout="fc=0.5")
    advance(config, load_data(config), until=4)
    return config, RunFolder(training.Path(config.out))


def replaced(text):
    return lambda path: path.write_text(text)


def removed(path):
    path.unlink()


def folder_instead(path):
    path.unlink()
    path.mkdir()


DEEP = "[" * 100_000


@pytest.mark.parametrize("name", ["config.json", "environment.json", "split.json"])
@pytest.mark.parametrize(
    "damage",
    [replaced("[]"), replaced("3"), replaced("{"), replaced(DEEP), replaced(""), removed, folder_instead],
    ids=["list", "number", "cut", "deep", "empty", "gone", "folder"],
)
def test_an_unfinished_run_says_what_is_wrong(unfinished, name, damage):
    config, folder = unfinished
    damage(folder.path / name)
    with pytest.raises(DropkitError) as refusal:
        train(config, progress=False)
    assert name in str(refusal.value) or "something else" in str(refusal.value)  # without a config it is no run


@pytest.mark.parametrize(
    "damage",
    [removed, replaced(""), replaced("3"), replaced(DEEP), lambda path: path.write_text(path.read_text()[:700])],
    ids=["gone", "empty", "number", "deep", "cut"],
)
def test_metrics_are_brought_back_from_the_checkpoint(unfinished, damage, short, tmp_path):
    config, folder = unfinished
    damage(folder.metrics)
    run = train(config, progress=False)
    whole = train(short(epochs=6, max_train=100, dropout="fc=0.5", out=str(tmp_path / "whole")), progress=False)
    timeless = [
        [
            {key: value for key, value in row.items() if key not in ("seconds", "images_per_second")}
            for row in each.epochs
        ]
        for each in (run, whole)
    ]
    assert timeless[0] == timeless[1]
    assert run.summary["val"] == whole.summary["val"]


def test_a_checkpoint_of_another_network_is_not_taken(unfinished, short, tmp_path):
    config, folder = unfinished
    other = short(epochs=6, max_train=100, model="mlp:16", out=str(tmp_path / "other"))
    advance(other, load_data(other), until=2)
    shutil.copy(tmp_path / "other" / "checkpoint.safetensors", folder.checkpoint)
    assert train(config, progress=False).summary["epochs"] == 6  # from the one before


def test_two_damaged_checkpoints_say_how_to_begin_anew(unfinished):
    config, folder = unfinished
    for path in (folder.checkpoint, previous_of(folder.checkpoint)):
        path.write_bytes(b"x")
    with pytest.raises(
        DropkitError, match="delete both, checkpoint.safetensors and checkpoint.previous.safetensors, and"
    ):
        train(config, progress=False)
    folder.remove_checkpoints()
    assert train(config, progress=False).summary["epochs"] == 6


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "model.safetensors"])
def test_a_folder_in_the_place_of_tensors(unfinished, name):
    config, folder = unfinished
    if name.startswith("model"):
        run = train(config, progress=False)
        folder_instead(run.folder / name)
        with pytest.raises(DropkitError, match="model.safetensors is damaged"):
            run.model()
        return
    previous_of(folder.checkpoint).unlink()
    folder_instead(folder.checkpoint)
    assert not folder.resumable
    with pytest.raises(DropkitError, match="cannot write .+checkpoint.safetensors': is a directory"):
        train(config, progress=False)


@pytest.fixture
def finished(short):
    return dropkit.train(short(epochs=2, max_train=100, dropout="fc=0.5"), progress=False)


@pytest.mark.parametrize("name", ["config.json", "environment.json", "summary.json", "metrics.jsonl"])
@pytest.mark.parametrize("damage", [replaced("[]"), replaced(DEEP), removed], ids=["list", "deep", "gone"])
def test_a_finished_run_says_what_is_wrong(finished, name, damage):
    damage(finished.folder / name)
    with pytest.raises(DropkitError):
        rebuild_page(finished.folder)


def test_what_can_be_made_again_need_not_cost_the_run(finished):
    path = finished.folder / "details.json"
    path.write_text("{")
    with pytest.raises(DropkitError, match="details.json is damaged .+: delete this file, which can be made again"):
        rebuild_page(finished.folder)
    path.unlink()
    assert rebuild_page(finished.folder).is_file()


def test_predictions_that_are_none(finished):
    shutil.copy(finished.folder / "model.safetensors", finished.folder / "test.safetensors")
    with pytest.raises(DropkitError, match=r"test.safetensors is damaged \(it holds no predictions\)"):
        finished.test_predictions()


def test_checkpoints_that_a_kill_left_beside_the_summary_are_removed(unfinished):
    config, folder = unfinished
    content = folder.checkpoint.read_bytes()
    train(config, progress=False)
    folder.checkpoint.write_bytes(content)
    previous_of(folder.checkpoint).write_bytes(content)
    assert train(config, progress=False).repeated
    assert not folder.resumable


def test_a_study_whose_config_is_damaged_says_what_stays(short, tmp_path):
    configs = [short(out=None, dropout=dropout, epochs=1, max_train=60) for dropout in ("none", "fc=0.5")]
    study = dropkit.compare(configs, seeds=3, workers=1, out=tmp_path / "study", progress=False)
    for text in ("[]", "{", DEEP):
        (study.folder / "study-config.json").write_text(text)
        with pytest.raises(DropkitError, match="study-config.json is damaged .+the finished runs of this one stay in"):
            dropkit.compare(configs, seeds=3, workers=1, out=tmp_path / "study", progress=False)


def test_the_checkpoint_knows_the_epochs(unfinished):
    _, folder = unfinished
    from dropkit.runs.checkpoint import read_checkpoint

    rows = json.loads(read_checkpoint(folder.checkpoint)[1])["rows"]
    assert rows == folder.read_metrics()
    assert read_json(folder.config)["epochs"] == 6
