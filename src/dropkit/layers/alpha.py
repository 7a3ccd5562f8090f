"""Alpha dropout: what is dropped takes SELU's lowest value, and mean and variance stay as they were."""

from collections.abc import Callable

import torch
from torch import Tensor

from dropkit.layers.base import DropLayer, check_input, check_p
from dropkit.masks import ops, rate_with_words
from dropkit.masks.selection import check_fraction, zeros

_BITS = 32  # channels are few: their random bits cost nothing
_LOWEST = -1.7580993408473766  # of SELU: minus its scale times its alpha


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Drop each unit to SELU's lowest value with probability p; see `AlphaDropout`.

    Signature, errors and defaults (training is off!) are those of `torch.nn.functional.alpha_dropout`.

    >>> import torch
    >>> x = torch.randn(3, 5)
    >>> alpha_dropout(x, 0.5) is x
    True
    """
    rate, words = rate_with_words(check_p(p))
    check_input(input, "alpha_dropout")
    if not training or p == 0 or input.numel() == 0:
        return input
    if rate.drops_all:
        return zeros(input, inplace)
    return _drop(_units, input, None, words, inplace)


def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Drop whole channels of (N, C, ...) to SELU's lowest value with probability p; see `FeatureAlphaDropout`.

    Signature, errors and defaults (training is off!) are those of `torch.nn.functional.feature_alpha_dropout`.

    >>> import torch
    >>> feature_alpha_dropout(torch.randn(2, 3, 5, 7), 0.2, training=True).shape
    torch.Size([2, 3, 5, 7])
    """
    rate, words = rate_with_words(check_p(p), _BITS)
    check_input(input, "feature_alpha_dropout")
    if not training or p == 0 or input.numel() == 0:
        return input
    if rate.drops_all:
        return zeros(input, inplace)
    return _drop(_channels, input, None, words, inplace)


class AlphaDropout(DropLayer):
    """Drop each unit to SELU's lowest value with probability p in training (Klambauer et al., NeurIPS 2017).

    A drop-in for `torch.nn.AlphaDropout`, for networks of SELUs. With a' = -1.7580993408473766 a dropped unit takes a'
    in place of x, and every unit the affine map a x + b, where a = (q (1 + p a'^2))^(-1/2) and b = -a p a': input of
    mean 0 and variance 1 gives output of mean 0 and variance 1 (paragraph "New Dropout Technique"). p and q = 1 - p are
    the realised ones, on a grid of 2**-16 (2**-32 outside .01 to .99). At p = 1 the output and its gradient are 0, the
    formula's limit and what torch.nn gives. Eval is the identity.

    Unlike torch.nn's it honours `inplace`, and lets no infinity or NaN in a dropped place through.

    Args:
        p: probability of dropping a unit.
        inplace: write the result into the input.

    Shape:
        any; the output has the input's. Dimension 0 counts as samples (for `dropkit.keyed`).

    Raises:
        ValueError: p is not from 0 to 1.
        NotImplementedError: the input is complex.

    >>> import torch
    >>> y = AlphaDropout(0.5)(torch.zeros(31, 31))
    >>> [round(value, 4) for value in sorted(set(y.flatten().tolist()))]
    [-0.7792, 0.7792]
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the thinned input in training, the input itself in eval."""
        check_input(input, "alpha_dropout")
        if not self.training or self._drops_none or input.numel() == 0:
            return input
        if self._drops_all:
            return zeros(input, self.inplace)
        return _drop(_units, input, self.mask_key(), self._rate, self.inplace)


class FeatureAlphaDropout(DropLayer):
    """Drop each channel of each sample to SELU's lowest value with probability p in training.

    `AlphaDropout` with one decision for each channel of each sample, as `Dropout2d` has it; a drop-in for
    `torch.nn.FeatureAlphaDropout`. p is rounded to a grid of 2**-32.

    Input is read as (N, C, ...) whatever its rank, so pictures as (N, C, H, W). torch.nn documents 4-D input as one
    sample (C, D, H, W) but reads it in this way, too, and an unbatched volume loses single slices (pytorch#69960). The
    rank cannot tell the two: say `batched=False` where there is no dimension of samples.

    Args:
        p: probability of dropping a channel.
        inplace: write the result into the input (torch.nn's ignores it).
        batched: whether dimension 0 is samples; if not, the input is one sample (C, ...).

    Shape:
        (N, C, ...), of 2 or more dimensions, or, with `batched=False`, (C, ...), of 1 or more; the output has the
        input's.

    Raises:
        ValueError: p is not from 0 to 1.
        RuntimeError: the input has too few dimensions.
        NotImplementedError: the input is complex.

    >>> import torch
    >>> FeatureAlphaDropout(0.2)(torch.randn(2, 3, 5, 7)).shape
    torch.Size([2, 3, 5, 7])
    """

    bits = _BITS

    def __init__(self, p: float = 0.5, inplace: bool = False, *, batched: bool = True) -> None:
        super().__init__(p, inplace)
        self.batched = batched

    def forward(self, input: Tensor) -> Tensor:
        """Return the thinned input in training, the input itself in eval."""
        check_input(input, "feature_alpha_dropout")
        if not self.training or self._drops_none or input.numel() == 0:
            return input
        if self._drops_all:
            return zeros(input, self.inplace)
        thinned = _channels if self.batched else _channels_of_one
        return _drop(thinned, input, self.mask_key(), self._rate, self.inplace)

    def extra_repr(self) -> str:
        """Return what the layer's repr shows."""
        return super().extra_repr() + ("" if self.batched else ", batched=False")


_Thinned = Callable[[Tensor, Tensor, Tensor, torch.dtype], Tensor]


def _drop(thinned: _Thinned, x: Tensor, key: Tensor | None, rate: Tensor, inplace: bool) -> Tensor:
    """Return a x + b with a' for x where it is dropped, computed in float32 or float64 and rounded once."""
    check_fraction(x)
    if x.is_complex():
        raise NotImplementedError(f"alpha dropout is not defined for complex numbers, but got {x.dtype}")
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    a, b = _affine(rate, wide)
    y = (thinned(x, ops.as_words(key, x), rate, wide) * a + b).to(x.dtype)
    return x.copy_(y) if inplace else y


def _affine(rate: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return a and b at the realised rate: tensors, because numbers would make compiled code one of this rate alone."""
    threshold, bits = rate.unbind()
    p = threshold.double() / (1 << bits).double()
    a = ((1 - p) * (1 + p * _LOWEST**2)).rsqrt()
    return a.to(dtype), (-a * p * _LOWEST).to(dtype)


def _units(x: Tensor, key: Tensor, rate: Tensor, wide: torch.dtype) -> Tensor:
    """Return x with a' where a unit is dropped.

    A sum of two disjoint parts is exact, and leaves nothing but the key to be saved for backward: no mask.
    """
    lowest = torch.full_like(x, _LOWEST, dtype=wide)
    return ops.drop(x, key, rate, False) + (lowest - ops.drop(lowest, key, rate, False))


def _channels(x: Tensor, key: Tensor, rate: Tensor, wide: torch.dtype) -> Tensor:
    """Return x (N, C, ...) with a' where a channel is dropped."""
    if x.dim() < 2:
        raise RuntimeError("Feature dropout requires at least 2 dimensions in the input")
    kept = ops.drop(torch.ones(x.shape[:2], device=x.device), key, rate, False) > 0
    return torch.where(kept.view(*x.shape[:2], *[1] * (x.dim() - 2)), x.to(wide), _LOWEST)


def _channels_of_one(x: Tensor, key: Tensor, rate: Tensor, wide: torch.dtype) -> Tensor:
    """Return x (C, ...) with a' where a channel is dropped."""
    if x.dim() < 1:
        raise RuntimeError("Feature dropout of one sample requires at least 1 dimension in the input")
    return _channels(x.unsqueeze(0), key, rate, wide).squeeze(0)
