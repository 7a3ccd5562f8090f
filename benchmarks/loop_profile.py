"""Where the time of a training goes: steps, data, evaluation, records.

    python benchmarks/loop_profile.py DATA [--epochs 3] [any option of `dropkit train`]

Runs a real `dropkit train` in this process with a clock around each part, and prints the shares.
"""

import sys
import tempfile
import time
from collections import defaultdict
from unittest import mock

import tyro

from dropkit.runs.batches import Batches
from dropkit.runs.config import TrainConfig
from dropkit.runs.environment import cpu_name
from dropkit.runs.fitting import Fit
from dropkit.runs.record import RunFolder
from dropkit.runs.training import train

PARTS = {
    "training steps": (Fit, "train_step"),
    "data (read, augment, normalise)": (Batches, "read_to_train"),
    "evaluation": (Fit, "evaluate"),
    "records (metrics)": (RunFolder, "append_metrics"),
}


class Clock:
    """Seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def around(self, name: str, function):
        """Return the function with a clock around it."""

        def timed(*args, **kwargs):
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] += time.perf_counter() - began

        return timed


def main() -> None:
    """Train with clocks and print the shares."""
    words = sys.argv[1:] if "--epochs" in sys.argv else [*sys.argv[1:], "--epochs", "3"]
    with tempfile.TemporaryDirectory() as folder:
        config = tyro.cli(TrainConfig, args=[*words, "--out", f"{folder}/run"])
        clock = Clock()
        patches = [
            mock.patch.object(owner, name, clock.around(part, getattr(owner, name)))
            for part, (owner, name) in PARTS.items()
        ]
        checkpoint = clock.around(
            "records (checkpoint)", __import__("dropkit.runs.training").runs.training.save_checkpoint
        )
        patches.append(mock.patch("dropkit.runs.training.save_checkpoint", checkpoint))
        patches.append(
            mock.patch.object(Fit, "train_epoch", clock.around("epochs", Fit.train_epoch)),
        )
        for patch in patches:
            patch.start()
        run = train(config, page=False)
    epochs = clock.seconds.pop("epochs")
    inside = clock.seconds["training steps"] + clock.seconds["data (read, augment, normalise)"]
    clock.seconds["loop (order, display)"] = epochs - inside
    total = sum(clock.seconds.values())
    print(f"\n{run.summary['steps']} steps of {config.batch_size}, {run.summary['epochs']} epochs; {cpu_name()}")
    for name, seconds in sorted(clock.seconds.items(), key=lambda item: -item[1]):
        print(f"{name:34} {seconds:8.2f} s {seconds / total:7.1%}")
    print(
        f"{'all but the steps':34} {total - clock.seconds['training steps']:8.2f} s "
        f"{1 - clock.seconds['training steps'] / total:7.1%}"
    )


if __name__ == "__main__":
    main()
