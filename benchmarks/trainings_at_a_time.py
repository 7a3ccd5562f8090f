"""Several trainings with one thread each, or one after the other with all threads: which is done first?

    python benchmarks/trainings_at_a_time.py DATA [--trainings 8] [--epochs 10] [--max-train 2000] [--repeats 3]

The same trainings by the executor of studies, as `dropkit compare` and `dropkit tune` use it: once with a process for
each core and one thread each, once one at a time with a thread for each core; in turn, in one run. The first round,
in which processes start, is not counted. Prints the seconds of each and their ratio.
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from dropkit.runs.config import TrainConfig
from dropkit.runs.environment import cpu_name
from dropkit.runs.training import load_data
from dropkit.studies.executor import LocalProcesses


def main() -> None:
    """Train in turn, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    for name, default in (("trainings", 8), ("epochs", 10), ("max-train", 2000), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    cores = torch.get_num_threads()
    base = TrainConfig(data=given.data, dropout="conv=0.1,fc=0.5", epochs=given.epochs, max_train=given.max_train)
    pictures, _ = load_data(base)
    ways = {f"{cores} at a time, 1 thread": (cores, 1), f"1 at a time, {cores} threads": (1, cores)}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(given.repeats + 1):
        for way, (workers, threads) in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                configs = [
                    dataclasses.replace(base, seed=seed, out=f"{folder}/{seed}") for seed in range(given.trainings)
                ]
                began = time.perf_counter()
                for _ in LocalProcesses(workers, threads).map(configs, pictures, Path(folder)):
                    pass
                if repeat:
                    seconds[way].append(time.perf_counter() - began)
    print(
        f"{cpu_name()}, {cores} cores, torch {torch.__version__}; {given.trainings} trainings of {given.epochs} epochs"
    )
    for way, taken in seconds.items():
        print(f"{way}: {np.mean(taken):.1f} s ({min(taken):.1f} to {max(taken):.1f}, n = {len(taken)})")
    ratios = np.divide(*seconds.values())
    print(f"ratio: {ratios.mean():.2f} ({ratios.min():.2f} to {ratios.max():.2f})")


if __name__ == "__main__":
    main()
