"""How many draws are computed at once: few enough to stay in the cache, enough to share what dropout leaves alone."""

from math import prod

import torch
from torch import Tensor, nn

from dropkit.models.stages import Stages
from dropkit.models.trace import trace

# Of the largest activation that depends on masks, for all draws of a chunk. In benchmarks/sampling.py a processor is
# fastest near its second cache's size; a graphics processor needs enough to do, and has memory.
CACHE_BYTES = 8 << 20
DEVICE_BYTES = 256 << 20


def draws_at_a_time(model: nn.Module, x: Tensor, n: int) -> int:
    """Return how many of n draws are computed at once for a batch.

    Args:
        model: the network.
        x: a batch of its input.
        n: how many draws there are.
    """
    largest = _largest_activation(model, x)
    budget = CACHE_BYTES if x.device.type == "cpu" else DEVICE_BYTES
    return max(1, min(n, budget // max(1, largest * x.shape[0] * x.element_size())))


def _largest_activation(model: nn.Module, x: Tensor) -> int:
    """Return the units, of one picture, of the largest activation that depends on masks."""
    with torch.no_grad():
        seen = trace(model, x[:1], training=False)
    stages = Stages(model, seen)
    first = next((op for op in seen.operations if "dropout" in op.name), None)
    if first is None:
        return 1
    sizes = [prod(seen.shapes[value]) for op in stages.after(first.reads[0]) for value in op.writes]
    return max(sizes, default=1)
