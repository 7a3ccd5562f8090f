"""A run on disk: what it holds, how it goes on, what it refuses."""

import contextlib
import dataclasses
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
import torch

from dropkit.errors import DropkitError
from dropkit.runs import training
from dropkit.runs.fitting import Fit
from dropkit.runs.interrupts import Terminated, terminated_in_order
from dropkit.runs.metrics import error, nll
from dropkit.runs.record import RunFolder
from dropkit.runs.run import read_run, train_command
from dropkit.runs.training import advance, train

FILES = {
    "config.json",
    "environment.json",
    "split.json",
    "metrics.jsonl",
    "model.safetensors",
    "test.safetensors",
    "summary.json",
    "details.json",
    "report.html",
}


def files_of(folder):
    """Every file but those that hold times."""
    names = ("model.safetensors", "test.safetensors", "config.json", "split.json")
    return {name: (folder / name).read_bytes() for name in names}


def timeless(rows):
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]


def test_a_finished_run_holds_its_record(short, tmp_path):
    run = train(short(), progress=False)
    assert set(os.listdir(run.folder)) == FILES
    assert [row["epoch"] for row in run.epochs] == [1, 2]
    environment = json.loads((run.folder / "environment.json").read_text())
    assert {"python", "torch", "dropkit", "cpu", "threads", "device", "precision", "revision"} <= set(environment)
    assert environment["torch"] == torch.__version__
    split = json.loads((run.folder / "split.json").read_text())
    assert (len(split["train"]), len(split["val"]), len(split["test"])) == (1258, 270, 269)
    assert "pickle" not in str(os.listdir(run.folder))


def test_the_summary_is_what_the_kept_weights_give(short):
    run = train(short(precision="float32", epochs=3), progress=False)
    fit = Fit(run.config, *training.load_data(run.config))
    logits = run.model()(fit.data.read(fit.data.test)[0]).detach()
    stored, labels = run.test_predictions()
    torch.testing.assert_close(stored, logits)
    assert torch.equal(labels, fit.data.labels[fit.data.test])
    figures = run.summary["test"]
    assert figures["error"] == error(stored.numpy(), labels.numpy())
    assert figures["nll"] == pytest.approx(nll(stored.numpy(), labels.numpy()))
    assert figures["balanced_error"] == pytest.approx(1 - sum(figures["recall"]) / 10)
    best = min(run.epochs, key=lambda row: row["val_loss"])
    assert run.summary["best_epoch"] == best["epoch"]
    assert run.summary["gap"] == best["val_loss"] - best["train_loss"]


class StoppedError(Exception):
    pass


@pytest.mark.parametrize(
    "where", ["before the metrics", "before the checkpoint", "after the checkpoint", "in the epoch"]
)
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_stopped_run_goes_on_to_the_same_bits(short, tmp_path, monkeypatch, where, optimizer):
    config = {"model": "cnn", "epochs": 4, "dropout": "conv=0.1,fc=0.5", "optimizer": optimizer}
    config |= {"augment": "flip,crop", "class_weights": "balanced", "schedule": "early:0.7", "max_norm": 0.5}
    whole = train(short(**config, out=str(tmp_path / "whole")), progress=False)
    calls = {"before the metrics": "append_metrics", "after the checkpoint": "append_metrics"}
    with monkeypatch.context() as patch:
        count = 0

        def stop_at_the_third(original):
            def wrapped(*args, **kwargs):
                nonlocal count
                count += 1
                if count == 3:
                    raise StoppedError
                return original(*args, **kwargs)

            return wrapped

        if where in calls:
            patch.setattr(RunFolder, calls[where], stop_at_the_third(RunFolder.append_metrics))
        elif where == "before the checkpoint":
            patch.setattr(training, "save_checkpoint", stop_at_the_third(training.save_checkpoint))
        else:
            patch.setattr(Fit, "train_step", stop_at_the_third(Fit.train_step))
        with pytest.raises(StoppedError):
            train(short(**config), progress=False)
    folder = RunFolder(tmp_path / "run")
    assert folder.begun
    assert not folder.finished
    resumed = train(short(**config), progress=False)
    assert timeless(resumed.epochs) == timeless(whole.epochs)
    first, second = files_of(whole.folder), files_of(resumed.folder)
    first.pop("config.json"), second.pop("config.json")  # the folder's own name differs
    assert first == second


def test_a_run_killed_while_it_trains_goes_on_to_the_same_bits(short, tmp_path):
    config = short(epochs=None, min_steps=0, patience=3, dropout="fc=0.5", seed=2)
    words = train_command(config).split()[1:]
    child = subprocess.Popen(
        [sys.executable, "-m", "dropkit", *words], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    folder = RunFolder(tmp_path / "run")
    deadline = time.monotonic() + 60
    while not folder.checkpoint.is_file() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert folder.begun
    assert not folder.finished
    resumed = train(config, progress=False)
    whole = train(
        short(epochs=None, min_steps=0, patience=3, dropout="fc=0.5", seed=2, out=str(tmp_path / "b")), progress=False
    )
    assert timeless(resumed.epochs) == timeless(whole.epochs)
    assert (resumed.folder / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()


def test_a_finished_run_is_read_and_not_repeated(short, monkeypatch):
    first = train(short(), progress=False)
    monkeypatch.setattr(training, "Fit", None)
    again = train(short(), progress=False)
    assert again.repeated
    assert not first.repeated
    assert (again.summary, again.epochs, again.config) == (first.summary, first.epochs, first.config)


def test_another_config_in_the_folder_is_refused_naming_the_field(short):
    train(short(), progress=False)
    with pytest.raises(DropkitError, match="dropout is 'fc=0.5' there and 'none' here.*--out"):
        train(short(dropout="none"), progress=False)
    with pytest.raises(DropkitError, match="seed is 0 there and 1 here; epochs is 2 there and 3 here"):
        train(short(epochs=3, seed=1), progress=False)


def test_a_folder_that_holds_something_else_is_refused(short, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("precious")
    with pytest.raises(DropkitError, match="holds something else"):
        train(short(), progress=False)
    assert os.listdir(tmp_path / "run") == ["thesis.tex"]


def test_changed_data_are_refused_on_resume(short, tmp_path, monkeypatch):
    import numpy as np

    rng = np.random.default_rng(0)
    path = tmp_path / "data.npz"
    images, labels = rng.integers(0, 256, (60, 8, 8), dtype=np.uint8), np.arange(60) % 2
    np.savez(path, train_images=images, train_labels=labels)
    monkeypatch.setattr(training, "_finish", lambda *args: (_ for _ in ()).throw(StoppedError))
    with pytest.raises(StoppedError):
        train(short(data=str(path)), progress=False)
    np.savez(path, train_images=images[::-1], train_labels=labels[::-1])
    with pytest.raises(DropkitError, match="saw other pictures"):
        train(short(data=str(path)), progress=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "no/such/folder"}, "no/such/folder"),
        ({"model": "resnet"}, "unknown model 'resnet'"),
        ({"dropout": "conv=0.1"}, "unknown site"),
        ({"device": "cuda:99"}, "device 'cuda:99' is not available"),
        ({"max_train": 10**6}, "1,258|1258"),
    ],
)
def test_bad_input_writes_nothing(short, tmp_path, changes, message):
    with pytest.raises(DropkitError, match=message):
        train(short(**changes), progress=False)
    assert os.listdir(tmp_path) == []


def test_a_finished_run_on_other_pictures_is_not_passed_off(short, tmp_path):
    import numpy as np

    path = tmp_path / "data.npz"
    images, labels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8), np.arange(60) % 2
    np.savez(path, train_images=images, train_labels=labels)
    first = train(short(data=str(path)), progress=False)
    np.savez(tmp_path / "copy.npz", train_images=images, train_labels=labels)
    assert train(short(data=tmp_path / "copy.npz"), progress=False).repeated  # the same pictures elsewhere
    np.savez(path, train_images=255 - images, train_labels=labels)
    with pytest.raises(DropkitError, match="saw other pictures than"):
        train(short(data=str(path)), progress=False)
    assert read_run(first.folder).summary == first.summary


def test_a_page_that_is_missing_is_written_again(short):
    run = train(short(), progress=False)
    run.page.unlink()
    assert train(short(), progress=False).repeated
    assert run.page.is_file()


def test_the_model_can_be_opened_without_the_data(short, tmp_path):
    import numpy as np

    path = tmp_path / "data.npz"
    images, labels = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8), np.arange(60) % 3
    np.savez(path, train_images=images, train_labels=labels)
    run = train(short(data=path, out=tmp_path / "run", model="cnn"), progress=False)
    path.unlink()
    assert run.model()(torch.zeros(2, 3, 8, 8)).shape == (2, 3)


@pytest.mark.usefixtures("plain_sigterm")
@pytest.mark.parametrize("where", ["in the epoch", "at its end", "in the evaluation"])
def test_a_terminated_run_goes_on_from_the_very_step(short, tmp_path, monkeypatch, capsys, where):
    """SIGTERM in the third epoch: the step is made, a checkpoint written, and what follows has the same bits."""
    config = {"model": "cnn", "epochs": 4, "dropout": "conv=0.1,fc=0.5", "augment": "flip,crop", "max_train": 300}
    config |= {"batch_size": 64, "schedule": "early:0.7", "lr_schedule": "cosine"}  # five steps an epoch
    whole = train(short(**config, out=str(tmp_path / "whole")), progress=False)
    at = {"in the epoch": 13, "at its end": 15, "in the evaluation": 6}[where]
    name = "predict" if where == "in the evaluation" else "train_step"
    original, count = getattr(Fit, name), 0

    def terminated(*args, **kwargs):
        nonlocal count
        count += 1
        if count == at:
            signal.raise_signal(signal.SIGTERM)
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, name, terminated)
        with pytest.raises(Terminated), terminated_in_order():
            train(short(**config), progress=False)
    said = capsys.readouterr().err
    steps = "3 steps" if where == "in the epoch" else "5 steps"
    assert f"terminated after epoch 2 and {steps} of the next in" in said
    assert "the same command goes on from there" in said
    folder = RunFolder(tmp_path / "run")
    assert not folder.finished
    assert len(folder.read_metrics()) == 2
    resumed = train(short(**config), progress=False)
    assert f"going on after epoch 2 and {steps} of the next in" in capsys.readouterr().err
    assert timeless(resumed.epochs) == timeless(whole.epochs)
    first, second = files_of(whole.folder), files_of(resumed.folder)
    first.pop("config.json"), second.pop("config.json")
    assert first == second


@pytest.mark.usefixtures("plain_sigterm")
def test_terminated_again_and_again_it_comes_to_the_same_end(short, tmp_path, monkeypatch):
    config = {"epochs": 3, "max_train": 200, "batch_size": 64, "dropout": "fc=0.5"}
    whole = train(short(**config, out=str(tmp_path / "whole")), progress=False)
    original, stops = Fit.train_step, 0

    def terminated(*args, **kwargs):
        signal.raise_signal(signal.SIGTERM)
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "train_step", terminated)
        while not RunFolder(tmp_path / "run").finished:
            with contextlib.suppress(Terminated), terminated_in_order():
                train(short(**config), progress=False)
            stops += 1
    assert stops > 10
    assert files_of(whole.folder)["model.safetensors"] == files_of(tmp_path / "run")["model.safetensors"]


def test_the_command_checkpoints_on_sigterm_and_exits_143(short, tmp_path):
    config = short(model="cnn", epochs=200, dropout="fc=0.5")
    child = subprocess.Popen(
        [sys.executable, "-m", *train_command(config).split()],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    folder = RunFolder(tmp_path / "run")
    deadline = time.monotonic() + 60
    while not folder.checkpoint.is_file() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    child.send_signal(signal.SIGTERM)
    said = child.communicate(timeout=60)[1]
    assert child.returncode == 143
    assert "terminated after epoch" in said
    assert "Traceback" not in said
    assert folder.resumable


def test_a_damaged_checkpoint_costs_an_epoch_and_nothing_else(short, tmp_path, monkeypatch, capsys):
    config = {"epochs": 4, "max_train": 200, "dropout": "fc=0.5"}
    whole = train(short(**config, out=str(tmp_path / "whole")), progress=False)
    advance(short(**config), training.load_data(short(**config)), until=3)
    folder = RunFolder(tmp_path / "run")
    folder.checkpoint.write_bytes(folder.checkpoint.read_bytes()[:-100])
    resumed = train(short(**config), progress=False)
    said = capsys.readouterr().err
    assert "checkpoint.safetensors is damaged" in said
    assert "going on after epoch 2 in" in said
    assert timeless(resumed.epochs) == timeless(whole.epochs)
    assert files_of(whole.folder)["model.safetensors"] == files_of(resumed.folder)["model.safetensors"]
    assert not [path for path in resumed.folder.iterdir() if "checkpoint" in path.name]


def test_what_a_killed_process_left_is_removed(short, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(training, "_finish", lambda *args: (_ for _ in ()).throw(StoppedError))
        with pytest.raises(StoppedError):
            train(short(), progress=False)
    (tmp_path / "run" / ".checkpoint.safetensors.123.part").write_bytes(b"half")
    run = train(short(), progress=False)
    assert set(os.listdir(run.folder)) == FILES


def test_what_was_read_is_said_before_the_training(short, capsys):
    train(short())
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("digits: 1,797 pictures of 8x8 in grey, 10 classes (0, 1, 2, 3, 4, 5, 6, 7, 8, 9); 1,258")
    assert "70/15/15" in said[1]


def test_the_summary_holds_what_a_prediction_needs(short):
    run = train(short(), progress=False)
    data = run.summary["data"]
    fit = Fit(run.config, *training.load_data(run.config))
    assert data["class_names"] == [str(digit) for digit in range(10)]
    x = (fit.data.images[:7].float() - data["mean"][0]) / data["std"][0]
    torch.testing.assert_close(x, fit.data.read(torch.arange(7))[0].contiguous(), rtol=1e-5, atol=1e-5)


def test_a_run_that_diverges_says_at_which_step_and_keeps_the_best_model(short, monkeypatch):
    original = Fit.train_step

    def explode(self, x, y):
        loss = original(self, x, y)
        return loss * math.nan if self.progress.step == 16 else loss

    monkeypatch.setattr(Fit, "train_step", explode)
    run = train(short(epochs=5), progress=False)
    assert run.diverged
    assert "step 17" in run.summary["reason"]
    assert (run.summary["epochs"], run.summary["best_epoch"]) == (1, 1)
    assert run.summary["test"]["n"] == 269
    assert "Try a lower --lr; the model of epoch 1 is kept" in str(run)
    assert (run.folder / "model.safetensors").is_file()


def test_a_run_that_diverges_at_once_has_no_model(short, monkeypatch):
    monkeypatch.setattr(Fit, "train_step", lambda self, x, y: torch.tensor(math.inf))
    run = train(short(), progress=False)
    assert (run.diverged, run.summary["test"], run.summary["best_epoch"]) == (True, None, None)
    assert "step 1" in str(run)
    assert not (run.folder / "model.safetensors").exists()
    assert (run.folder / "report.html").is_file()


def test_the_command_that_repeats_a_run_names_what_differs_from_the_defaults(short):
    words = shlex.split(train_command(short(dropout="a b", lr=0.1)))
    assert words[:3] == ["dropkit", "train", "digits"]
    pairs = dict(zip(words[3::2], words[4::2], strict=True))
    assert pairs.pop("--out")
    assert pairs == {"--dropout": "a b", "--model": "mlp", "--epochs": "2", "--lr": "0.1", "--threads": "1"}


def test_reading_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(DropkitError, match="holds no finished run"):
        read_run(tmp_path)


def test_fewer_threads_than_before_are_noted(short, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(training, "_finish", lambda *args: (_ for _ in ()).throw(StoppedError))
        with pytest.raises(StoppedError):
            train(short(), progress=False)
    train(short(threads=2), progress=False)
    said = capsys.readouterr().err
    assert "threads 1 then, 2 now" in said
    assert "going on after epoch 2" in said


def test_real_pictures_are_learned(short, fashion_mnist):
    run = train(short(data=fashion_mnist, model="cnn", max_train=600, epochs=4), progress=False)
    data = run.summary["data"]
    assert (data["name"], data["pictures"], data["shape"]) == ("fashion_mnist", 70_000, [1, 28, 28])
    assert (data["train"], data["val"], data["test"]) == (600, 106, 10_000)
    assert len(data["class_names"]) == data["classes"] == 10
    assert run.summary["test"]["error"] < 0.45  # nine in ten are wrong by chance


def test_a_users_function_that_fails_or_changes_is_refused(short, tmp_path):
    path = tmp_path / "own_augmentation.py"
    path.write_text("def f(images):\n    return images.float()\n")
    with pytest.raises(DropkitError, match="a batch of uint8"):
        train(short(augment=f"{path}:f"), progress=False)
    assert not (tmp_path / "run").exists()
    other = tmp_path / "another_augmentation.py"
    other.write_text("def f(images):\n    return images.flip(3)\n")
    train(short(augment=f"{other}:f"), progress=False, page=False)
    assert train(short(augment=f"{other}:f"), progress=False, page=False).repeated
    other.write_text("def f(images):\n    return images.flip(2)\n")
    with pytest.raises(DropkitError, match="the code of .* has changed since the run"):
        train(short(augment=f"{other}:f"), progress=False)


def test_a_run_of_the_first_version_is_read(short, tmp_path):
    run = train(short(), progress=False)
    summary = json.loads((run.folder / "summary.json").read_text())
    for name in ("balanced_error", "recall"):
        del summary["test"][name]
    (run.folder / "summary.json").write_text(json.dumps(summary))
    again = train(short(), progress=False)
    assert again.repeated
    assert "balanced" not in str(again)
    assert "test error" in str(again)


def test_a_missing_file_of_weights_is_a_message(short):
    run = train(short(), progress=False, page=False)
    (run.folder / "model.safetensors").unlink()
    with pytest.raises(DropkitError, match=r"model.safetensors is missing"):
        run.model()


def test_names_cannot_colour_the_terminal(short):
    pictures, split = training.load_data(short())
    named = dataclasses.replace(pictures, class_names=("\x1b[31mred", "new\nline", *pictures.class_names[2:]))
    said = training.describe_data(named, split)
    assert "\x1b" not in said
    assert "new\\nline" in said


def test_a_training_says_what_misuse_the_check_finds_and_is_the_same(short, tmp_path, capfd):
    config = {"dropout": "fc=0.9", "epochs": 1}
    told = train(short(**config, out=str(tmp_path / "told")))
    assert "warning DK012: p = 0.9" in capfd.readouterr().err
    silent = train(short(**config, out=str(tmp_path / "silent")), progress=False)
    assert "DK012" not in capfd.readouterr().err
    assert files_of(told.folder)["model.safetensors"] == files_of(silent.folder)["model.safetensors"]
    assert timeless(told.epochs) == timeless(silent.epochs)


def test_a_training_says_nothing_where_the_check_finds_nothing(short, capfd):
    train(short(dropout="fc=0.5", epochs=1))
    said = capfd.readouterr().err
    assert "DK0" not in said
    assert "misuse" not in said


def test_a_training_goes_on_where_the_check_cannot(short, capfd, monkeypatch):
    def fails(model, example):
        raise RuntimeError("no such thing\nat all")

    monkeypatch.setattr(training, "check", fails)
    assert train(short(epochs=1)).summary["epochs"] == 1
    said = capfd.readouterr().err
    assert "could not be checked for misuse of dropout (RuntimeError: no such thing)" in said
