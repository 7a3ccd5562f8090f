"""The executor of a Ray cluster: the trainings of a study as Ray tasks on its nodes, with the same records.

No shared file system is needed. A task is a *slice*: it takes a run's files along, trains in a folder of the node's
own for about a minute, and gives the files back; the process that runs the study (the *driver*) stores them in the
run's folder and sends the next slice. A stop of the study therefore costs a slice at most, whatever it stops.
"""

import contextlib
import dataclasses
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dropkit.data.pictures import Pictures
from dropkit.errors import DropkitError
from dropkit.files import make_folder, write_atomic
from dropkit.runs.config import TrainConfig, require_number, safe_name
from dropkit.runs.record import RunFolder
from dropkit.runs.training import keep_features, say, split_data
from dropkit.studies.cluster_address import connect, is_there
from dropkit.studies.cluster_node import Files, epochs_done, read_files, train_slice, versions
from dropkit.studies.executor import FEATURES, PICTURE_FIELDS, PROCESS_START_SECONDS

SLICE_SECONDS = 60.0
LOOK_SECONDS = 5.0  # between two looks at whether the cluster is there, and has a node that can train
NODE_SECONDS = 60.0  # without a node after which that is said
# Without an answer of its head after which a cluster is gone; Ray itself ends the process after a minute.
HEAD_SECONDS = 30.0
CANCEL_SECONDS = 3.0
# A slice that takes its node or process down so often does it itself; nodes that come and go do not.
RETRIES = 10


class RayCluster:
    """Runs trainings as tasks on the nodes of a Ray cluster.

    A training that a node takes down with it is made again from the end of its last slice, on another node, with the
    same bits where the machines are of one kind.

    Args:
        address: "auto" (a cluster on this machine, or the one that RAY_ADDRESS names), "HOST:PORT" or
            "ray://HOST:PORT". It must be running: none is started.
        cpus: CPUs of each training; it computes with as many threads, at least one.
        gpus: GPUs of each training; a share such as 0.25 lets four use one GPU at a time. Without, it uses none.
        workers: how many trainings at a time; None for as many as the nodes have room for.

    Raises:
        DropkitError: if Ray is not installed, no cluster answers, or none of its nodes has what a training needs.

    Example:
        >>> RayCluster("nowhere")
        Traceback (most recent call last):
        ...
        dropkit.errors.DropkitError: 'nowhere' is not the address of a Ray cluster: allowed are auto (a cluster on \
this machine), HOST:PORT and ray://HOST:PORT, as `ray start --head` prints them
    """

    def __init__(self, address: str, *, cpus: float = 1, gpus: float = 0, workers: int | None = None) -> None:
        _require_share("cpus_per_trial", cpus, zero=False)
        _require_share("gpus_per_trial", gpus, zero=True)
        require_number("workers", workers, whole=True, low=1)
        self.address = address
        self.cpus = cpus
        self.gpus = gpus
        self._ray = connect(address)
        self._asked = workers
        self._gone = False
        self._require_room()
        self.workers = workers if workers is not None else self._room()
        self.threads = max(1, int(cpus))

    @property
    def start_seconds(self) -> float:
        """About what it takes until the first training begins: a process on a node has torch to import."""
        return PROCESS_START_SECONDS

    @property
    def copies(self) -> int:
        """How often this machine holds the pictures: this process, and Ray's memory for all that is sent to nodes."""
        return 2

    @property
    def shares_disk(self) -> bool:
        """That nodes read this machine's disk is not taken for granted."""
        return False

    def map(
        self, configs: Sequence[TrainConfig], pictures: Pictures, spool: Path, *, until: int | None = None
    ) -> Iterator[Path]:
        """Train every config, as `dropkit.studies.executor.Executor.map` says."""
        tasks = [dataclasses.replace(config, threads=self.threads) for config in configs]
        for task in tasks:
            self._require_device(task)
            RunFolder(task.folder()).require_same(task)
        waiting: deque[TrainConfig] = deque()
        for task in tasks:
            if _settled(RunFolder(task.folder()), until):
                yield task.folder()
            else:
                waiting.append(task)
        if waiting:
            yield from self._train(waiting, _Load(self._ray, waiting, pictures, spool), until)

    def _train(self, waiting: deque[TrainConfig], load: "_Load", until: int | None) -> Iterator[Path]:
        """Keep as many slices on the way as there is room for, and store what comes back."""
        resources = {"num_cpus": self.cpus, "num_gpus": self.gpus}
        remote = self._ray.remote(max_retries=RETRIES, retry_exceptions=False, **resources)(train_slice)
        flying: dict[Any, TrainConfig] = {}
        try:
            while waiting or flying:
                while waiting and len(flying) < self._at_once():
                    task = waiting.popleft()
                    flying[remote.remote(self._order(task, load, until))] = task
                for reference in self._next(list(flying)):
                    task = flying.pop(reference)
                    done, files = self._result(reference, task)
                    store(task.folder(), files)
                    if done:
                        yield task.folder()
                    else:
                        waiting.appendleft(task)  # before those that have not begun: whole rounds come first
        finally:
            self._cancel(list(flying))  # also on Ctrl-C and on a mistake in one training: nobody waits for the others

    def _cancel(self, flying: list[Any]) -> None:
        if self._gone:
            return
        with contextlib.suppress(Exception):  # the cluster itself may be gone
            for reference in flying:
                self._ray.cancel(reference)
            if flying:  # time to remove what they have on their nodes' disks
                self._ray.wait(flying, num_returns=len(flying), timeout=CANCEL_SECONDS)

    def _order(self, task: TrainConfig, load: "_Load", until: int | None) -> dict[str, Any]:
        """Return what a node is told: see `train_slice`."""
        folder = RunFolder(task.folder())
        needed = (folder.config, folder.environment, folder.split, folder.metrics, folder.checkpoint)
        begun = folder.begun
        return {
            "versions": versions(),
            "config": dataclasses.asdict(task),
            "files": read_files(folder.path, [path for path in needed if path.is_file()]) if begun else {},
            "pictures": load.pictures_of(task),
            "features": load.features_of(task),
            "features_at": os.path.relpath(load.features, folder.path),
            "gpus": self.gpus,
            "until": until,
            "seconds": SLICE_SECONDS,
        }

    def _next(self, flying: list[Any]) -> list[Any]:
        """Wait for slices; return those that came back. Say so where no node is left to train on.

        Raises:
            DropkitError: if the head of the cluster does not answer any more.
        """
        began = answered = time.monotonic()
        told = False
        while True:
            # Ray tells of nodes that die on standard output, which is for results.
            with contextlib.redirect_stdout(sys.stderr):
                ready, _ = self._ray.wait(flying, num_returns=1, timeout=LOOK_SECONDS)
            if ready:
                return list(ready)
            now = time.monotonic()
            if is_there(self.address):
                answered = now
            elif now - answered >= HEAD_SECONDS:
                self._gone = True
                raise DropkitError(
                    f"the Ray cluster at {self.address!r} has not answered for {HEAD_SECONDS:g} s: see that its head "
                    f"runs, or give another cluster. What has come back is kept, and the same command goes on"
                )
            elif now - answered >= LOOK_SECONDS:
                continue  # who does not answer cannot say what nodes there are
            if not told and now - began >= NODE_SECONDS and self._room() == 0:
                say(f"no node of the Ray cluster has {self._request()} now: waiting for one (Ctrl-C leaves)")
                told = True

    def _result(self, reference: Any, task: TrainConfig) -> tuple[bool, Files]:
        """Return what a slice brought back; what the user can mend is raised as it was there."""
        errors = self._ray.exceptions
        try:
            done, files = self._ray.get(reference)
        except errors.RayTaskError as error:
            raise _cause(error) from None
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError) as error:
            raise DropkitError(
                f"the training in {str(task.folder())!r} took its process on the Ray cluster down {RETRIES + 1} times "
                f"({type(error).__name__}): see that the nodes have the memory for it. The same command goes on"
            ) from None
        return done, files

    def _at_once(self) -> int:
        """Return how many slices may be on the way: nodes may have come or gone."""
        if self._asked is not None:
            return self._asked
        return max(1, self._room()) if is_there(self.address) else 1  # a head that is gone would not say

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _room(self) -> int:
        """Return how many trainings the nodes can hold at once; each lies on one node."""
        wanted = [(name, share) for name, share in (("CPU", self.cpus), ("GPU", self.gpus)) if share]
        # 0.3 / 0.1 is a little less than 3.
        return sum(min(int(node.get(name, 0.0) / share + 1e-6) for name, share in wanted) for node in self._nodes())

    def _require_room(self) -> None:
        if self._room():
            return
        there = "; ".join(f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for node in self._nodes())
        raise DropkitError(
            f"no node of the Ray cluster at {self.address!r} has {self._request()}, which a training is to have. Its "
            f"nodes have: {there}. Ask for less (--cpus-per-trial, --gpus-per-trial), or add nodes (ray start "
            f"--address=...)"
        )

    def _request(self) -> str:
        return f"{self.cpus:g} CPU" + (f" and {self.gpus:g} GPU" if self.gpus else "")

    def _require_device(self, config: TrainConfig) -> None:
        if not self.gpus and config.device not in ("auto", "cpu"):
            raise DropkitError(
                f"device {config.device!r} on a Ray cluster needs a share of a GPU for each training: give "
                f"--gpus-per-trial too, such as 1 or 0.25"
            )


class _Load:
    """What all trainings of a study need, put into the cluster once.

    Args:
        ray: the module.
        tasks: the trainings.
        pictures: what they are to see.
        spool: the study's folder.
    """

    def __init__(self, ray: Any, tasks: Sequence[TrainConfig], pictures: Pictures, spool: Path) -> None:
        self.features = spool / FEATURES
        self.fingerprint = pictures.fingerprint
        self.shape = pictures.shape
        # In lists, in which Ray leaves references as they are.
        self._pictures = [] if pictures.images is None else [ray.put(_fields(pictures))]
        self._networks = {name: [ray.put(files)] for name, files in self._frozen(tasks, pictures).items()}

    def _frozen(self, tasks: Sequence[TrainConfig], pictures: Pictures) -> dict[str, Files]:
        """Return the files of every frozen network: computed here where they are not there yet, so that all agree."""
        frozen = [task for task in tasks if task.pretrained]
        for task in {(t.model, t.split_seed, t.fold, t.max_train, t.group): t for t in frozen}.values():
            keep_features(task, (pictures, split_data(task, pictures)), self.features)
        folders = {task.model: self.features / safe_name(task.model) for task in frozen}
        return {
            name: read_files(self.features, sorted(folder.glob("*.safetensors"))) for name, folder in folders.items()
        }

    def features_of(self, task: TrainConfig) -> list[Any]:
        """Return [reference to the files of its frozen network], or nothing where it has none."""
        return self._networks[task.model] if task.pretrained else []

    def pictures_of(self, task: TrainConfig) -> Any:
        """Return [reference to the pictures], or how a node reads them where they do not fit into memory."""
        if self._pictures:
            return self._pictures
        named = task.data == "digits" or task.data.startswith("hub:")
        how = {name: getattr(task, name) for name in PICTURE_FIELDS}
        if task.published_weights and how["image_size"] is None:
            how["image_size"] = f"{self.shape[1]}x{self.shape[2]}"  # arms' networks may differ in their own size
        return {
            "source": task.data if named else str(Path(task.data).absolute()),
            "how": {**how, "stream": "yes"},
            "fingerprint": self.fingerprint,
        }


def store(folder: Path, files: Files) -> None:
    """Write what a node gave back into the run's folder, so that a kill at any moment leaves a run that goes on.

    Each file is whole or not there. `config.json` comes after what a run begins with, the checkpoint after the metrics
    up to it, `summary.json` last: the order in which `dropkit.runs` writes, which says what the presence of each means.
    """
    run = RunFolder(folder)
    make_folder(folder)
    run.remove_parts()
    first = (run.split, run.environment, run.config, run.metrics, run.checkpoint)
    order = [path.name for path in first] + sorted(set(files) - {path.name for path in (*first, run.summary)})
    for name in [*order, run.summary.name]:
        if name in files:
            _write(folder / name, files[name].tobytes())
    if run.finished:
        run.remove_checkpoints()


def _write(path: Path, content: bytes) -> None:
    if path.is_file() and path.read_bytes() == content:
        return
    make_folder(path.parent)
    write_atomic(path, content)


def _settled(folder: RunFolder, until: int | None) -> bool:
    """Whether nothing is left to train; the checkpoint that a stop left beside a summary is of no use any more."""
    if folder.finished:
        folder.remove_checkpoints()
        return True
    return until is not None and folder.begun and epochs_done(folder) >= until


def _fields(pictures: Pictures) -> dict[str, Any]:
    """Return the fields of pictures in memory; as an array all trainings of a node share them without a copy."""
    fields = {field.name: getattr(pictures, field.name) for field in dataclasses.fields(pictures)}
    return {**fields, "held": fields["held"].numpy()}


def _cause(error: Any) -> Exception:
    """Return what a task failed with, as the driver would have met it; what is no user's mistake stays as it is."""
    if isinstance(error.cause, DropkitError):
        return error.cause
    text = str(error)
    if "failed to import on the worker" in text:
        found = next((line.strip() for line in reversed(text.splitlines()) if "Error:" in line), "")
        told = " and ".join(f"{name} {value}" for name, value in versions().items())
        return DropkitError(f"a node of the Ray cluster cannot import dropkit ({found}): install {told} on every node")
    return error if isinstance(error, Exception) else RuntimeError(text)


def _require_share(name: str, share: float, *, zero: bool) -> None:
    require_number(name, share, low=0.0, low_allowed=zero)
    if share > 1 and share != int(share):
        raise DropkitError(f"{name} must be a whole number, or a share of one, but got {share!r}: so Ray counts them")
