"""What a mask costs beside its kernel: keys, graph and fresh memory; each way by itself, all in turn in one run.

    python benchmarks/mask_overhead.py [--seconds 4]

"watched" is the forward pass while a saved-tensor hook is active, as under activation checkpointing: key and rate are
then tensors that are saved, which is how every call was made at first. "small pages" writes into `torch.empty_like`,
"huge pages" into what the operators allocate.
"""

import argparse

import torch
from torch import Tensor

import dropkit
from dropkit.bench.tables import duration
from dropkit.bench.timing import in_turn
from dropkit.masks.inplace import drop_into
from dropkit.masks.kernels.library import empty_like, instruction_set
from dropkit.masks.rate import Rate
from dropkit.masks.words import rate_words
from dropkit.runs.environment import cpu_name

SMALL, LARGE = 1 << 16, 1 << 24


def main() -> None:
    """Time both groups and print their rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4, help="for each group")
    seconds = parser.parse_args().seconds
    layer, rate = dropkit.Dropout(0.1), rate_words(Rate.of(0.1))
    x, large = torch.randn(SMALL), torch.randn(LARGE)
    leaf = x.clone().requires_grad_()

    def watched() -> Tensor:
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor):
            return layer(leaf)

    groups = {
        f"{SMALL:,} units": {
            "clone": x.clone,
            "no gradient": lambda: layer(x),
            "with gradient": lambda: layer(leaf),
            "with gradient, watched": watched,
        },
        f"{LARGE:,} units": {
            "clone": large.clone,
            "small pages": lambda: drop_into(torch.empty_like(large), large, None, rate),
            "huge pages": lambda: drop_into(empty_like(large), large, None, rate),
        },
    }
    print(f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {instruction_set()} kernels\n")
    print("| float32, p = .1 | forward | median | quartiles | n | x |\n|---|---|---|---|---|---|")
    for group, calls in groups.items():
        timings = in_turn(calls, seconds)
        for name, timing in timings.items():
            low, high = timing.quartiles
            figures = f"{duration(timing.median)} | {duration(low)} to {duration(high)} | {len(timing.seconds)}"
            print(f"| {group} | {name} | {figures} | {timing.ratio(timings['clone']):.2f}x |")


if __name__ == "__main__":
    main()
