"""Gaussian dropout: units are multiplied by normal noise, and none is dropped."""

import math

import torch
from torch import Tensor

from dropkit.layers.base import DropLayer, check_input, check_p
from dropkit.masks import ops
from dropkit.masks.selection import check_fraction


def gaussian_dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Multiply each unit by normal noise of mean 1 and variance p / (1 - p); see `GaussianDropout`.

    Arguments and defaults are those of `dropout`.

    >>> import torch
    >>> x = torch.ones(3, 5)
    >>> gaussian_dropout(x, 0.5, training=False) is x
    True
    """
    deviation = _deviation(p)
    check_input(input, "gaussian_dropout")
    if not training or p == 0 or input.numel() == 0:
        return input
    return _noisy(input, None, deviation, inplace)


class GaussianDropout(DropLayer):
    """Multiply each unit by noise from N(1, p / (1 - p)) in training (Srivastava et al., JMLR 15, 2014, section 10).

    The noise has the mean and the variance of `Dropout`'s factors, 0 with probability p and else 1 / (1 - p), so that
    one p means the same strength in both. Nothing is scaled, and eval is the identity. p is taken as it is, on no grid;
    the noise is the one of docs/masks.md, from 65,536 values of exactly that variance up to 4.3 deviations from 1.

    Args:
        p: the rate of the dropout whose variance the noise has, from 0 to below 1.
        inplace: write the result into the input.

    Shape:
        any; the output has the input's. Dimension 0 counts as samples (for `dropkit.keyed`).

    Raises:
        ValueError: p is not from 0 to below 1 (also later: `layer.p = 1`). At p = 1 the variance is infinite.
        NotImplementedError: the input is complex.

    >>> import torch
    >>> y = GaussianDropout(0.5)(torch.ones(1009, 101))
    >>> round(float(y.mean()), 1), round(float(y.var()), 1)
    (1.0, 1.0)
    """

    @property
    def p(self) -> float:
        """The rate of the dropout whose variance the noise has."""
        return self._p

    @p.setter
    def p(self, p: float) -> None:
        # A tensor, replaced as a whole: to compiled code it is data.
        self._deviation = _deviation(p)
        vars(DropLayer)["p"].__set__(self, p)

    def forward(self, input: Tensor) -> Tensor:
        """Return the noisy input in training, the input itself in eval."""
        check_input(input, "gaussian_dropout")
        if not self.training or self._drops_none or input.numel() == 0:
            return input
        return _noisy(input, self.mask_key(), self._deviation, self.inplace)


def _deviation(p: float) -> Tensor:
    """Return the noise's standard deviation, float64 [1] as the operator takes it, or say which p there are."""
    p = check_p(p)
    if p == 1:
        raise ValueError(
            "Gaussian dropout takes a probability from 0 to below 1, but got 1, at which the variance of its noise, "
            "p / (1 - p), is infinite"
        )
    with torch.inference_mode(False):  # an inference tensor could not be saved for a backward pass later on
        return torch.tensor([math.sqrt(p / (1 - p))], dtype=torch.float64, device="cpu")


def _noisy(x: Tensor, key: Tensor | None, deviation: Tensor, inplace: bool) -> Tensor:
    check_fraction(x)
    if x.is_complex():
        raise NotImplementedError(f"Gaussian dropout is not defined for complex numbers, but got {x.dtype}")
    y = ops.gaussian(x, key, deviation)
    return x.copy_(y) if inplace else y
