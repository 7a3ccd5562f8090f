"""The command as a user meets it: exit codes, messages, JSON, Ctrl-C."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from PIL import Image

import dropkit
from dropkit import cli
from dropkit.runs.fitting import Fit

SHORT = ["--model", "mlp", "--epochs", "1", "--threads", "1"]


def run(capfd, *words):
    """Return (exit code, standard output, standard error) of the command."""
    with pytest.raises(SystemExit) as ended:
        cli.main([str(word) for word in words])
    said = capfd.readouterr()
    return ended.value.code, said.out, said.err


def test_train_prints_the_outcome_and_where_it_is_kept(capfd, tmp_path):
    code, out, err = run(capfd, "train", "digits", *SHORT, "--out", tmp_path / "run")
    assert code == 0
    assert "test error" in out
    assert f"kept in {tmp_path / 'run'}" in out
    assert "epoch 1/1" in err
    code, out, err = run(capfd, "train", "digits", *SHORT, "--out", tmp_path / "run")
    assert code == 0
    assert out.startswith("already finished; nothing was trained")


def test_json_is_all_that_standard_output_holds(capfd, tmp_path):
    code, out, _ = run(capfd, "train", "digits", *SHORT, "--out", tmp_path / "run", "--json")
    assert (code, json.loads(out)["status"]) == (0, "finished")
    words = ("compare", "digits", *SHORT, "--policies", "none", "fc=0.5", "--seeds", 3, "--workers", 1)
    code, out, err = run(capfd, *words, "--out", tmp_path / "study", "--json")
    assert (code, json.loads(out)["kind"]) == (0, "study")
    assert "6 trainings, about" in err


def test_compare_prints_table_verdict_recommendation_and_page(capfd, tmp_path):
    words = ("compare", "digits", *SHORT, "--policies", "none", "fc=0.5", "--seeds", 3, "--workers", 1)
    code, out, _ = run(capfd, *words, "--out", tmp_path / "study")
    assert code == 0
    for text in (
        "none",
        "fc=0.5",
        "NLL",
        "Next: dropkit compare digits",
        f"page: {tmp_path / 'study' / 'report.html'}",
    ):
        assert text in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "nowhere.npz"], "nowhere.npz"),
        (
            ["train", "digits", "--model", "cn"],
            "unknown model 'cn': allowed are cnn, bn-cnn, res-cnn, paper-cnn, mlp, mlp:WIDTH-..., "
            "paper-cnn:WIDTH-..., timm:NAME, torchvision:NAME, module:function, path.py:function. Did you mean 'cnn'?",
        ),
        (["train", "digits", "--dropout", "fc=2"], "from 0 to 1, but got 2"),
        (["train", "digits", "--dropout", "cov=0.2"], "Did you mean 'conv'?"),
        (["train", "digits", "--epochs", "0"], "epochs must be a whole number of at least 1, but got 0"),
        (["train", "digits", "--optimizer", "adamm"], "Did you mean 'adam'?"),
        (
            ["trian", "digits"],
            "unknown command 'trian': allowed are train, compare, tune, reproduce, predict, uncertainty, evidence, "
            "export, report, check, bench. Did you mean 'train'?",
        ),
        (
            ["compare", "digits", "--metric", "nl"],
            "unknown metric 'nl': allowed are error, nll, balanced-error. Did you mean 'nll'?",
        ),
        (["compare", "digits", "--policies", "none"], "at least two policies"),
        (["compare", "digits", "--seeds", "2"], "seeds must be at least 3, but got 2"),
        (["compare", "digits", "--budget", "soon"], "budget must be a time such as 20m"),
        (["compare", "digits", "--sweep", "fc=0.5"], "sweep"),
        (["compare", "digits", "--policies", "none", "fc=0.5;wieght_decay=1"], "Did you mean 'weight_decay'?"),
        (["compare", "digits", "--folds", "2"], "folds must be a whole number of at least 3, but got 2"),
        (["train", "digits", "--image-size", "1000000"], "each 4 to 1024"),
        (["train", "digits", "--augment", "flop"], "unknown augmentation 'flop'"),
        (["train", "digits", "--fold", "6/5"], "fold"),
        (["train", "digits", "--group", "("], "group"),
        (["predict", "nowhere", "x.png"], "there is no file or folder 'x.png'"),
        (["predict", ".", "."], "has no picture"),
        (["report", "nowhere"], "nowhere"),
    ],
)
def test_wrong_input_is_a_message_and_exit_code_2(capfd, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capfd, *words)
    assert code == 2
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert out == ""
    assert os.listdir(tmp_path) == []


def test_unknown_options_are_named_with_the_nearest(capfd):
    code, _, err = run(capfd, "train", "digits", "--modle", "cnn")
    assert code == 2
    assert "--modle" in err
    assert "--model" in err


def test_a_diverged_training_is_exit_code_1(capfd, tmp_path, monkeypatch):
    original = Fit.train_step
    monkeypatch.setattr(Fit, "train_step", lambda self, x, y: original(self, x, y) * float("nan"))
    code, out, _ = run(capfd, "train", "digits", *SHORT, "--out", tmp_path / "run")
    assert code == 1
    assert "not finite at step 1" in out


def test_the_version_is_printed(capfd):
    code, out, _ = run(capfd, "--version")
    assert (code, out) == (0, f"dropkit {dropkit.__version__}\n")


def test_a_study_with_a_diverged_training_is_exit_code_1(capfd, tmp_path, monkeypatch):
    original = Fit.train_step
    monkeypatch.setattr(Fit, "train_step", lambda self, x, y: original(self, x, y) * float("nan"))
    words = ("compare", "digits", *SHORT, "--policies", "none", "fc=0.5", "--seeds", 3, "--workers", 1)
    code, out, _ = run(capfd, *words, "--out", tmp_path / "study")
    assert code == 1
    assert "diverged" in out


def test_a_reader_that_has_seen_enough_gets_no_traceback():
    words = f"{sys.executable} -m dropkit train --help | head -1"
    done = subprocess.run(words, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: dropkit train")
    assert done.stderr == ""


def test_a_narrow_terminal_wraps_lines_and_not_columns(capfd, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    words = ("compare", "digits", *SHORT, "--policies", "none", "fc=0.5", "--seeds", 3, "--workers", 1)
    _, out, _ = run(capfd, *words, "--out", tmp_path / "study")
    assert [line.split()[:2] for line in out.splitlines() if line.startswith(("none", "fc=0.5"))] == [
        ["none", "3"],
        ["fc=0.5", "3"],
    ]


def test_help_lists_every_field_of_the_config(capfd):
    code, out, _ = run(capfd, "train", "--help")
    assert code == 0
    for option in ("DATA", "--model", "--dropout", "--epochs", "--patience", "--precision", "--out", "--json"):
        assert option in out


def test_ctrl_c_keeps_what_is_done_and_exits_with_130(tmp_path):
    words = ["train", "digits", "--model", "mlp", "--epochs", "500", "--threads", "1", "--out", str(tmp_path / "run")]
    child = subprocess.Popen([sys.executable, "-m", "dropkit", *words], stderr=subprocess.PIPE, text=True)
    checkpoint, deadline = tmp_path / "run" / "checkpoint.safetensors", time.monotonic() + 60
    while not checkpoint.is_file() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "the same command goes on" in err
    assert "Traceback" not in err
    assert not [name for name in os.listdir(tmp_path / "run") if name.endswith(".part")]


@pytest.fixture
def begun_study(tmp_path):
    """Start a study in two processes, and return it when both have trained an epoch."""
    words = ["compare", "digits", "--model", "mlp", "--epochs", "500", "--threads", "1", "--workers", "2"]
    words += ["--policies", "none", "fc=0.5", "--seeds", "3", "--out", str(tmp_path / "study")]
    child = subprocess.Popen(
        [sys.executable, "-m", "dropkit", *words], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    runs, deadline = tmp_path / "study" / "runs", time.monotonic() + 120
    while len(list(runs.glob("*/metrics.jsonl"))) < 2 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    yield child
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


def assert_stopped(child, code):
    _, err = child.communicate(timeout=60)
    assert child.returncode == code, err
    assert "the same command goes on" in err
    assert "Traceback" not in err
    wait_for_the_end_of_group(child.pid)


def test_ctrl_c_in_a_study_ends_every_process_and_exits_with_130(begun_study):
    os.killpg(begun_study.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    assert_stopped(begun_study, 130)


def test_sigterm_to_a_study_ends_every_process_and_exits_with_143(begun_study, tmp_path):
    begun_study.send_signal(signal.SIGTERM)
    assert_stopped(begun_study, 143)
    assert not (tmp_path / "study" / ".lock").exists()


def test_a_killed_study_leaves_no_process_that_trains(begun_study, tmp_path):
    begun_study.kill()
    begun_study.wait()
    wait_for_the_end_of_group(begun_study.pid)
    assert len(list((tmp_path / "study" / "runs").glob("*/checkpoint.safetensors"))) == 2
    assert not list((tmp_path / "study" / "runs").glob("*/.lock"))


def test_a_study_that_is_killed_while_its_processes_begin_leaves_none(tmp_path):
    words = ["compare", "digits", "--model", "mlp", "--epochs", "3000", "--threads", "1", "--workers", "2"]
    words += ["--seeds", "3", "--out", str(tmp_path / "study")]
    child = subprocess.Popen(
        [sys.executable, "-m", "dropkit", *words], stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and child.poll() is None:
        if any(trains(each) for each in psutil.Process(child.pid).children()):
            break
        time.sleep(0.01)
    time.sleep(0.5)  # in the middle of importing torch
    child.kill()
    child.wait()
    wait_for_the_end_of_group(child.pid)


def test_a_training_process_that_is_killed_is_said(begun_study):
    (victim, *_) = [child for child in psutil.Process(begun_study.pid).children() if trains(child)]
    victim.kill()
    _, err = begun_study.communicate(timeout=60)
    assert begun_study.returncode == 2, err
    assert "a process that trained was killed" in err
    assert "SIGKILL" in err
    assert "the same command goes on; --workers 1 or a smaller --batch-size needs less memory" in err
    assert "Traceback" not in err


def trains(process):
    return "loky" in " ".join(process.cmdline()) and "resource_tracker" not in " ".join(process.cmdline())


def wait_for_the_end_of_group(number):
    """Return when no process of the group is left; fail when one is still there after a while."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(number, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("a process of the study goes on")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Nine photographs in each of two classes, in colour, of different sizes, and one file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number, name in enumerate(("bright", "dark <b>")):
        (folder / name).mkdir()
        for i in range(9):
            pixels = rng.integers(0, 100, (17 + i, 23 + i, 3), dtype=np.uint8) + np.uint8(120 * (1 - number))
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    (folder / "bright" / "broken.png").write_bytes(b"none")
    return folder


def test_from_photographs_to_predictions_and_back_to_the_page(capfd, tmp_path, photos):
    words = ["compare", photos, "--policies", "none", "fc=0.5;lr=0.01", "--seeds", 3, "--workers", 1, *SHORT]
    code, _, err = run(capfd, *words, "--out", tmp_path / "s", "--image-size", "16")
    assert code == 2
    assert "1 of 19 pictures in" in err
    assert "'bright/broken.png'" in err
    assert not (tmp_path / "s").exists()
    words += ["--out", tmp_path / "s", "--image-size", "16", "--on-bad-image", "skip"]
    code, out, err = run(capfd, *words)
    assert code == 0
    assert "1 of 19 pictures cannot be read and were skipped" in err
    assert "Look 1 at" in out
    code, out, err = run(capfd, "predict", tmp_path / "s", photos, "--json")
    assert code == 1
    rows = json.loads(out)
    assert len(rows) == 19
    assert {row["class"] for row in rows if row["error"] is None} <= {"bright", "dark <b>"}
    assert [row["picture"] for row in rows if row["error"]] == [str(photos / "bright" / "broken.png")]
    assert "1 of 19 pictures could not be read" in err
    code, out, _ = run(capfd, "predict", tmp_path / "s", photos / "bright" / "0.png")
    assert (code, out.count("\n")) == (0, 1)
    page = tmp_path / "s" / "report.html"
    written = page.read_bytes()
    page.unlink()
    code, out, _ = run(capfd, "report", tmp_path / "s")
    assert (code, out) == (0, f"page: {page}\n")
    assert page.read_bytes() == written
    assert b"dark <b>" not in written


def test_a_single_runs_page_is_written_anew(capfd, tmp_path):
    run(capfd, "train", "digits", *SHORT, "--out", tmp_path / "run")
    page = tmp_path / "run" / "report.html"
    written = page.read_bytes()
    page.unlink()
    assert run(capfd, "report", tmp_path / "run")[0] == 0
    assert page.read_bytes() == written


def test_predict_takes_one_form(capfd, tmp_path):
    code, _, err = run(capfd, "predict", tmp_path, tmp_path, "--json", "--csv")
    assert code == 2
    assert "either --json or --csv" in err


def test_bench_prints_tables_or_json(capfd):
    words = ("bench", "--only", "masks", "--sizes", "64", "--dtypes", "float32", "--seconds", "0.001", "--no-compiled")
    code, out, err = run(capfd, *words)
    assert code == 0
    assert "float32, into existing memory" in out
    assert "float32, 64 units, forward and backward" in err
    code, out, _ = run(capfd, *words, "--json")
    assert code == 0
    assert len(json.loads(out)["masks"]) == 13
    code, _, err = run(capfd, "bench", "--sizes", "64k")
    assert code == 2
    assert "as 1000, 64Ki or 16Mi, but got '64k'" in err


@pytest.fixture
def folder_of_code(tmp_path):
    """A file with a function that makes a network, which drops in eval mode too."""
    code = """
import torch.nn.functional as F
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop, self.fc = nn.Dropout(0.9), nn.Linear(3 * 5 * 7, 4)

    def forward(self, x):
        return self.fc(F.dropout(self.drop(x.flatten(1)).relu()))

def net(num_classes):
    assert num_classes == 4
    return Net()
"""
    (tmp_path / "nets.py").write_text(code)
    return tmp_path


def test_check_of_a_clean_network(capfd):
    assert run(capfd, "check", "cnn") == (0, "no misuse of dropout was found in cnn\n", "")


def test_check_prints_findings_and_exits_with_1_on_an_error(capfd, folder_of_code, monkeypatch):
    monkeypatch.chdir(folder_of_code)
    words = ("check", "nets.py:net", "--input", "3x5x7", "--classes", "4")
    code, out, err = run(capfd, *words)
    assert (code, err) == (1, "running code that is not dropkit's, named by model 'nets.py:net'\n")
    first, second, summary = out.splitlines()
    assert first.startswith(
        "nets.py:11: error DK001: dropout drops 0.5 of the units in eval mode too: training is left"
    )
    assert second.startswith("drop: warning DK012: p = 0.9 drops")
    assert summary == "1 error, 1 warning"
    code, out, _ = run(capfd, *words, "--json")
    assert code == 1
    found = json.loads(out)
    assert found["network"] == "nets.py:net"
    assert [sorted(finding) for finding in found["findings"]] == [["code", "cure", "observed", "severity", "where"]] * 2
    assert [finding["code"] for finding in found["findings"]] == ["DK001", "DK012"]


def test_check_of_a_warning_exits_with_0(capfd):
    code, out, _ = run(capfd, "check", "cnn", "--dropout", "fc=0.9")
    assert (code, out.splitlines()[-1]) == (0, "1 warning")
    code, out, _ = run(capfd, "check", "mlp", "--dropout", "fc=0.9", "--data", "digits")
    assert (code, out.splitlines()[-1]) == (0, "1 warning")


def test_check_of_a_run(capfd, tmp_path):
    run(capfd, "train", "digits", *SHORT, "--dropout", "fc=1", "--out", tmp_path / "run")
    code, out, _ = run(capfd, "check", tmp_path / "run")
    assert code == 1
    assert "error DK010: p = 1: everything is dropped" in out
    assert out.splitlines()[-1] == "1 error"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cn"], "unknown model 'cn'"),
        (["."], "holds no finished run"),
        (["cnn", "--input", "28x28"], "an input is channels x height x width, such as 3x224x224, but got '28x28'"),
        (["cnn", "--dropout", "cov=0.1"], "Did you mean 'conv'?"),
        (["cnn", "--data", "digits", "--input", "1x8x8"], "the data 'digits' have its own shape: leave --input out"),
        ([".", "--data", "digits"], "the run in '.' has its own data: leave --data out"),
    ],
)
def test_check_of_what_cannot_be_checked(capfd, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capfd, "check", *words)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())


def test_export_of_a_run(capfd, tmp_path):
    run(capfd, "train", "digits", *SHORT, "--out", tmp_path / "run")
    code, out, err = run(capfd, "export", tmp_path / "run", "--to", "pt2")
    file = tmp_path / "run" / "model.pt2"
    assert (code, err) == (0, f"with fc=0.5, seed 0: {tmp_path / 'run'}\n")
    assert out.startswith(f"{file}: ")
    written = file.stat().st_size
    file.unlink()
    code, out, _ = run(capfd, "export", tmp_path / "run", "--to", "pt2", "--out", file, "--json")
    assert (code, json.loads(out)["size"], file.stat().st_size) == (0, written, written)
    code, out, err = run(capfd, "export", tmp_path / "run", "--to", "onx")
    assert (code, out) == (2, "")
    assert "unknown form 'onx': allowed are onnx, pt2. Did you mean 'onnx'?" in err


def test_uncertainty_of_a_run(capfd, tmp_path):
    run(capfd, "train", "digits", *SHORT, "--out", tmp_path / "run")
    code, out, err = run(capfd, "uncertainty", tmp_path / "run", "--samples", 5, "--json")
    record = json.loads(out)
    assert (code, record["samples"], record["ood"]) == (0, 5, None)
    assert json.loads((tmp_path / "run" / "uncertainty.json").read_text())["methods"] == record["methods"]
    code, out, _ = run(capfd, "uncertainty", tmp_path / "run", "--samples", 5)
    assert code == 0
    assert "| average of 5 " in out
    assert "Uncertainty" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    code, out, err = run(capfd, "uncertainty", tmp_path / "run", "--ood", tmp_path / "gone.npz")
    assert (code, out) == (2, "")
    assert "gone.npz" in err


def test_predict_with_samples_writes_a_gallery(capfd, tmp_path, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["train", photos, *SHORT, "--image-size", "16", "--on-bad-image", "skip", "--out", tmp_path / "run"]
    assert run(capfd, *words)[0] == 0
    code, out, err = run(capfd, "predict", tmp_path / "run", photos / "bright", "--samples", 3, "--html")
    assert code == 1  # one of the pictures is broken
    assert "gallery: predictions.html" in out + err
    assert "from the surest" in (tmp_path / "predictions.html").read_text(encoding="utf-8")
