"""How long a study will take: a few steps of every policy are timed before the first training."""

import dataclasses
import re
import tempfile
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from dropkit.data.pictures import Pictures
from dropkit.data.split import Split
from dropkit.errors import DropkitError
from dropkit.runs.checkpoint import save_checkpoint
from dropkit.runs.config import TrainConfig
from dropkit.runs.features import Features
from dropkit.runs.fitting import Fit
from dropkit.runs.training import computing_threads

TIMED_STEPS = 20
WARM_UP_STEPS = 3
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What one training of a policy is expected to cost.

    Attributes:
        seconds: of the whole training, alone on its share of the cores.
        epochs: how many epochs that assumes.
    """

    seconds: float
    epochs: int


def estimate(
    config: TrainConfig, data: tuple[Pictures, Split], threads: int, features: Features | None = None
) -> Estimate:
    """Time steps and an evaluation of one training, and multiply."""
    with computing_threads(threads):
        fit = Fit(config, *data, features)
        _time_steps(fit, WARM_UP_STEPS)
        fit.evaluate(fit.data.val[:1])
        per_step = _time_steps(fit, TIMED_STEPS) / TIMED_STEPS
        per_evaluation = _timed(lambda: fit.evaluate(fit.data.val))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "checkpoint.safetensors"
            best = fit.model.state_dict()
            per_checkpoint = _timed(lambda: save_checkpoint(path, fit.model, best, fit.optimizer, {}))
    steps = fit.data.steps(config.batch_size)
    epochs = expected_epochs(config, steps)
    # The validation pictures and as many training pictures are evaluated after each epoch, the test pictures once.
    per_epoch = steps * per_step + 2 * per_evaluation + per_checkpoint
    return Estimate(epochs * per_epoch + per_evaluation * len(fit.data.test) / len(fit.data.val), epochs)


def _time_steps(fit: Fit, count: int) -> float:
    """Return the seconds of `count` training steps. That the loss stays finite is the training's to watch."""
    batches = cycle(fit.data.epoch(0, 0, fit.config.batch_size))
    fit.model.train()
    # Read as in training: augmentation may take longer than the step itself.
    return _timed(lambda: [fit.train_step(*fit.data.read_to_train(batch, 0)) for batch in islice(batches, count)])


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def expected_epochs(config: TrainConfig, steps: int) -> int:
    """Return how many epochs a training is likely to take, given the steps of an epoch.

    With a plateau rule nobody knows beforehand. That the best epoch comes about when the patience would have run out
    once is a rule of thumb, which the smallest number of steps often outweighs.
    """
    if config.epochs is not None:
        return config.epochs
    return min(config.max_epochs, max(2 * config.patience, -(-config.min_steps // steps)))


def parse_budget(text: str) -> float:
    """Return the seconds that a time such as 20m, 1h30m or 90s means.

    Raises:
        DropkitError: if it is no such time.

    >>> parse_budget("1h30m")
    5400.0
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms])", text.strip().lower())
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text.strip().lower() or seconds <= 0:
        raise DropkitError(f"budget must be a time such as 20m, 1h30m or 90s, but got {text!r}")
    return seconds


def seeds_within(budget: float, seconds_per_seed: float, *, low: int, high: int) -> int:
    """Return how many seeds fit into `budget` seconds, at least `low` and at most `high`."""
    return max(low, min(high, int(budget / seconds_per_seed)))
