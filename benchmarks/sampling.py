"""What sampling thinned networks costs: `dropkit.sample` beside a loop, and beside other libraries' wrappers.

    python benchmarks/sampling.py [--seconds 20] [--threads 2]

1. The tutorial's network (dropout .5 after the hidden layer), batch 256, n = 50: one plain forward, `dropkit.sample`,
   and a loop of 50 forwards over torch.nn's layers in training mode. Marks: at most 2 forwards, at least 30x the
   loop's speed.
2. The same network with dropout in every layer (conv .1, fc .5), batch 32, n = 50: `dropkit.sample` with several chunks
   beside the loop. Mark: at most .6 of the loop.
3. baal's and torch-uncertainty's wrappers on the first case, where these packages are installed.

All of a case take turns in one run; medians with quartiles. Exits with 1 where a mark is missed.
"""

import argparse
import copy
import sys
from collections.abc import Callable
from importlib.metadata import version

import torch
from torch import Tensor, nn

import dropkit
from dropkit.bench.timing import Timing, in_turn
from dropkit.runs.environment import cpu_name

DRAWS = 50


class Tutorial(nn.Module):
    """The tutorial's network on torch.nn's layers, with dropout after each stage."""

    def __init__(self, conv: float, fc: float) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
        self.drop1, self.drop2, self.drop3 = nn.Dropout(conv), nn.Dropout(conv), nn.Dropout(fc)
        self.pool, self.relu, self.flatten = nn.MaxPool2d(2), nn.ReLU(), nn.Flatten()
        self.fc1, self.fc2 = nn.Linear(64 * 7 * 7, 128), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [N, 10] of pictures [N, 1, 28, 28]."""
        x = self.drop1(self.pool(self.relu(self.conv1(x))))
        x = self.drop2(self.pool(self.relu(self.conv2(x))))
        return self.fc2(self.drop3(self.relu(self.fc1(self.flatten(x)))))


@torch.no_grad()
def plain(model: nn.Module, x: Tensor) -> Tensor:
    """One forward in eval mode."""
    return model.eval()(x)


@torch.no_grad()
def loop(model: nn.Module, x: Tensor) -> Tensor:
    """A forward in training mode for each draw: the network has no batch-norm."""
    model.train()
    return torch.stack([model(x) for _ in range(DRAWS)])


def others(model: nn.Module, x: Tensor) -> dict[str, Callable[[], object]]:
    """Return what the other libraries' wrappers do, for those that are installed."""
    found: dict[str, Callable[[], object]] = {}
    try:
        from baal.bayesian.dropout import patch_module

        patched = patch_module(copy.deepcopy(model), inplace=False).eval()
        repeated = x.repeat(DRAWS, 1, 1, 1)  # baal's predict_on_batch stacks the draws into one batch
        found["baal " + version("baal")] = lambda: no_grad(patched, repeated)
    except ImportError as error:
        print(f"baal is left out: {error}")
    try:
        from torch_uncertainty.methods.mc_dropout import mc_dropout

        wrapped = mc_dropout(copy.deepcopy(model), num_estimators=DRAWS).eval()
        found["torch-uncertainty " + version("torch-uncertainty")] = lambda: no_grad(wrapped, x)
    except ImportError as error:
        print(f"torch-uncertainty is left out: {error}")
    return found


@torch.no_grad()
def no_grad(model: nn.Module, x: Tensor) -> Tensor:
    """One call of a wrapped network."""
    return model(x)


def table(title: str, timings: dict[str, Timing], base: str) -> None:
    """Print a case's times, and each beside one of them."""
    print(f"\n{title}\n\n| | ms | quartiles | n | beside {base} |\n|---|---|---|---|---|")
    for name, timing in timings.items():
        low, high = (1e3 * value for value in timing.quartiles)
        ratio = timing.ratio(timings[base])
        print(
            f"| {name} | {1e3 * timing.median:.1f} | {low:.1f} to {high:.1f} | {len(timing.seconds)} | {ratio:.2f}x |"
        )


def main() -> int:
    """Time all cases; return 1 if a mark is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each case")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"{cpu_name()}, {options.threads} threads, torch {torch.__version__}; n = {DRAWS}")

    net, x = Tutorial(conv=0.0, fc=0.5), torch.randn(256, 1, 28, 28)
    first = in_turn(
        {
            "one plain forward": lambda: plain(net, x),
            "dropkit.sample": lambda: dropkit.sample(net, x, DRAWS),
            "a loop over torch.nn": lambda: loop(net, x),
            **others(net, x),
        },
        options.seconds,
    )
    table("The tutorial's network, batch 256", first, "one plain forward")

    net, y = Tutorial(conv=0.1, fc=0.5), torch.randn(32, 1, 28, 28)
    chunks = {
        f"dropkit.sample, chunk {k}": (lambda k=k: dropkit.sample(net, y, DRAWS, chunk=k)) for k in (2, 5, 10, 50)
    }
    second = in_turn(
        {
            "a loop over torch.nn": lambda: loop(net, y),
            "dropkit.sample": lambda: dropkit.sample(net, y, DRAWS),
            **chunks,
        },
        options.seconds,
    )
    table("Dropout in every layer, batch 32", second, "a loop over torch.nn")

    forwards = first["dropkit.sample"].ratio(first["one plain forward"])
    faster = first["a loop over torch.nn"].ratio(first["dropkit.sample"])
    share = second["dropkit.sample"].ratio(second["a loop over torch.nn"])
    marks = [
        (f"{forwards:.2f} plain forwards (mark: at most 2)", forwards <= 2),
        (f"{faster:.0f}x faster than the loop (mark: at least 30x)", faster >= 30),
        (f"{share:.2f} of the loop with dropout in every layer (mark: at most .6)", share <= 0.6),
    ]
    print()
    for text, reached in marks:
        print(f"{'reached' if reached else 'MISSED'}: {text}")
    return 0 if all(reached for _, reached in marks) else 1


if __name__ == "__main__":
    sys.exit(main())
