"""What all dropout layers share: a checked rate and, inside `dropkit.keyed`, a key."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dropkit.masks import Rate, rate_words
from dropkit.masks.private_torch import in_backward


def check_p(p: float) -> float:
    """Return the drop probability as a float, or raise torch.nn's error.

    Stricter than torch.nn in two places where the mistake is silent there: True (meant as a switch, read as
    1) and NaN.
    """
    if isinstance(p, (bool, np.bool_)) or p < 0 or p > 1 or p != p:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    return float(p)


def check_input(x: Tensor, name: str) -> None:
    """Raise torch's error if x is no tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(x).__name__}")
    if x.is_nested:
        raise NotImplementedError(f"{name}() takes no nested tensors: give it the parts, or a padded tensor")


class DropLayer(nn.Module):
    """Base of the dropout layers: `p`, checked whenever it is set, and the key of its masks.

    Args:
        p: the probability of dropping a unit, 0 to 1.
        inplace: write the result into the input.

    Raises:
        ValueError: p is not from 0 to 1 (also later: `layer.p = 7`).

    >>> layer = DropLayer(0.2)
    >>> layer.p = 0.3
    >>> layer
    DropLayer(p=0.3, inplace=False)
    """

    bits: int | None = None  # of the rate's grid; None: 16 or 32, as p asks for
    inplace: bool
    key: Tensor | None  # what `dropkit.keyed` sets; None: each call draws a fresh one

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p = p
        self.inplace = inplace
        # Not a buffer: DistributedDataParallel would broadcast it and state_dict would carry it.
        self.key = None
        self._former_key: Tensor | None = None

    def leave_key(self, former: Tensor | None) -> None:
        """End a `dropkit.keyed` block: go back to the key before it, and remember the block's for recomputations."""
        self._former_key, self.key = self.key, former

    def mask_key(self) -> Tensor | None:
        """Return the key of the next mask: the block's, or None where a fresh one is to be drawn.

        Activation checkpointing computes the forward again in the backward pass, perhaps after the block: then the
        block's key still holds, or the gradient would be that of another mask. A new forward forgets it.
        """
        if self.key is not None:
            return self.key
        if not torch.compiler.is_compiling() and self._former_key is not None:
            if in_backward():
                return self._former_key
            self._former_key = None
        return None

    @property
    def p(self) -> float:
        """The probability of dropping a unit."""
        return self._p

    @p.setter
    def p(self, p: float) -> None:
        self._p = check_p(p)
        rate = Rate.of(self._p, self.bits)
        # Replaced as a whole: to compiled code the rate is data, and only the two ends are other code. A p that the
        # grid rounds to 0 is no end: as in torch.nn its output is a tensor of its own.
        self._rate = rate_words(rate)
        self._drops_none, self._drops_all = self._p == 0, rate.drops_all

    def extra_repr(self) -> str:
        """Return what the layer's repr shows."""
        return f"p={self.p}, inplace={self.inplace}"

    def __getstate__(self) -> dict[str, Any]:
        # A copy made inside the block would otherwise keep its key, and so one mask, for ever.
        return {**self.__dict__, "key": None, "_former_key": None}
