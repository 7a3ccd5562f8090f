"""DropBlock: dropkit's layer against torchvision's function and against copying the activation.

    python benchmarks/dropblock.py [--seconds 5] [--threads N]

Activations of 32x64x56x56, p = .1, blocks of 7x7. All that stand in one group take turns in one process, so that a slow
moment of the machine meets all of them; times are medians over the rounds with their quartiles, and x is the median of
the rounds' ratios to the copy. Forward and backward together: the gradient of an output of ones. Prints
Markdown. torchvision's row needs torchvision and, beside a CPU build of torch, which the registries' torchvision cannot
join by itself, the shim ../shared/torchvision_cpu.py.
"""

import argparse
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from dropkit.bench.timing import Timing, in_turn
from dropkit.layers.blocks import DropBlock2d
from dropkit.masks.kernels.library import instruction_set
from dropkit.runs.environment import cpu_name

SHAPE, P, BLOCK = (32, 64, 56, 56), 0.1, 7
SHIM = Path(__file__).resolve().parents[2] / "shared"
Way = Callable[[Tensor], Tensor]


def main() -> None:
    """Time each group and print its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="for each group")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    layer = DropBlock2d(P, BLOCK)
    ways: dict[str, Way] = {"copy": torch.clone, "dropkit.DropBlock2d": layer}
    torchvision = torchvision_way()
    if torchvision is None:
        print("torchvision cannot be imported: its row is left out\n")
    else:
        ways["torchvision.ops.drop_block2d"] = torchvision
    print(f"{cpu_name()}, {given.threads} threads, torch {torch.__version__}, {instruction_set()} kernels\n")
    print("| activation | pass | way | ms | quartiles | n | x |\n|---|---|---|---|---|---|---|")
    for dtype in (torch.float32, torch.bfloat16):
        for memory_format in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(SHAPE).to(dtype).contiguous(memory_format=memory_format)
            for backward in (False, True):
                calls = {name: call_of(way, x, backward) for name, way in ways.items()}
                timings = in_turn(calls, given.seconds)
                cells = [str(value).removeprefix("torch.") for value in (dtype, memory_format)]
                for name, timing in timings.items():
                    print(row([" ".join(cells), "both" if backward else "forward", name], timing, timings["copy"]))


def torchvision_way() -> Way | None:
    """Return torchvision's function, or None where it cannot be imported."""
    sys.path.append(str(SHIM))
    with suppress(ImportError):  # a matching pair of torch and torchvision needs none
        import torchvision_cpu  # noqa: F401
    try:
        from torchvision.ops import drop_block2d
    except (ImportError, RuntimeError):
        return None
    finally:
        sys.path.remove(str(SHIM))
    return lambda x: drop_block2d(x, P, BLOCK)


def call_of(way: Way, x: Tensor, backward: bool) -> Callable[[], object]:
    """Return what is timed: the forward pass alone, or both."""
    if not backward:
        return lambda: way(x)
    leaf, ones = x.clone().requires_grad_(), torch.ones_like(x)
    return lambda: torch.autograd.grad(way(leaf), leaf, ones)


def row(cells: list[str], timing: Timing, base: Timing) -> str:
    """Return a row of the table."""
    low, high = timing.quartiles
    cells += [f"{timing.median * 1e3:.1f}", f"{low * 1e3:.1f}-{high * 1e3:.1f}", str(len(timing.seconds))]
    return "| " + " | ".join([*cells, f"{timing.ratio(base):.2f}"]) + " |"


if __name__ == "__main__":
    main()
