"""What `Residual` saves: a training step of residual blocks at p = .5 against the same blocks at p = 0.

    python benchmarks/residual.py [--seconds 20] [--threads 2]

Eight blocks (conv 3x3, ReLU, conv 3x3; no batch-norm), 64 channels, 16x16 maps, batches of 64, float32; forward,
backward and a step of SGD. They take turns in one run. "masked" is p = .5 with the whole branch computed, as
`x + DropPath(.5)(branch(x))` does it. Exits with 1 if p = .5 takes more than .65 of the time without skipping.
"""

import argparse
import sys

import torch
from torch import Tensor, nn

from dropkit.bench.timing import Timing, in_turn
from dropkit.layers.paths import DropPath, Residual
from dropkit.runs.environment import cpu_name

BLOCKS, CHANNELS, SIDE, BATCH, P = 8, 64, 16, 64, 0.5
MARK = 0.65


class Masked(nn.Module):
    """The same block without skipping: the whole branch, then a mask."""

    def __init__(self, branch: nn.Module, p: float) -> None:
        super().__init__()
        self.branch, self.drop = branch, DropPath(p)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of input and masked branch."""
        return x + self.drop(self.branch(x))


def branch() -> nn.Module:
    """Return one block's branch."""
    return nn.Sequential(
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU(), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
    )


class Step:
    """A training step of a network of such blocks; calling it takes the step."""

    def __init__(self, p: float, masked: bool = False) -> None:
        torch.manual_seed(0)
        branches = [branch() for _ in range(BLOCKS)]
        self.model = nn.Sequential(*(Masked(inner, p) if masked else Residual(inner, p) for inner in branches))
        self.x = torch.randn(BATCH, CHANNELS, SIDE, SIDE)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-6)

    def __call__(self) -> None:
        """Take the step."""
        self.optimizer.zero_grad()
        self.model(self.x).square().mean().backward()
        self.optimizer.step()


def row(name: str, timing: Timing, base: Timing) -> str:
    """Return a line of the table."""
    low, high = timing.quartiles
    cells = (
        name,
        f"{timing.median * 1e3:.0f}",
        f"{low * 1e3:.0f} to {high * 1e3:.0f}",
        str(len(timing.seconds)),
        f"{timing.ratio(base):.2f}x",
    )
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Time the steps in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="about how long to measure")
    parser.add_argument("--threads", type=int, default=None, help="of torch (default: its own choice)")
    given = parser.parse_args()
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    steps = {"p = 0": Step(0.0), f"p = {P:g}, skipped": Step(P), f"p = {P:g}, masked": Step(P, masked=True)}
    timings = in_turn(steps, given.seconds)
    base = timings["p = 0"]
    print(f"torch {torch.__version__}, {cpu_name()}, {torch.get_num_threads()} threads\n")
    print(f"| a step of {BLOCKS} residual blocks | ms | quartiles | n | x |\n|---|---|---|---|---|")
    for name, timing in timings.items():
        print(row(name, timing, base))
    ratio = timings[f"p = {P:g}, skipped"].ratio(base)
    print(f"\nthe mark is at most {MARK:g}x: {'reached' if ratio <= MARK else 'MISSED'}")
    return 0 if ratio <= MARK else 1


if __name__ == "__main__":
    sys.exit(main())
