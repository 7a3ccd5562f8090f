"""Dropout of single units."""

from torch import Tensor

from dropkit.errors import unknown
from dropkit.layers.base import DropLayer, check_input, check_p
from dropkit.masks import Rate, ops, rate_with_words
from dropkit.masks.inplace import drop_
from dropkit.masks.selection import check_fraction, scaled, zeros

_CONVENTIONS = ("inverted", "weight-scaling")


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Drop each unit with probability p and scale the others by 1 / (1 - p); see `Dropout`.

    Signature, errors and defaults (training is on!) are those of `torch.nn.functional.dropout`.

    >>> import torch
    >>> x = torch.ones(3, 5)
    >>> dropout(x, 0.5, training=False) is x
    True
    """
    rate, words = rate_with_words(check_p(p))
    check_input(input, "dropout")
    if not training or p == 0 or input.numel() == 0:
        return input
    if rate.drops_all:
        return zeros(input, inplace)
    return _drop(input, None, words, True, inplace)


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
        check_input(input, "dropout")
        inverted = self.convention == "inverted"
        if not self.training:
            return input if inverted else self._weighted(input)
        if self._drops_none or input.numel() == 0:
            return input
        if self._drops_all:
            return zeros(input, self.inplace)
        return _drop(input, self.mask_key(), self._rate, inverted, self.inplace)

    def _weighted(self, x: Tensor) -> Tensor:
        """Return the mean of what training gives, when training leaves what is kept as it is."""
        return zeros(x, self.inplace) if self._drops_all else scaled(x, Rate.of(self.p).q, self.inplace)

    def extra_repr(self) -> str:
        """Return what the layer's repr shows."""
        shown = "" if self.convention == "inverted" else f", convention={self.convention!r}"
        return super().extra_repr() + shown


def _drop(x: Tensor, key: Tensor | None, rate: Tensor, scale: bool, inplace: bool) -> Tensor:
    """Mask the units of x, dimension 0 being the samples."""
    check_fraction(x)
    return drop_(x, key, rate, scale) if inplace else ops.drop(x, key, rate, scale)
