"""What runs on a node of a Ray cluster: a slice of one training, from files to files.

What it is told are plain values, which every version of dropkit can read, so that another one is noticed and named.
"""

import json
import os
import socket
import time
import warnings
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dropkit.data.pictures import Pictures, load
from dropkit.errors import DropkitError
from dropkit.files import make_folder, read_record, write_json
from dropkit.runs.checkpoint import read_metadata
from dropkit.runs.config import TrainConfig
from dropkit.runs.record import RunFolder
from dropkit.runs.training import advance, split_data

Files = dict[str, NDArray[np.uint8]]
"""What files hold, by their path in a folder. Ray keeps arrays once a node, and hands them over without a copy."""


def versions() -> dict[str, str]:
    """Return the versions that must be the same everywhere; torch builds for CPU and GPU count as one version."""
    return {"dropkit": version("dropkit"), "torch": torch.__version__.partition("+")[0]}


def read_files(folder: Path, paths: list[Path]) -> Files:
    """Return what the files at `paths`, which lie in `folder`, hold."""
    return {path.relative_to(folder).as_posix(): np.frombuffer(path.read_bytes(), dtype=np.uint8) for path in paths}


def epochs_done(folder: RunFolder) -> int:
    """Return the epochs of an unfinished run from which it can go on."""
    if not folder.checkpoint.is_file():
        return 0
    return int(json.loads(read_metadata(folder.checkpoint)["progress"])["epoch"])


def train_slice(order: dict[str, Any]) -> tuple[bool, Files]:
    """Train for a while on this node; return whether all that was asked is done, and the run's files.

    Args:
        order: what `dropkit.studies.cluster` writes:
            versions: of the driver.
            config: the run's, as a dictionary.
            files: the run's, so far.
            pictures: [reference to the fields of `Pictures`], or how to load them where they are streamed.
            features: [reference to files] of the frozen network; empty without one.
            features_at: path of the folder of features, from the run's.
            gpus: share of a GPU that the task has.
            until: epoch after which the run pauses; None for its end.
            seconds: after which the slice ends, at an epoch.

    Raises:
        DropkitError: as `dropkit.runs.training.advance` does; if the versions or the pictures are others here, or the
            GPU cannot be used.
    """
    _require_same_versions(order["versions"])
    given = order["config"]
    with TemporaryDirectory(prefix="dropkit-") as temporary:
        folder, features = _places(Path(temporary), order["features_at"])
        _write_files(folder, order["files"])
        for reference in order["features"]:
            _write_files(features, _fetch(reference))
        config = TrainConfig(**{**given, "out": str(folder), "device": _device(given["device"], order["gpus"])})
        done = _advance(config, _pictures(order["pictures"]), features, order["until"], order["seconds"])
        return done, _collect(RunFolder(folder), given)


def _advance(config: TrainConfig, pictures: Pictures, features: Path, until: int | None, seconds: float) -> bool:
    """Train by whole epochs, at least one, until the time is up."""
    data, folder = (pictures, split_data(config, pictures)), RunFolder(config.folder())
    began, first = time.monotonic(), epochs_done(folder)
    goal, ahead = first + 1, 1
    while ahead >= 1:
        if until is not None:
            goal = min(goal, until)
        if advance(config, data, until=goal, features=features) or goal == until:
            return True
        spent = time.monotonic() - began
        ahead = int((seconds - spent) / (spent / (goal - first)))
        goal += ahead
    return False


def _require_same_versions(driver: dict[str, str]) -> None:
    here = versions()
    if here != driver:
        raise DropkitError(
            f"the node {socket.gethostname()} has {_listed(here)}, but the study runs with {_listed(driver)}: install "
            f"the same versions on every node"
        )


def _listed(found: dict[str, str]) -> str:
    return " and ".join(f"{name} {value}" for name, value in found.items())


def _places(root: Path, features_at: str) -> tuple[Path, Path]:
    """Return the run's folder and that of the features, which lie to each other as they do for the driver.

    The run's record tells where its features are, from its own folder.
    """
    upwards = Path(features_at).parts.count("..")
    folder = root.joinpath(*["run"] * max(1, upwards))
    return folder, Path(os.path.normpath(folder / features_at))


def _write_files(folder: Path, files: Files) -> None:
    for name, content in files.items():
        path = folder / name
        make_folder(path.parent)
        path.write_bytes(content.data)


def _collect(folder: RunFolder, given: dict[str, Any]) -> Files:
    """Return the run's files, as they would be had the driver trained."""
    changed = {name: given[name] for name in ("out", "device")}
    write_json(folder.config, {**read_record(folder.config), **changed})
    return read_files(folder.path, [path for path in sorted(folder.path.rglob("*")) if _travels(path, folder)])


def _travels(path: Path, folder: RunFolder) -> bool:
    return path.is_file() and not path.name.startswith(".") and folder.features not in path.parents


def _device(wanted: str, gpus: float) -> str:
    """Return the device to train on: no GPU that Ray has not set aside for the task."""
    if not gpus:
        return "cpu" if wanted == "auto" else wanted
    if not torch.accelerator.is_available():
        raise DropkitError(
            f"the node {socket.gethostname()} offers GPUs, but torch {torch.__version__} finds none there: install a "
            f"build of torch for its GPU, or train without (--gpus-per-trial 0)"
        )
    return wanted


def _pictures(told: Any) -> Pictures:
    """Return the pictures: those that the driver put into the cluster, or what this node reads itself."""
    if isinstance(told, dict):
        return _read_here(told["source"], tuple(told["how"].items()), told["fingerprint"])
    fields = _fetch(told[0])
    with warnings.catch_warnings():
        # Shared by all trainings of the node, so that nobody may write into it, and nobody does.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return Pictures(**{**fields, "held": torch.from_numpy(fields["held"])})


@lru_cache(maxsize=1)
def _read_here(source: str, how: tuple[tuple[str, Any], ...], fingerprint: str) -> Pictures:
    """Read the pictures, once for all the trainings of this process; the file of decoded ones goes with it."""
    node = socket.gethostname()
    try:
        pictures = load(source, **dict(how))
    except DropkitError as error:
        raise DropkitError(
            f"the node {node} cannot read the pictures ({error}). Pictures that are streamed are read by each node: "
            f"they must lie at the same path on all, or else give --stream no"
        ) from None
    if pictures.fingerprint != fingerprint:
        raise DropkitError(
            f"the pictures of {source!r} on the node {node} are not those of the study: bring the same files to all "
            f"nodes, or begin a new study"
        )
    return pictures


def _fetch(reference: Any) -> Any:
    """Return what a reference stands for.

    It came inside a list, where Ray leaves references as they are: what it stands for is read after the versions.
    """
    import ray

    return ray.get(reference)
