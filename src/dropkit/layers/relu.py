"""ReLU and dropout of units in one: its backward pass needs the output alone, which the next layer keeps anyway."""

from torch import Tensor

from dropkit.layers.base import DropLayer, check_input, check_p
from dropkit.masks import ops, rate_with_words
from dropkit.masks.inplace import relu_drop_
from dropkit.masks.selection import check_fraction, zeros


def relu_dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Return `dropout(relu(input), p)`, in one pass; see `ReLUDropout`.

    >>> import torch
    >>> relu_dropout(torch.tensor([-1.0, 2.0]), training=False)
    tensor([0., 2.])
    """
    rate, words = rate_with_words(check_p(p))
    check_input(input, "relu_dropout")
    if not training or p == 0 or input.numel() == 0:
        return input.relu_() if inplace else input.relu()
    if rate.drops_all:
        return zeros(input, inplace)
    return _drop(input, None, words, inplace)


class ReLUDropout(DropLayer):
    """ReLU, then dropout of units, as `Sequential(ReLU(), Dropout(p))` computes them, with the same mask.

    It writes and reads each number once, and saves for backward nothing but its output: a unit's gradient passes where
    that is positive. In a network with dropout right after an activation that leaves the cost of the ReLU alone.

    Args:
        p: probability of dropping a unit.
        inplace: write the result into the input.

    Shape:
        any; the output has the input's. Dimension 0 counts as samples (for `dropkit.keyed`).

    Raises:
        ValueError: p is not from 0 to 1.

    >>> import torch
    >>> layer = ReLUDropout(0.5)
    >>> sorted(set(layer(torch.tensor([[-1.0] * 31, [1.0] * 31])).flatten().tolist()))
    [0.0, 2.0]
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the thinned activation in training, the whole activation in eval."""
        check_input(input, "relu_dropout")
        if not self.training or self._drops_none or input.numel() == 0:
            return input.relu_() if self.inplace else input.relu()
        if self._drops_all:
            return zeros(input, self.inplace)
        return _drop(input, self.mask_key(), self._rate, self.inplace)


def _drop(x: Tensor, key: Tensor | None, rate: Tensor, inplace: bool) -> Tensor:
    check_fraction(x)
    return relu_drop_(x, key, rate) if inplace else ops.relu_drop(x, key, rate)
