"""The pictures of a study: loaded once, for all its trainings."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dropkit.data.pictures import Pictures
from dropkit.data.split import Split
from dropkit.errors import DropkitError
from dropkit.runs.config import TrainConfig
from dropkit.runs.training import describe_data, load_data, say
from dropkit.studies.executor import Executor

FEWEST_TEST_PICTURES = 2


@contextmanager
def study_pictures(
    config: TrainConfig, folder: Path, executor: Executor, *, begun: Callable[[], bool], progress: bool
) -> Iterator[tuple[Pictures, Split]]:
    """Yield the pictures and their split; what streaming put on disk is removed when all is done.

    Args:
        config: the first training of the study.
        folder: the study's.
        executor: what trains.
        begun: whether the folder holds the study by now.
        progress: show progress on standard error.

    Raises:
        DropkitError: if the pictures cannot be used, or too few are left to test on.
    """
    data = load_data(_shared(config, executor), spool=folder, copies=executor.copies, progress=progress)
    try:
        if progress:
            say(describe_data(*data))
        if len(data[1].test) < FEWEST_TEST_PICTURES:
            raise DropkitError(
                f"a comparison needs at least {FEWEST_TEST_PICTURES} test pictures, not {len(data[1].test)}"
            )
        yield data
    except BaseException:
        if not begun():
            data[0].remove_spool()
        raise  # else the pictures stay: the same command goes on with them
    data[0].remove_spool()


def _shared(config: TrainConfig, executor: Executor) -> TrainConfig:
    """Return how a study reads its pictures: files are decoded once, onto disk, where processes share that disk."""
    files = config.data != "digits" and not config.data.lower().endswith(".npz")
    if files and config.stream == "auto" and executor.shares_disk:
        return dataclasses.replace(config, stream="yes")
    return config
