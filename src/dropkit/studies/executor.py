"""The one place that runs trainings for a study: what an executor is, and the one of this machine's processes."""

import dataclasses
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch
from joblib import Parallel, delayed

from dropkit.data.pictures import Pictures, load
from dropkit.errors import DropkitError
from dropkit.runs.config import TrainConfig, require_number
from dropkit.runs.training import advance, split_data

PROCESS_START_SECONDS = 5.0
FEATURES = "features"  # folder in the study's, in which a frozen network's features are kept for all its runs
PICTURE_FIELDS = ("image_size", "on_bad_image", "stream")  # what else than the source decides what is loaded, and how


class Executor(Protocol):
    """What runs trainings for a study, wherever: the records that it leaves are the same."""

    workers: int
    threads: int

    @property
    def start_seconds(self) -> float:
        """About what it takes until the first training begins."""

    @property
    def copies(self) -> int:
        """How many processes of this machine hold the pictures at once."""

    @property
    def shares_disk(self) -> bool:
        """Whether several processes train that read this machine's disk."""

    def map(
        self, configs: Sequence[TrainConfig], pictures: Pictures, spool: Path, *, until: int | None = None
    ) -> Iterator[Path]:
        """Train every config; yield the folder of each run when it is done, in the order of finishing.

        Args:
            configs: the trainings; all name the same pictures, though not the same split of them.
            pictures: what they are to see; a process that finds others refuses to train.
            spool: the study's folder: where pictures may be kept on disk while they are streamed.
            until: the epoch after which each pauses; None trains to the end.
        """


class LocalProcesses:
    """Runs trainings side by side in processes of this machine.

    The trainings of a study share nothing, so by default there is a process for every core, with one thread each: no
    thread ever waits for another one.

    Args:
        workers: how many trainings at a time; None for one a core (one in all where there is a GPU).
        threads: CPU threads of each; None for an equal share of the cores.
    """

    def __init__(self, workers: int | None = None, threads: int | None = None) -> None:
        cores = torch.get_num_threads()
        self.workers = workers if workers is not None else 1 if torch.accelerator.is_available() else cores
        self.threads = threads if threads is not None else max(1, cores // self.workers)

    @property
    def start_seconds(self) -> float:
        """About what it takes until the first training begins: a process has torch to import."""
        return PROCESS_START_SECONDS if self.workers > 1 else 0.0

    @property
    def copies(self) -> int:
        """How many processes hold the pictures at once: this one, and those that train."""
        return self.workers + 1 if self.workers > 1 else 1

    @property
    def shares_disk(self) -> bool:
        """Whether there are several processes: this machine's disk is theirs."""
        return self.workers > 1

    def map(
        self, configs: Sequence[TrainConfig], pictures: Pictures, spool: Path, *, until: int | None = None
    ) -> Iterator[Path]:
        """Train every config, as `Executor.map` says."""
        tasks = [dataclasses.replace(config, threads=self.threads) for config in configs]
        if min(self.workers, len(tasks)) <= 1:
            for task in tasks:
                yield _train(task, pictures, spool, until)
            return
        # loky's processes need no `if __name__ == "__main__"` in the caller's script, unlike multiprocessing's.
        pool = Parallel(n_jobs=min(self.workers, len(tasks)), return_as="generator_unordered", batch_size=1)
        # Published weights have a size of their own, and the arms' networks may differ in it: all see these pictures.
        height, width = pictures.shape[1:]
        size = f"{height}x{width}" if tasks[0].published_weights else None
        told = (os.getpid(), str(spool), self.copies, pictures.fingerprint, size, until)
        try:
            yield from pool(delayed(_train_in_process)(task, *told) for task in tasks)
        except BrokenProcessPool as loss:
            raise DropkitError(
                f"a process that trained was killed, as a system does it whose memory is full, or crashed "
                f"({_reason(loss)}). What was finished is kept, and the same command goes on; --workers 1 or a "
                f"smaller --batch-size needs less memory"
            ) from None


def _reason(loss: BrokenProcessPool) -> str:
    r"""Return what is known of the end of a process.

    >>> _reason(BrokenProcessPool("A worker process ... unexpectedly terminated.\nThe exit codes are {SIGKILL(-9)}"))
    'the exit codes are {SIGKILL(-9)}'
    """
    known = [line for line in str(loss).splitlines() if "exit code" in line]
    return known[0].strip()[:1].lower() + known[0].strip()[1:] if known else "its end is all that is known"


def choose_executor(
    workers: int | None = None,
    threads: int | None = None,
    ray: str | None = None,
    cpus_per_trial: float | None = None,
    gpus_per_trial: float | None = None,
) -> Executor:
    """Return what runs the trainings of a study: processes of this machine, or a Ray cluster where one is named.

    Args:
        workers: how many trainings at a time; None for as many as there is room for.
        threads: CPU threads of each, on this machine; None for an equal share of the cores.
        ray: address of a running cluster, see `dropkit.studies.cluster.RayCluster`.
        cpus_per_trial: CPUs of each training on the cluster; None for 1.
        gpus_per_trial: GPUs of each training on the cluster; None for 0.

    Raises:
        DropkitError: if a number is out of range, options of the one are given for the other, or the cluster cannot
            be used.
    """
    require_number("workers", workers, whole=True, low=1)
    if ray is None:
        for name, share in (("cpus_per_trial", cpus_per_trial), ("gpus_per_trial", gpus_per_trial)):
            if share is not None:
                raise DropkitError(f"{name} is of a Ray cluster: give its address too (--ray auto), or leave it out")
        return LocalProcesses(workers, threads)
    if threads is not None:
        raise DropkitError(
            "threads is of this machine: on a Ray cluster a training has as many as CPUs, so give --cpus-per-trial"
        )
    from dropkit.studies.cluster import RayCluster  # here: an extra

    shares = {"cpus": cpus_per_trial, "gpus": gpus_per_trial}
    return RayCluster(ray, workers=workers, **{name: share for name, share in shares.items() if share is not None})


def _train_in_process(
    config: TrainConfig,
    parent: int,
    spool: str,
    copies: int,
    fingerprint: str,
    size: str | None,
    until: int | None = None,
) -> Path:
    # Ctrl-C reaches every process of the terminal; the parent alone answers it and ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def orphaned() -> bool:
        return os.getppid() != parent

    if orphaned():  # the study was killed while this process began
        os._exit(1)
    how = {name: getattr(config, name) for name in PICTURE_FIELDS}
    how["image_size"] = how["image_size"] or size
    pictures = _pictures(config.data, tuple(how.items()), spool, copies, fingerprint)
    folder = _train(config, pictures, Path(spool), until, orphaned)
    if orphaned():
        os._exit(1)  # nobody waits for the answer, and a pool's process waits for more to do
    return folder


def _train(
    config: TrainConfig, pictures: Pictures, study: Path, until: int | None, orphaned: Callable[[], bool] | None = None
) -> Path:
    data = (pictures, split_data(config, pictures))
    # A process whose study was killed stops, and leaves the run's folder to that which goes on.
    stop = {} if orphaned is None else {"asked_to_stop": orphaned}
    advance(config, data, until=until, features=study / FEATURES, **stop)
    return config.folder()


@lru_cache(maxsize=1)
def _pictures(source: str, how: tuple[tuple[str, Any], ...], spool: str, copies: int, fingerprint: str) -> Pictures:
    """Load the pictures once for all the trainings of a process."""
    pictures = load(source, **dict(how), spool=Path(spool), copies=copies)
    if pictures.fingerprint != fingerprint:
        raise DropkitError(
            f"the pictures of {source!r} changed while the study ran: restore them, or begin a new study"
        )
    return pictures
