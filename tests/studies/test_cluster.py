"""The executor of a Ray cluster: the same records as local processes, whatever happens to nodes, driver and files."""

import dataclasses
import json
import shutil
import socket
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from dropkit.data.pictures import load
from dropkit.errors import DropkitError
from dropkit.files import read_json
from dropkit.runs.config import TrainConfig
from dropkit.runs.record import RunFolder
from dropkit.runs.run import read_run
from dropkit.studies import cluster as module
from dropkit.studies import cluster_address
from dropkit.studies.cluster import RayCluster
from dropkit.studies.executor import LocalProcesses
from dropkit.studies.tune import tune

ray = pytest.importorskip("ray", reason="Ray is not installed (extra ray)")

from ray.cluster_utils import Cluster  # noqa: E402

# Ray leaves the log files of the processes that it starts to be closed by the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

DIGITS = load("digits")
STORE = 80 * 2**20  # bytes of shared memory for each node
# A node that is killed is given up within a second.
QUICK = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 200,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}


@pytest.fixture(scope="module")
def cluster():
    """A head that trains nothing, and two nodes with a CPU each."""
    head = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False, "_system_config": QUICK}
    made = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        made.add_node(num_cpus=1, object_store_memory=STORE)
    yield made
    ray.shutdown()
    cluster_address._opened.clear()
    made.shutdown()


@pytest.fixture
def node(cluster):
    """Add a node for the time of a test."""
    added = []

    def add(**changes):
        added.append(cluster.add_node(object_store_memory=STORE, **changes))
        return added[-1]

    yield add
    for each in [each for each in added if each in cluster.worker_nodes]:
        cluster.remove_node(each, allow_graceful=False)
    wait_until(lambda: sum(alive["Alive"] for alive in ray.nodes()) == 3)


def wait_until(true):
    for _ in range(3000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("waited in vain")


def made(short, folder, count=2, **changes):
    return [
        short(**{"seed": seed, "threads": None, "out": str(folder / str(seed)), **changes}) for seed in range(count)
    ]


def trained_here(configs, place, pictures=DIGITS, spool=None, threads=1):
    """Train the same configs in this process, in folders of the same names elsewhere."""
    moved = [dataclasses.replace(config, out=str(place / Path(config.out).name)) for config in configs]
    list(LocalProcesses(workers=1, threads=threads).map(moved, pictures, spool or place))
    return moved


def plain(path):
    """Return what a file of a run holds, but for how long things took and where the run lies."""
    if path.suffix == ".safetensors":
        return path.read_bytes()
    rows = (
        [json.loads(line) for line in path.read_text().splitlines()] if path.suffix == ".jsonl" else [read_json(path)]
    )
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second", "out")} for row in rows]


def assert_same(one, other):
    """Hold two runs' files against each other, byte for byte but for times and places."""
    folders = [Path(config.out) for config in (one, other)]
    names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    assert names[0] == names[1]
    assert {"config.json", "summary.json", "model.safetensors", "test.safetensors", "metrics.jsonl"} <= set(names[0])
    for name in names[0]:
        assert plain(folders[0] / name) == plain(folders[1] / name), name
    assert [row["epoch"] for row in plain(folders[0] / "metrics.jsonl")] == list(
        range(1, read_run(folders[0]).summary["epochs"] + 1)
    )


def test_the_records_are_those_of_local_processes(cluster, short, tmp_path):
    configs = made(short, tmp_path / "ray", 3, dropout="fc=0.3")
    executor = RayCluster(cluster.address)
    assert (executor.workers, executor.threads, executor.copies) == (2, 1, 2)
    done = list(executor.map(configs, DIGITS, tmp_path))
    assert sorted(done) == [config.folder() for config in configs]
    for config, local in zip(configs, trained_here(configs, tmp_path / "here"), strict=True):
        assert_same(config, local)
        text, local_text = [(Path(each.out) / "config.json").read_text() for each in (config, local)]
        assert text == local_text.replace(json.dumps(local.out), json.dumps(config.out))


def test_slices_of_an_epoch_give_the_same_bits(cluster, short, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SLICE_SECONDS", 0.0)
    seen, plain_store = [], module.store

    def store(folder, files):
        plain_store(folder, files)
        seen.append((len(RunFolder(folder).read_metrics()), RunFolder(folder).finished))

    monkeypatch.setattr(module, "store", store)
    configs = made(short, tmp_path / "ray", 1, epochs=3)
    assert list(RayCluster(cluster.address, workers=1).map(configs, DIGITS, tmp_path)) == [configs[0].folder()]
    assert seen == [(1, False), (2, False), (3, True)]
    assert_same(configs[0], trained_here(configs, tmp_path / "here")[0])


def test_it_pauses_goes_on_and_trains_nothing_twice(cluster, short, tmp_path, monkeypatch):
    configs = made(short, tmp_path / "ray", 2, epochs=5)
    folders = [config.folder() for config in configs]
    executor = RayCluster(cluster.address)
    assert sorted(executor.map(configs, DIGITS, tmp_path, until=2)) == folders
    assert [(len(RunFolder(each).read_metrics()), RunFolder(each).finished) for each in folders] == [(2, False)] * 2
    assert sorted(executor.map(configs[:1], DIGITS, tmp_path)) == folders[:1]  # one goes on alone
    times = {path: path.stat().st_mtime_ns for path in folders[0].iterdir()}
    shutil.copy(folders[1] / "checkpoint.safetensors", folders[0])  # as a kill right after the summary leaves it
    assert sorted(executor.map(configs, DIGITS, tmp_path)) == folders
    assert {path: path.stat().st_mtime_ns for path in folders[0].iterdir()} == times
    monkeypatch.setattr(RayCluster, "_train", None)  # nothing is left to train
    assert list(executor.map(configs, DIGITS, tmp_path)) == folders
    assert list(executor.map(configs, DIGITS, tmp_path, until=1)) == folders
    for config, local in zip(configs, trained_here(configs, tmp_path / "here"), strict=True):
        assert_same(config, local)


HELD = '''
"""An augmentation that changes nothing, says on which node it works, and waits where it is told to."""
import time
from pathlib import Path

import ray

HERE = Path({place!r})


def held(pictures, *rest):
    if ray.is_initialized():
        node = ray.get_runtime_context().get_node_id()
        (HERE / f"at-{{node}}").touch()
        while (HERE / f"hold-{{node}}").exists():
            time.sleep(0.01)
    return pictures
'''


def test_a_node_that_dies_in_mid_training_loses_and_doubles_nothing(cluster, node, short, tmp_path, monkeypatch):
    victim = node(num_cpus=1, env_vars={"TMPDIR": str(tmp_path)})  # where it leaves what it had on its disk
    signs = tmp_path / "signs"
    signs.mkdir()
    (tmp_path / "augmentation.py").write_text(HELD.format(place=str(signs)))
    (signs / f"hold-{victim.node_id}").touch()
    monkeypatch.setattr(module, "SLICE_SECONDS", 0.0)
    waits, wait = [], RayCluster._next

    def with_death(self, flying):
        waits.append(len(flying))
        if len(waits) == 4:
            wait_until((signs / f"at-{victim.node_id}").exists)
            cluster.remove_node(victim, allow_graceful=False)
            waits.append("died")
        return wait(self, flying)

    monkeypatch.setattr(RayCluster, "_next", with_death)
    configs = made(short, tmp_path / "ray", 5, augment=f"{tmp_path}/augmentation.py:held")
    done = list(RayCluster(cluster.address).map(configs, DIGITS, tmp_path))
    assert waits[:5] == [3, 3, 3, 3, "died"]
    assert len(done) == 5
    assert sorted(done) == [config.folder() for config in configs]
    for config, local in zip(configs, trained_here(configs, tmp_path / "here"), strict=True):
        assert_same(config, local)


def plain_study(folder):
    """What a study's record holds, but for how long things took and where."""
    record = read_json(folder / "study.json")
    search = record["search"]
    figures = [(row["name"], row["n"], row["metrics"], row["verdict"]) for row in record["policies"]]
    trials = [{**trial, "seconds": None} for trial in search["trials"]]
    return figures, trials, search["finalists"], search["response"], search["importance"]


def test_a_search_that_loses_a_node_finds_what_one_process_finds(cluster, node, tmp_path, monkeypatch):
    """Search and confirmation, by way of the options: every trial ends once, on two nodes of three in the end."""
    pytest.importorskip("optuna", reason="optuna is not installed (extra tune)")
    given = {"data": "digits", "model": "mlp", "epochs": 4, "max_train": 150, "precision": "float32"}
    options = {"trials": 6, "seeds": 3, "weight_decays": (), "progress": False}
    victim, calls, wait, stored = node(num_cpus=1), [], RayCluster._next, []

    def with_death(self, flying):
        calls.append(len(flying))
        if len(flying) == 3 and "died" not in calls:  # on three nodes
            cluster.remove_node(victim, allow_graceful=False)
            calls.append("died")
        return wait(self, flying)

    def counted(folder, files, store=module.store):
        store(folder, files)
        stored.append((folder, len(RunFolder(folder).read_metrics()), RunFolder(folder).finished))

    monkeypatch.setattr(RayCluster, "_next", with_death)
    monkeypatch.setattr(module, "store", counted)
    tune(TrainConfig(**given), **options, ray=cluster.address, cpus_per_trial=1, out=tmp_path / "ray")
    assert "died" in calls
    tune(TrainConfig(**given, threads=1), **options, workers=1, out=tmp_path / "here")
    assert plain_study(tmp_path / "ray") == plain_study(tmp_path / "here")
    assert len(stored) == len(set(stored))  # nothing was brought back twice
    ended = [folder for folder, _, finished in stored if finished]
    assert len(ended) == len(set(ended)) == len(list((tmp_path / "here").glob("*/*/summary.json")))


def test_a_kill_between_two_files_leaves_a_run_that_goes_on(cluster, short, tmp_path, monkeypatch):
    """Every prefix of what is written, at the first slice and at the last one, is a state from which it goes on."""
    monkeypatch.setattr(module, "SLICE_SECONDS", 0.0)
    executor, whole = RayCluster(cluster.address), module.write_atomic
    names = ["split.json", "environment.json", "config.json", "metrics.jsonl", "checkpoint.safetensors"]
    last = ["metrics.jsonl", "checkpoint.safetensors", "model.safetensors", "test.safetensors", "summary.json"]
    config = short(threads=None, out=str(tmp_path / "ray"))
    local = trained_here([config], tmp_path / "here")[0]
    for stop in range(11):
        shutil.rmtree(config.folder(), ignore_errors=True)
        written = []

        def killed(path, content, stop=stop, written=written):
            if len(written) == stop:
                raise KeyboardInterrupt
            whole(path, content)
            written.append(path.name)

        monkeypatch.setattr(module, "write_atomic", killed)
        if stop < 9:
            with pytest.raises(KeyboardInterrupt):
                list(executor.map([config], DIGITS, tmp_path))
        else:
            list(executor.map([config], DIGITS, tmp_path))
        assert written == [*names, *last[:1], *last[2:]][:stop]
        assert RunFolder(config.folder()).finished == (stop >= 9)
        monkeypatch.setattr(module, "write_atomic", whole)
        assert list(executor.map([config], DIGITS, tmp_path)) == [config.folder()]
        assert_same(config, local)


def test_streamed_pictures_are_read_by_each_node(cluster, short, tmp_path, monkeypatch, write_pets):
    write_pets(tmp_path / "pets")
    monkeypatch.chdir(tmp_path)  # the nodes work elsewhere
    options = {"data": "pets", "image_size": "7", "augment": "none", "stream": "yes", "epochs": 1}
    configs = made(short, tmp_path / "ray", 2, **options)
    pictures = load("pets", image_size="7", stream="yes", spool=tmp_path / "spool")
    executor = RayCluster(cluster.address)
    assert len(list(executor.map(configs, pictures, tmp_path))) == 2
    for config, local in zip(configs, trained_here(configs, tmp_path / "here", pictures), strict=True):
        assert_same(config, local)
    Image.fromarray(np.full((8, 8), 255, dtype=np.uint8)).save(tmp_path / "pets" / "cat" / "3.png")
    # Another way to read them, so that a node does not know them yet.
    again = made(short, tmp_path / "again", 1, **{**options, "on_bad_image": "skip"})
    with pytest.raises(DropkitError, match=r"on the node \S+ are not those of the study"):
        list(executor.map(again, pictures, tmp_path))
    shutil.move("pets", "gone")
    other = dataclasses.replace(again[0], data=str(tmp_path / "dogs"))
    with pytest.raises(DropkitError, match=r"node \S+ cannot read the pictures .* give --stream no"):
        list(executor.map([other], pictures, tmp_path))


def test_pictures_in_memory_travel(cluster, short, tmp_path, write_pets):
    write_pets(tmp_path / "pets")
    options = {"data": str(tmp_path / "pets"), "image_size": "7", "augment": "flip", "epochs": 1}
    configs = made(short, tmp_path / "ray", 1, **options)
    pictures = load(options["data"], image_size="7")
    shutil.rmtree(tmp_path / "pets")
    assert len(list(RayCluster(cluster.address).map(configs, pictures, tmp_path))) == 1
    assert_same(configs[0], trained_here(configs, tmp_path / "here", pictures)[0])


def test_mistakes_in_a_training_come_through(cluster, short, tmp_path):
    executor = RayCluster(cluster.address)
    wrong = made(short, tmp_path / "ray", 2, dropout="nosuch=0.5")
    with pytest.raises(DropkitError, match="nosuch") as caught:
        list(executor.map(wrong, DIGITS, tmp_path))
    assert type(caught.value) is DropkitError
    with pytest.raises(DropkitError, match="device 'cuda' on a Ray cluster needs a share of a GPU"):
        list(executor.map(made(short, tmp_path / "ray", device="cuda"), DIGITS, tmp_path))
    done = made(short, tmp_path / "done", 1, epochs=1)
    list(executor.map(done, DIGITS, tmp_path))
    with pytest.raises(DropkitError, match="holds another run: .*dropout is"):
        list(executor.map([dataclasses.replace(done[0], dropout="fc=0.1")], DIGITS, tmp_path))


def test_what_no_node_has_is_refused_at_once(cluster):
    there = r"Its nodes have: .*1 CPU, 0 GPU"
    with pytest.raises(DropkitError, match=rf"no node .* has 2 CPU, which a training is to have. {there}"):
        RayCluster(cluster.address, cpus=2)  # there are two, but not on one node
    with pytest.raises(DropkitError, match=rf"has 1 CPU and 0.25 GPU, .* {there}"):
        RayCluster(cluster.address, gpus=0.25)
    assert RayCluster(cluster.address, cpus=0.1).workers == 20
    assert RayCluster(cluster.address, cpus=0.1, workers=3).workers == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cpus": 0}, "cpus_per_trial must be a number greater than 0"),
        ({"cpus": 1.5}, "cpus_per_trial must be a whole number, or a share of one"),
        ({"gpus": -1}, "gpus_per_trial must be a number of at least 0"),
        ({"workers": 0}, "workers must be a whole number of at least 1"),
    ],
)
def test_impossible_shares_are_refused(options, message):
    with pytest.raises(DropkitError, match=message):
        RayCluster("auto", **options)


@pytest.fixture
def waiting(cluster, monkeypatch):
    """An executor whose slices do not come back at the first two looks, and that looks without a pause."""
    executor, answers = RayCluster(cluster.address, cpus=0.5), [[], [], ["back"]]
    fake = SimpleNamespace(
        wait=lambda flying, **options: (sys.stdout.write("(raylet) a node died"), (answers.pop(0), []))[1]
    )
    monkeypatch.setattr(executor, "_ray", fake)
    monkeypatch.setattr(executor, "_nodes", list)
    monkeypatch.setattr(module, "NODE_SECONDS", 0.0)
    return executor


def test_a_cluster_without_nodes_is_waited_for_and_that_is_said_once(waiting, capsys):
    assert waiting._next(["back", "away"]) == ["back"]
    shown = capsys.readouterr()
    assert shown.out == ""  # for results
    assert shown.err.count("no node of the Ray cluster has 0.5 CPU now: waiting for one") == 1


def test_a_head_that_does_not_answer_ends_the_study_in_words(waiting, monkeypatch):
    monkeypatch.setattr(cluster_address, "_opened", ["127.0.0.1:9"])  # where nothing listens
    monkeypatch.setattr(module, "HEAD_SECONDS", 0.0)
    with pytest.raises(DropkitError, match=r"has not answered for 0 s: see that its head runs.* same command goes on"):
        waiting._next(["back", "away"])
    waiting._cancel(["back", "away"])  # asks it for nothing more
    assert waiting._at_once() == 1


def beginning_with(folder, code):
    """Return the options of a node whose processes run some code first."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(code)
    return {"env_vars": {"PYTHONPATH": str(folder)}}


ANOTHER = """
import importlib.metadata as metadata
there = metadata.version
metadata.version = lambda name: "9.8.7" if name == "dropkit" else there(name)
"""
NONE = """
import sys
class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name == "dropkit":
            raise ModuleNotFoundError("No module named 'dropkit'")
sys.meta_path.insert(0, Nowhere())
"""


def test_nodes_that_cannot_do_it_are_named(cluster, node, short, tmp_path):
    node(num_cpus=3, **beginning_with(tmp_path / "another", ANOTHER))
    config = short(out=str(tmp_path / "ray"))
    with pytest.raises(DropkitError, match=rf"node {socket.gethostname()} has dropkit 9.8.7 and torch .* runs with"):
        list(RayCluster(cluster.address, cpus=3).map([config], DIGITS, tmp_path))
    node(num_cpus=5, **beginning_with(tmp_path / "none", NONE))
    with pytest.raises(DropkitError, match=r"cannot import dropkit \(ModuleNotFoundError: .* install dropkit \d"):
        list(RayCluster(cluster.address, cpus=5).map([config], DIGITS, tmp_path))
    assert not config.folder().exists()


def test_a_gpu_that_torch_does_not_find_is_no_silent_training_on_the_cpu(cluster, node, short, tmp_path):
    node(num_cpus=1, num_gpus=1)
    executor = RayCluster(cluster.address, gpus=0.5, cpus=0.1)
    assert executor.workers == 2
    with pytest.raises(DropkitError, match="offers GPUs, but torch .* finds none there"):
        list(executor.map([short()], DIGITS, tmp_path))


SHARED = Path(__file__).resolve().parents[3] / "shared"
LIBRARIES = """
import sys
from pathlib import Path
if any("default_worker" in each for each in sys.orig_argv) and Path({place!r}, "torchvision_cpu.py").is_file():
    sys.path.append({place!r})
    import torchvision_cpu
"""


def test_features_of_a_frozen_network_travel(cluster, node, published, short, tmp_path):
    """The node never sees the published weights: those of the study's folder are taken along."""
    node(num_cpus=7, **beginning_with(tmp_path / "libraries", LIBRARIES.format(place=str(SHARED))))
    options = {"model": "timm:test_resnet", "pretrained": True, "image_size": "9", "max_train": 120, "dropout": "none"}
    configs = made(short, tmp_path / "ray" / "runs", 2, **options)
    pictures = load("digits", image_size="9")
    assert len(list(RayCluster(cluster.address, cpus=7).map(configs, pictures, tmp_path / "ray"))) == 2
    assert len(published) == 1
    here = trained_here(configs, tmp_path / "here" / "runs", pictures, tmp_path / "here", threads=7)
    for config, local in zip(configs, here, strict=True):
        assert_same(config, local)
        assert read_json(config.folder() / "environment.json")["features"] == "../../features"
