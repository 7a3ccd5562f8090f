"""Nothing of dropkit's reads a pickle or runs what is in data; code that the user names is run, and that is said."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest

import dropkit
from dropkit import cli
from dropkit.errors import DropkitError

ROOT = Path(dropkit.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
UNPICKLE = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
RUN = {"eval", "exec", "compile", "__import__"}


def calls(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_unpickles_or_runs_text(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not UNPICKLE & {name.name.partition(".")[0] for name in node.names}
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in UNPICKLE
    for node, name in calls(tree):
        assert name not in RUN, name
        assert name not in ("torch.load", "joblib.load", "torch.jit.load", "yaml.load", "os.system"), name
        if name in ("np.load", "numpy.load"):
            assert not any(keyword.arg == "allow_pickle" for keyword in node.keywords)
        if name.startswith("subprocess."):
            assert not any(keyword.arg == "shell" for keyword in node.keywords)


class Loud:
    """What a pickle would run when it is read."""

    def __reduce__(self):
        return (Path("ran").touch, ())


def test_pickled_arrays_are_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("bad.npz", train_images=np.array([Loud()] * 3, dtype=object), train_labels=np.arange(3))
    with pytest.raises(DropkitError, match="pickle|plain arrays"):
        dropkit.train(dropkit.TrainConfig(data="bad.npz", out="run"), progress=False)
    assert not Path("ran").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "test.safetensors"])
def test_a_pickle_in_the_place_of_weights_is_refused_and_not_run(short, tmp_path, monkeypatch, name):
    import pickle

    monkeypatch.chdir(tmp_path)
    run = dropkit.train(short(epochs=1), progress=False)
    (run.folder / name).write_bytes(pickle.dumps(Loud()))
    with pytest.raises(DropkitError, match=f"{name} is damaged"):
        run.model() if name.startswith("model") else run.test_predictions()
    assert not Path("ran").exists()


def test_code_that_is_not_dropkits_is_said_each_time(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "from torch import nn\n"
        "def network(input_shape, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, num_classes))\n"
    )
    words = ["digits", "--model", "mine.py:network", "--epochs", "1", "--dropout", "none", "--out", "run"]
    assert run_command(["train", *words]) == 0
    said = "running code that is not dropkit's, named by model 'mine.py:network'"
    assert capfd.readouterr().err.count(said) == 1
    assert run_command(["evidence", "run"]) == 0
    assert said in capfd.readouterr().err
    assert run_command(["train", "digits", "--epochs", "1", "--out", "plain"]) == 0
    assert "running code" not in capfd.readouterr().err


def run_command(words):
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    return stopped.value.code


def test_the_security_page_names_what_is_run():
    text = (ROOT.parents[1] / "SECURITY.md").read_text()
    for word in (
        "--model path.py:function",
        "--augment module:function",
        "pickle",
        "content security policy",
        "safetensors",
    ):
        assert word in text


def test_records_are_json_without_a_tag_that_names_a_class(short):
    run = dropkit.train(short(epochs=1), progress=False)
    for path in run.folder.glob("*.json"):
        assert isinstance(json.loads(path.read_text()), dict)
