"""The one place that runs trainings for a study: here in local processes."""

import dataclasses
import signal
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from joblib import Parallel, delayed

from dropkit.errors import DropkitError
from dropkit.runs.config import TrainConfig
from dropkit.runs.pictures import Pictures
from dropkit.runs.split import Split
from dropkit.runs.training import load_data, train

PROCESS_START_SECONDS = 5.0


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

    def map(self, configs: Sequence[TrainConfig], fingerprint: str) -> Iterator[Path]:
        """Train every config; yield the folder of each run when it is done, in the order of finishing.

        Args:
            configs: the trainings.
            fingerprint: of the pictures that they are to see; a process that finds others refuses to train.
        """
        tasks = [dataclasses.replace(config, threads=self.threads) for config in configs]
        if min(self.workers, len(tasks)) <= 1:
            for task in tasks:
                yield _train(task, fingerprint)
            return
        # loky's processes need no `if __name__ == "__main__"` in the caller's script, unlike multiprocessing's.
        pool = Parallel(n_jobs=min(self.workers, len(tasks)), return_as="generator_unordered", batch_size=1)
        yield from pool(delayed(_train_in_process)(task, fingerprint) for task in tasks)


def _train_in_process(config: TrainConfig, fingerprint: str) -> Path:
    # Ctrl-C reaches every process of the terminal; the parent alone answers it and ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return _train(config, fingerprint)


def _train(config: TrainConfig, fingerprint: str) -> Path:
    data = _data(config.data, config.split_seed, config.max_train, fingerprint)
    return train(config, progress=False, page=False, data=data).folder


@lru_cache(maxsize=1)
def _data(source: str, split_seed: int, max_train: int | None, fingerprint: str) -> tuple[Pictures, Split]:
    """Load the data once for all the trainings of a process."""
    data = load_data(TrainConfig(data=source, split_seed=split_seed, max_train=max_train))
    if data[0].fingerprint != fingerprint:
        raise DropkitError(
            f"the pictures of {source!r} changed while the study ran: restore them, or begin a new study"
        )
    return data
