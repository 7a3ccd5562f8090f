"""What a function keeps for its backward pass beside its own input and output."""

from collections.abc import Callable

import torch
from torch import Tensor


def bytes_saved(function: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """Return how many bytes of other memory than the input's and the output's autograd keeps after the forward pass.

    Input and output count as nothing: the layers before and after keep them anyway, or nobody does.

    >>> bytes_saved(torch.relu, torch.ones(100))  # keeps its output
    0
    >>> bytes_saved(torch.nn.Dropout(0.5), torch.ones(100)) >= 100
    True
    """
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        # Detached: what is only referred to would keep the graph alive, and with it this list.
        kept.append(tensor.detach())
        return tensor

    leaf = x.detach().clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = function(leaf)
    own = {leaf.untyped_storage().data_ptr(), y.untyped_storage().data_ptr()}
    others = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
    return sum(count for place, count in others.items() if place not in own)
