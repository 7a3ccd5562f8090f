"""Dropout of single units."""

import math

from torch import Tensor

from dropkit.errors import unknown
from dropkit.layers.base import DropLayer, check_p
from dropkit.layers.selection import scaled, select, zeros
from dropkit.masks import Key, Rate, fresh_key, keep

_CONVENTIONS = ("inverted", "weight-scaling")


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Drop each unit with probability p and scale the others by 1 / (1 - p); see `Dropout`.

    Signature, errors and defaults (training is on!) are those of `torch.nn.functional.dropout`.

    >>> import torch
    >>> x = torch.ones(3, 5)
    >>> dropout(x, 0.5, training=False) is x
    True
    """
    rate = Rate.of(check_p(p))
    return _drop(input, rate, training, inplace, None, rate.scale)


class Dropout(DropLayer):
    """Drop each unit with probability p in training (Srivastava et al., JMLR 15, 2014, sections 4 and 5).

    A drop-in for `torch.nn.Dropout`. p is rounded to a grid of 2**-16 (2**-32 outside .01 to .99) and the
    scale is the exact inverse of the realised keep fraction q, so the mean of the output is the input.

    Args:
        p: probability of dropping a unit.
        inplace: write the result into the input.
        convention: "inverted" multiplies what is kept by 1/q in training and is the identity in eval;
            "weight-scaling", the paper's, leaves what is kept as it is and multiplies by q in eval. Both give
            the same expectation in eval as in training.

    Shape:
        any; the output has the input's. Dimension 0 counts as samples (for `dropkit.keyed`).

    Raises:
        ValueError: p is not from 0 to 1.
        DropkitError: the convention is unknown.

    >>> import torch
    >>> layer = Dropout(0.5)
    >>> sorted(set(layer(torch.ones(31, 31)).flatten().tolist()))
    [0.0, 2.0]
    """

    def __init__(self, p: float = 0.5, inplace: bool = False, convention: str = "inverted") -> None:
        super().__init__(p, inplace)
        if convention not in _CONVENTIONS:
            raise unknown("convention", str(convention), _CONVENTIONS)
        self.convention = convention

    def forward(self, input: Tensor) -> Tensor:
        """Return the thinned input in training, the whole input in eval."""
        rate = Rate.of(self.p)
        if self.convention == "inverted":
            return _drop(input, rate, self.training, self.inplace, self.mask_key(), rate.scale)
        if self.training:
            return _drop(input, rate, True, self.inplace, self.mask_key(), 1.0)
        return zeros(input, self.inplace) if rate.drops_all else scaled(input, rate.q, self.inplace)

    def extra_repr(self) -> str:
        """Return what the layer's repr shows."""
        shown = "" if self.convention == "inverted" else f", convention={self.convention!r}"
        return super().extra_repr() + shown


def _drop(x: Tensor, rate: Rate, training: bool, inplace: bool, key: Key | None, scale: float) -> Tensor:
    """Mask the units of x, dimension 0 being the samples; without a key, draw one if a mask is needed."""
    if not isinstance(x, Tensor):
        raise TypeError(f"dropout(): argument 'input' (position 1) must be Tensor, not {type(x).__name__}")
    if not training or rate.drops_none or x.numel() == 0:
        return x
    if rate.drops_all:
        return zeros(x, inplace)
    samples = x.shape[0] if x.dim() else 1
    units = math.prod(x.shape[1:])
    kept = keep(samples, units, rate, key or fresh_key(), x.device)
    return select(x, kept.view(x.shape), scale, inplace)
