"""How many draws are computed at once: few enough to stay in the cache, enough to share what dropout leaves alone."""

from math import prod

from torch import Tensor, nn

from dropkit.models.functional_calls import rate_of_call
from dropkit.models.graph import Graph
from dropkit.models.own import rate_attribute, rate_of
from dropkit.models.trace import Operation
from dropkit.uncertainty.calls import trace_small
from dropkit.uncertainty.frozen import frozen_paths

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
    seen, frozen = trace_small(model, x), frozen_paths(model)
    graph = Graph(model, seen)
    acting = (op for op in seen.operations if op.module not in frozen)
    first = next((op for op in acting if _drops(op, graph.modules[op.module])), None)
    if first is None:
        return 1
    made = [value for op in (first, *graph.after(first.writes[0])) for value in op.writes]
    return max(prod(seen.shapes[value]) for value in made)


def _drops(operation: Operation, module: nn.Module) -> bool:
    """Whether an operation is active dropout, or within a layer that drops and does something else besides."""
    if rate_attribute(module) is not None:
        return rate_of(module) > 0
    return bool(rate_of_call(operation))
