"""What max-norm adds to a training step of the tutorial's network (421,642 parameters).

    python benchmarks/max_norm.py [--rounds 60] [--steps 4] [--threads N]

Steps with and without it take turns in one process, a few at a time and in alternating order, so that a slow minute of
the machine meets both; each figure is the median over the rounds, with the quartiles. What is added is the median of
the rounds' own differences, relative to the step without. Pictures are random, [128, 1, 28, 28]: the time of a step
does not depend on them, nor on how many norms exceed c.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor, optim

from dropkit.layers.keyed import keyed
from dropkit.models.cnn import CNNWithDropout
from dropkit.models.max_norm import max_norm
from dropkit.runs.environment import cpu_name

BATCH = 128
WARM_UP = 3


class Training:
    """A network with its optimizer, and perhaps a greatest norm."""

    def __init__(self, c: float | None) -> None:
        torch.manual_seed(0)
        self.c, self.count = c, 0
        self.model = CNNWithDropout().to(memory_format=torch.channels_last)
        self.optimizer = optim.Adam(self.model.parameters(), 1e-3, fused=True)

    def step(self, x: Tensor, y: Tensor) -> None:
        """Make one step, as `dropkit train` does."""
        self.count += 1
        with keyed(self.model, seed=0, step=self.count):
            loss = F.cross_entropy(self.model(x), y)
            self.optimizer.zero_grad()
            loss.backward()
        self.optimizer.step()
        if self.c is not None:
            max_norm(self.model, self.c)


def timed(training: Training, steps: int, x: Tensor, y: Tensor) -> float:
    """Return the milliseconds of a step."""
    began = time.perf_counter()
    for _ in range(steps):
        training.step(x, y)
    return (time.perf_counter() - began) / steps * 1e3


def row(name: str, values: list[float], added: str) -> str:
    """Return a line of the table."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"| {name} | {middle:.2f} ({low:.2f} to {high:.2f}) | {added} |"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--c", type=float, default=0.5)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, 1, 28, 28, generator=generator).contiguous(memory_format=torch.channels_last)
    y = torch.randint(10, (BATCH,), generator=generator)
    trainings = {"without": Training(None), "with": Training(given.c)}
    times: dict[str, list[float]] = {name: [] for name in trainings}
    for training in trainings.values():
        timed(training, WARM_UP, x, y)
    for number in range(given.rounds):
        for name in sorted(trainings, reverse=number % 2 == 0):
            times[name].append(timed(trainings[name], given.steps, x, y))
    alone = []
    for _ in range(given.rounds):
        began = time.perf_counter()
        max_norm(trainings["with"].model, given.c)
        alone.append((time.perf_counter() - began) * 1e3)
    plain = statistics.median(times["without"])
    added = statistics.median(b - a for a, b in zip(times["without"], times["with"], strict=True)) / plain
    print(
        f"{given.rounds} rounds of {given.steps} steps, {given.threads} thread(s); "
        f"{cpu_name()}; torch {torch.__version__}"
    )
    print("\n| | ms (quartiles) | of a step without |\n|---|---|---|")
    print(row("step without max-norm", times["without"], ""))
    print(row(f"step with max-norm (c = {given.c:g})", times["with"], f"{added:+.1%} (median difference)"))
    print(row("max_norm alone", alone, f"{statistics.median(alone) / plain:.1%}"))


if __name__ == "__main__":
    main()
