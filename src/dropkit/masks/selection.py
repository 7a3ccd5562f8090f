"""Write a mask into an activation: what is dropped becomes zero by selection, what is kept is scaled."""

import torch
from torch import Tensor


def select(x: Tensor, kept: Tensor, scale: float, inplace: bool) -> Tensor:
    """Return `x * scale` where `kept` is true and zero elsewhere.

    Gradients flow through exactly the kept places. Zero is selected, never multiplied, so an infinity or NaN
    in a dropped place reaches neither output nor gradient. The product is formed in float32 for half types
    and rounded once (torch's product with a Python number is).

    Args:
        x: the activation.
        kept: bool, of a shape that broadcasts to x's.
        scale: factor of the kept places.
        inplace: write into x and return it.
    """
    if inplace:
        return scaled(x, scale, True).masked_fill_(~kept, 0)
    y = scaled(x, scale, False)
    if kept.shape == y.shape and kept.stride() != y.stride():
        # `where` takes the layout of its first operand; the activation's memory format is to be kept.
        kept = torch.empty_like(y, dtype=torch.bool).copy_(kept)
    return torch.where(kept, y, 0)


def scaled(x: Tensor, factor: float, inplace: bool) -> Tensor:
    """Return `x * factor` in x's dtype, or raise torch's error for dtypes that cannot hold a fraction."""
    check_fraction(x)
    if factor == 1:
        return x
    return x.mul_(factor) if inplace else x * factor


def check_fraction(x: Tensor) -> None:
    """Raise torch's error if x's dtype cannot hold a fraction."""
    if not (x.is_floating_point() or x.is_complex()):
        name = torch.empty(0, dtype=x.dtype).type().removeprefix("torch.").removesuffix("Tensor")
        raise RuntimeError(f"result type Float can't be cast to the desired output type {name}")


def zeros(x: Tensor, inplace: bool) -> Tensor:
    """Return zeros in place of x, with a gradient of exactly zero: what p = 1 means."""
    if inplace:
        return x.zero_()
    return torch.where(torch.zeros((), dtype=torch.bool, device=x.device), x, x.new_zeros(()))
