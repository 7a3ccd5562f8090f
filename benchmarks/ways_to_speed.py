"""What each way to a faster training of the tutorial's network brings by itself, and all of them together.

    python benchmarks/ways_to_speed.py [--rounds 15] [--steps 8] [--threads N]

All variants take turns in one process, a few steps each, so that a slow minute of the machine meets all of them; a
variant's figure is its median over the rounds, relative to the plain step's of the same run. Pictures are random: the
time of a step does not depend on them. The last lines time the evaluation of 9,000 pictures, by batch size.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim

from dropkit.layers.keyed import keyed
from dropkit.layers.units import Dropout
from dropkit.models.pooling import ReLUMaxPool2d
from dropkit.runs.environment import cpu_name

BATCH = 128
PROBE = 9_000


class Way:
    """The tutorial's network and optimizer with some of the changes.

    Args:
        channels_last: keep maps as NHWC in memory.
        fused: one pass over the parameters in Adam.
        pool_first: max-pool before ReLU (the same values).
        masks: dropkit's layer in place of `nn.Dropout`.
        bfloat16: forward and backward under autocast.
    """

    def __init__(
        self,
        *,
        channels_last: bool = False,
        fused: bool = False,
        pool_first: bool = False,
        masks: bool = False,
        bfloat16: bool = False,
    ) -> None:
        torch.manual_seed(0)
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.bfloat16, self.masks, self.count = bfloat16, masks, 0

        def pool() -> nn.Module:
            return ReLUMaxPool2d(2) if pool_first else nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))

        self.model = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            pool(),
            nn.Conv2d(32, 64, 3, padding=1),
            pool(),
            nn.Flatten(),
            nn.Linear(64 * 7 * 7, 128),
            nn.ReLU(),
            Dropout(0.5) if masks else nn.Dropout(0.5),
            nn.Linear(128, 10),
        ).to(memory_format=self.format)
        self.optimizer = optim.Adam(self.model.parameters(), 1e-3, fused=fused)

    def step(self, x: Tensor, y: Tensor) -> None:
        """Make one training step."""
        self.count += 1
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            if self.masks:
                with keyed(self.model, seed=0, step=self.count):
                    logits = self.model(x.contiguous(memory_format=self.format))
            else:
                logits = self.model(x.contiguous(memory_format=self.format))
        loss = F.cross_entropy(logits.float(), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def evaluate(self, x: Tensor, batch: int) -> None:
        """Compute the logits of all pictures in eval mode."""
        self.model.eval()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            for part in x.split(batch):
                self.model(part.contiguous(memory_format=self.format))
        self.model.train()


def ways() -> dict[str, Way]:
    """Return the variants by name."""
    every = {"channels_last": True, "fused": True, "pool_first": True, "masks": True}
    return {
        "plain (the tutorial's)": Way(),
        "channels-last": Way(channels_last=True),
        "fused Adam": Way(fused=True),
        "max-pooling before ReLU": Way(pool_first=True),
        "dropkit's masks": Way(masks=True),
        "channels-last, fused Adam": Way(channels_last=True, fused=True),
        "channels-last, fused Adam, pooling first": Way(channels_last=True, fused=True, pool_first=True),
        "all four": Way(**every),
        "all four, bfloat16": Way(**every, bfloat16=True),
    }


def seconds(work: Callable[[], None]) -> float:
    """Return how long `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def spread(values: list[float]) -> str:
    """Return the quartiles in ms."""
    low, _, high = statistics.quantiles(values, n=4)
    return f"{1e3 * low:.1f} to {1e3 * high:.1f}"


def main() -> None:
    """Time all variants in turn and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    torch.manual_seed(1)
    x, y = torch.randn(BATCH, 1, 28, 28), torch.randint(10, (BATCH,))
    variants = ways()
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(given.rounds + 1):
        for name, way in variants.items():
            took = seconds(lambda way=way: [way.step(x, y) for _ in range(given.steps)]) / given.steps  # type: ignore[misc]
            if number:  # the first round warms up
                times[name].append(took)
    print(f"{cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads; torch {torch.__version__}")
    print(f"batch {BATCH}, n = {given.rounds} rounds of {given.steps} steps; load average {os.getloadavg()[0]:.1f}\n")
    print("| step | ms (median) | quartiles | faster than the plain one by |\n|---|---|---|---|")
    plain = statistics.median(times["plain (the tutorial's)"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"| {name} | {1e3 * median:.1f} | {spread(values)} | {plain / median:.2f}x |")
    evaluation(variants["all four"], given.rounds)


def evaluation(way: Way, rounds: int) -> None:
    """Print how long the evaluation of as many pictures as a validation split holds takes, by batch size."""
    pictures = torch.randn(PROBE, 1, 28, 28)
    sizes = (64, 128, 256, 1024, 4096)
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for number in range(max(3, rounds // 3) + 1):
        for size in sizes:
            took = seconds(lambda size=size: way.evaluate(pictures, size))  # type: ignore[misc]
            if number:
                times[size].append(took)
    print(f"\n| evaluation of {PROBE:,} pictures, batch | ms (median) | quartiles |\n|---|---|---|")
    for size, values in times.items():
        print(f"| {size} | {1e3 * statistics.median(values):.0f} | {spread(values)} |")


if __name__ == "__main__":
    main()
