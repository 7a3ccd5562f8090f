"""Several processes train as one: the same weights, figures and files, whatever stops them."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from dropkit.errors import DropkitError
from dropkit.runs.checkpoint import read_tensors
from dropkit.runs.config import TrainConfig
from dropkit.runs.distributed import World
from dropkit.runs.record import RunFolder
from dropkit.runs.run import train_command
from dropkit.runs.training import advance, load_data, train

SCRIPT = Path(__file__).with_name("three_processes.py")

# Sums in another order differ by about 1e-7 of their terms: 3e-6 was the most that was seen in the weights of these
# short trainings, 2e-6 in the logits. A mask or a picture of another's makes another gradient, and moves weights by
# 1e-3 and more. (Over hundreds of steps any rounding grows, between processes as between numbers of threads:
# docs/distributed.md.)
CLOSE = 1e-4

# Adam divides a gradient by its own size: where it is all but 0, rounding becomes a step of either sign.
SGD = {"optimizer": "sgd", "lr": 0.05}

OWN = """
import os, time
import torch
from torch import nn

def slowly(images):
    time.sleep(float(os.environ.get("PAUSE", "0")))
    return images

class Network(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.conv, self.unused = nn.Conv2d(channels, 5, 3), nn.Linear(3, 7)
        self.fc = nn.Linear(5, classes)

    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))

def network(input_shape, num_classes):
    return Network(input_shape[0], num_classes)
"""


def torchrun(count, *words, **environment):
    """Start processes as torchrun does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count), "--master-port", port]
    return subprocess.Popen(
        [*command, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def end_of(process):
    """What a process printed and said until it ended; one that hangs is ended, with all that it started."""
    try:
        return process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.terminate()
        return process.communicate()


def difference(first, second):
    """The greatest difference between two files of tensors."""
    tensors = [read_tensors(path)[0] for path in (first, second)]
    assert tensors[0].keys() == tensors[1].keys()
    pairs = [(tensors[0][name].double(), tensors[1][name].double()) for name in tensors[0]]
    return max((a - b).abs().max().item() for a, b in pairs)


def timeless(rows):
    return [
        {k: v for k, v in row.items() if k not in ("seconds", "images_per_second", "learned_rates")} for row in rows
    ]


def assert_as_one(folder, config, tmp_path):
    """The run in a folder is the one that a single process makes of the same config."""
    one = train(dataclasses.replace(config, out=str(tmp_path / "one")), progress=False, page=False)
    rows = timeless(RunFolder(folder).read_metrics())
    assert len(rows) == config.epochs
    for row, expected in zip(rows, timeless(one.epochs), strict=True):
        assert row == pytest.approx(expected, abs=CLOSE, rel=0)
    for name in ("model.safetensors", "test.safetensors"):
        assert difference(folder / name, one.folder / name) < CLOSE, name
    return one


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "own.py"
    path.write_text(OWN)
    return path


def options(out, **changes):
    given = {"data": "digits", "epochs": 2, "precision": "float32", "threads": 1, "out": str(out)}
    return TrainConfig(**{**given, **changes})


@pytest.fixture(scope="module")
def two(tmp_path_factory, own):
    """A training by the command in two processes: terminated in its second epoch, and gone on with."""
    place = tmp_path_factory.mktemp("two")
    config = options(
        place / "run",
        model="cnn",
        dropout="conv=0.1,fc=0.5",
        augment=f"{own}:slowly",
        class_weights="balanced",
        **SGD,
    )
    words = ["-m", *train_command(config).split()]
    first, folder = torchrun(2, *words, PAUSE="0.1"), RunFolder(place / "run")
    deadline = time.monotonic() + 60
    while not folder.checkpoint.is_file() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    first.send_signal(signal.SIGTERM)
    end_of(first)
    before = (folder.begun, folder.finished, len(folder.read_metrics()))
    second = torchrun(2, *words)
    printed, said = end_of(second)
    return config, before, second.returncode, printed, said


def test_two_processes_train_as_one_though_they_were_stopped(two, tmp_path):
    config, before, code, _, said = two
    assert before == (True, False, 1)
    assert code == 0, said
    assert_as_one(Path(config.out), config, tmp_path)
    assert json.loads((Path(config.out) / "environment.json").read_text())["world_size"] == 2


def test_the_first_process_alone_speaks_and_writes(two):
    config, _, _, printed, said = two
    assert printed.count("test error") == printed.count("kept in") == 1
    assert said.count("going on after epoch 1") == said.count("1,797 pictures") == 1
    assert set(os.listdir(config.out)) == {
        *("config.json", "environment.json", "split.json", "metrics.jsonl", "model.safetensors", "test.safetensors"),
        *("summary.json", "details.json", "report.html"),
    }
    assert os.listdir(Path(config.out).parent) == ["run"]


@pytest.fixture(scope="module")
def three(tmp_path_factory, own):
    """Trainings in three processes, one after the other, and what each process saw of them."""
    place = tmp_path_factory.mktemp("three")
    jobs = {
        # 259 pictures in batches of 128: three are left over, of which only one process can have two.
        "small": {"model": "mlp", "max_train": 259, "dropout": "fc=0.5", "augment": "flip,crop", "schedule": "linear"},
        "weighted": {
            "model": "cnn",
            "dropout": "conv=channel:0.1,fc=0.5",
            "class_weights": "balanced",
            "max_norm": 1.0,
            **SGD,
        },
        "learned": {"model": "mlp", "dropout": "fc=concrete:0.1", "max_train": 300},
        "unused": {"model": f"{own}:network", "dropout": "none", "optimizer": "adamw", "weight_decay": 0.1},
        "whole": {"model": "mlp", "dropout": "fc=0.5", "epochs": 3, "optimizer": "sgd"},
        "stopped_and_resumed": {"model": "mlp", "dropout": "fc=0.5", "epochs": 3, "optimizer": "sgd"},
        "begun_by_one": {"model": "cnn", "dropout": "fc=0.5", **SGD},
        "batch_norm": {"model": "bn-cnn", "dropout": "fc=0.5", "max_train": 259},
        "nan_in_one": {"model": "mlp"},
        "cannot_read_in_one": {"model": "mlp"},
        "other_pictures_in_one": {"model": "mlp"},
        "other_options_in_one": {"model": "mlp"},
    }
    configs = {name: options(place / name, **fields) for name, fields in jobs.items()}
    begun = configs["begun_by_one"]
    assert not advance(begun, load_data(begun), until=1)
    told = place / "jobs.json"
    told.write_text(json.dumps({name: dataclasses.asdict(config) for name, config in configs.items()}))
    ended = torchrun(3, str(SCRIPT), str(told))
    _, said = end_of(ended)
    assert ended.returncode == 0, said
    return configs, [json.loads((place / f"{rank}.json").read_text()) for rank in range(3)], said


@pytest.mark.parametrize("name", ["small", "weighted", "learned", "unused", "begun_by_one"])
def test_three_processes_train_as_one(three, tmp_path, name):
    configs, _, _ = three
    assert_as_one(Path(configs[name].out), configs[name], tmp_path)


def test_learned_rates_are_pulled_once(three, tmp_path):
    config = three[0]["learned"]
    one = train(dataclasses.replace(config, out=str(tmp_path / "one")), progress=False, page=False)
    rates = RunFolder(Path(config.out)).read_metrics()[-1]["learned_rates"]
    assert rates == pytest.approx(one.epochs[-1]["learned_rates"], abs=CLOSE, rel=0)
    assert len(rates) == 2


def test_a_parameter_that_nothing_reads_does_not_decay(three, own):
    config = three[0]["unused"]
    kept = read_tensors(Path(config.out) / "model.safetensors")[0]["unused.weight"]
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        namespace = {"__name__": "own"}
        exec(own.read_text(), namespace)
        assert torch.equal(kept, namespace["network"]((1, 8, 8), 10).unused.weight)


def test_a_stopped_run_of_three_goes_on_to_the_same_bits(three):
    whole, resumed = (RunFolder(Path(three[0][name].out)) for name in ("whole", "stopped_and_resumed"))
    assert timeless(whole.read_metrics()) == timeless(resumed.read_metrics())
    assert whole.model.read_bytes() == resumed.model.read_bytes()
    assert whole.test.read_bytes() == resumed.test.read_bytes()


def test_another_number_of_processes_is_noted(three):
    said = three[2]
    assert said.count("world_size 1 then, 3 now") == 1
    assert "weights will agree to rounding" in said


def test_the_statistics_of_batch_norm_are_the_first_ones(three):
    """They are each process's own while it trains; what is measured and kept is one network all the same."""
    config, seen = three[0]["batch_norm"], three[1]
    assert [process["batch_norm"]["status"] for process in seen] == ["finished"] * 3
    run = train(config, progress=False)
    assert run.repeated
    data = load_data(config)[0].read(load_data(config)[1].test).float()
    mean, std = (torch.tensor(run.summary["data"][name]) for name in ("mean", "std"))
    logits = run.model()((data - mean) / std).detach()
    torch.testing.assert_close(logits, run.test_predictions()[0], rtol=1e-4, atol=1e-4)


def test_a_loss_of_one_process_that_is_no_number_stops_all(three):
    seen = [process["nan_in_one"] for process in three[1]]
    assert seen[0] == seen[1] == seen[2]
    assert seen[0]["status"] == "diverged"
    assert "step 11" in seen[0]["reason"]
    assert seen[0]["epochs"] == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cannot_read_in_one", "no pictures for process 1"),
        ("other_pictures_in_one", "process 2 has other pictures than process 0"),
        ("other_options_in_one", "process 2 has other options than process 0"),
    ],
)
def test_what_one_process_cannot_do_none_does(three, name, message):
    for process in three[1]:
        assert message in process[name]["error"]
    assert not Path(three[0][name].out).exists()


def test_a_mistake_is_said_once_and_ends_all(tmp_path):
    ended = torchrun(2, "-m", "dropkit", "train", "digits", "--dropout", "foo=0.5", "--out", str(tmp_path / "run"))
    printed, said = end_of(ended)
    assert ended.returncode != 0
    assert said.count("dropkit: unknown site in policy 'foo=0.5'") == 1
    assert "exitcode  : 2" in said  # torchrun's own word on the first that failed; its own code is always 1
    assert printed == ""
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("count", [2, 3, 7, 10, 11, 128])
def test_shares_are_a_whole_batch_and_none_is_a_single_picture(size, count):
    shares = [World(rank, size).share(count) for rank in range(size)]
    busy = [share for share in shares if share.counts]
    assert [share.start for share in busy] == [0, *(share.stop for share in busy[:-1])]
    assert busy[-1].stop == count
    lengths = [share.stop - share.start for share in shares]
    assert min(lengths) >= 2
    counted = [share.stop - share.start for share in busy]
    assert max(counted) - min(counted) <= 1
    assert len(busy) == min(size, count // 2)
    assert shares[: len(busy)] == busy


def test_batches_that_are_too_small_are_refused():
    World(1, 3).require_room(6)
    World(0, 1).require_room(1)
    with pytest.raises(DropkitError, match="3 processes share .* need 2 each, but a step has 5: start at most 2"):
        World(1, 3).require_room(5)


def test_each_process_has_its_own_gpu(monkeypatch):
    second = World(1, 4, local_rank=1, local_size=2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert [second.device_name(name) for name in ("auto", "cpu")] == ["cpu", "cpu"]
    with pytest.raises(DropkitError, match="no GPU on this machine: give --device cpu"):
        second.device_name("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [second.device_name(name) for name in ("auto", "cuda", "cpu")] == ["cuda:1", "cuda:1", "cpu"]
    assert World().device_name("mps") == "mps"
    for name in ("mps", "cuda:0"):
        with pytest.raises(
            DropkitError, match=f"device '{name}' in several processes: allowed are auto, cpu, and cuda"
        ):
            second.device_name(name)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(DropkitError, match="2 processes on this machine need a GPU each, and it has 1: start 1 with"):
        second.device_name("auto")


def test_cores_are_shared_out_on_each_machine(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(7)), raising=False)
    assert World(5, 6, local_rank=2, local_size=3).threads(None) == 2
    assert World(5, 6, local_rank=2, local_size=3).threads(4) == 4
    assert World(5, 16, local_rank=2, local_size=8).threads(None) == 1
    assert World().threads(None) is None
