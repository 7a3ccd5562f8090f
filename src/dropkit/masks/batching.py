"""What vmap makes of the operators: one call for each example, so that each has the mask it would have alone."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def each(operator: Any) -> Callable[..., tuple[Tensor, int]]:
    """Return the vmap rule of an operator: keys, rates and activations may be batched, each or all.

    An example's units are numbered from its own first one: batching must not change its mask.
    """

    def rule(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Tensor, int]:
        def of(example: int) -> list[Any]:
            # Of a list of numbers torch tells a dimension, None, for each.
            return [
                a.select(dim, example) if type(dim) is int else a for a, dim in zip(arguments, in_dims, strict=True)
            ]

        return torch.stack([operator(*of(example)) for example in range(info.batch_size)]), 0

    return rule
