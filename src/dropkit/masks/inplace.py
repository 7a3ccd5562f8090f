"""The operators in place, and into a given output.

In place they are differentiable as torch's own in-place operations are: versions count, leaves that need a gradient are
refused. Compiled or transformed by torch.func they are the operator and a copy, which the compiler fuses away.
"""

import torch
from torch import Tensor

from dropkit.masks import ops
from dropkit.masks.devices import kernels_for
from dropkit.masks.private_torch import is_eager
from dropkit.masks.words import AnyKey


def drop_(x: Tensor, key: AnyKey, rate: Tensor, scaled: bool = True) -> Tensor:
    """Drop units of x, in x."""
    return _in_place(x, "drop", key, rate, scaled)


def drop_channels_(x: Tensor, key: AnyKey, rate: Tensor) -> Tensor:
    """Drop channels of x [N, C, ...], in x."""
    return _in_place(x, "drop_channels", key, rate)


def relu_drop_(x: Tensor, key: AnyKey, rate: Tensor) -> Tensor:
    """Write max(x, 0) into x and drop units of it."""
    return _in_place(x, "relu_drop", key, rate)


def drop_into(out: Tensor, x: Tensor, key: AnyKey, rate: Tensor, scaled: bool = True) -> Tensor:
    """Write x with units dropped into out, which has x's shape and dtype; there is no gradient.

    Raises:
        RuntimeError: a gradient is asked for, or shape or dtype differ.
    """
    if torch.is_grad_enabled() and (x.requires_grad or out.requires_grad):
        raise RuntimeError(
            "drop_into(): an output that is given does not support automatic differentiation, but one of the arguments "
            "requires grad"
        )
    if (out.shape, out.dtype, out.device) != (x.shape, x.dtype, x.device):
        raise RuntimeError(
            f"drop_into(): the output must be {tuple(x.shape)}, {x.dtype} on {x.device} like the input, but got "
            f"{tuple(out.shape)}, {out.dtype} on {out.device}"
        )
    if not (is_eager(x) and is_eager(out)):
        return out.copy_(ops.drop(x, key, rate, scaled))
    kernels_for(x).drop(x, out, ops.readable(key, x), rate, scaled)
    torch.autograd.graph.increment_version(out)
    return out


def _in_place(x: Tensor, name: str, key: AnyKey, rate: Tensor, *rest: bool) -> Tensor:
    # A copy in place is what autograd knows to be right, for leaves and views, too.
    if not is_eager(x) or (torch.is_grad_enabled() and x.requires_grad) or x.is_inference():
        return x.copy_(getattr(ops, name)(x, key, rate, *rest))
    getattr(kernels_for(x), name)(x, x, ops.readable(key, x), rate, *rest)
    torch.autograd.graph.increment_version(x)
    return x
