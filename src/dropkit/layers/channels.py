"""Dropout of whole channels: spatial dropout."""

import warnings

from torch import Tensor

from dropkit.layers.base import DropLayer, check_p
from dropkit.masks import ops, rate_with_words
from dropkit.masks.inplace import drop_channels_
from dropkit.masks.selection import check_fraction, zeros

_BITS = 32  # channels are few: their random bits cost nothing


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Drop whole channels of (N, C, L) or (C, L); see `Dropout1d`.

    Signature as `torch.nn.functional.dropout1d`.

    >>> import torch
    >>> dropout1d(torch.ones(2, 3, 5), 0.2).shape
    torch.Size([2, 3, 5])
    """
    p = check_p(p)
    return _functional(input, _batched1d(input), p, training, inplace)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Drop whole channels of (N, C, H, W); see `Dropout2d`.

    Signature as `torch.nn.functional.dropout2d`.

    >>> import torch
    >>> dropout2d(torch.ones(2, 3, 5, 7), 0.2).shape
    torch.Size([2, 3, 5, 7])
    """
    p = check_p(p)
    return _functional(input, _batched2d(input), p, training, inplace)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Drop whole channels of (N, C, D, H, W) or (C, D, H, W); see `Dropout3d`.

    Signature as `torch.nn.functional.dropout3d`.

    >>> import torch
    >>> dropout3d(torch.ones(2, 3, 5, 7, 1), 0.2).shape
    torch.Size([2, 3, 5, 7, 1])
    """
    p = check_p(p)
    return _functional(input, _batched3d(input), p, training, inplace)


class _ChannelLayer(DropLayer):
    """What the three layers share but for the ranks that they take."""

    bits = _BITS

    def _thin(self, x: Tensor, batched: bool) -> Tensor:
        if not self.training or self._drops_none or x.numel() == 0:
            return x
        if self._drops_all:
            return zeros(x, self.inplace)
        return _drop(x, batched, self.mask_key(), self._rate, self.inplace)


class Dropout1d(_ChannelLayer):
    """Drop each channel of each sample with probability p in training (SpatialDropout of Tompson et al., CVPR 2015).

    A drop-in for `torch.nn.Dropout1d`. What is kept is multiplied by the inverse of the keep fraction; eval
    is the identity. p is rounded to a grid of 2**-32.

    Args:
        p: probability of dropping a channel.
        inplace: write the result into the input.

    Shape:
        (N, C, L) or (C, L); the output has the input's.

    Raises:
        ValueError: p is not from 0 to 1.
        RuntimeError: the input has neither 2 nor 3 dimensions.

    >>> import torch
    >>> Dropout1d(0.2)(torch.ones(2, 3, 5)).shape
    torch.Size([2, 3, 5])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the thinned input in training, the input itself in eval."""
        return self._thin(input, _batched1d(input))


class Dropout2d(_ChannelLayer):
    """Drop each channel of each sample with probability p in training (SpatialDropout of Tompson et al., CVPR 2015).

    A drop-in for `torch.nn.Dropout2d`; see `Dropout1d`.

    Shape:
        (N, C, H, W). As in torch.nn, 3-D input is read as (N, C, L), with a warning, and other ranks are
        deprecated.

    >>> import torch
    >>> Dropout2d(0.2)(torch.ones(2, 3, 5, 7)).shape
    torch.Size([2, 3, 5, 7])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the thinned input in training, the input itself in eval."""
        return self._thin(input, _batched2d(input))


class Dropout3d(_ChannelLayer):
    """Drop each channel of each sample with probability p in training (SpatialDropout of Tompson et al., CVPR 2015).

    A drop-in for `torch.nn.Dropout3d`; see `Dropout1d`.

    Shape:
        (N, C, D, H, W) or (C, D, H, W): 4-D input is ONE sample. As in torch.nn, other ranks are deprecated.

    >>> import torch
    >>> Dropout3d(0.2)(torch.ones(2, 3, 5, 7, 1)).shape
    torch.Size([2, 3, 5, 7, 1])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the thinned input in training, the input itself in eval."""
        return self._thin(input, _batched3d(input))


def _batched1d(x: Tensor) -> bool:
    """Whether dimension 0 of the input of Dropout1d is samples; refuses or warns of other ranks as torch.nn does."""
    if x.dim() not in (2, 3):
        raise RuntimeError(
            f"dropout1d: Expected 2D or 3D input, but received a {x.dim()}D input. Note that dropout1d "
            "exists to provide channel-wise dropout on inputs with 1 spatial dimension, a channel dimension, "
            "and an optional batch dimension (i.e. 2D or 3D inputs)."
        )
    return x.dim() == 3


def _batched2d(x: Tensor) -> bool:
    """Whether dimension 0 of the input of Dropout2d is samples; refuses or warns of other ranks as torch.nn does."""
    _warn_of_rank(x, 2)
    if x.dim() == 3:
        warnings.warn(
            "dropout2d: Received a 3D input to dropout2d and assuming that channel-wise 1D dropout behavior "
            "is desired - input is interpreted as shape (N, C, L), where C is the channel dim. This behavior "
            "will change in a future release to interpret the input as one without a batch dimension, i.e. "
            "shape (C, H, W). To maintain the 1D channel-wise dropout behavior, please switch to using "
            "dropout1d instead.",
            stacklevel=3,
        )
    return True


def _batched3d(x: Tensor) -> bool:
    """Whether dimension 0 of the input of Dropout3d is samples; refuses or warns of other ranks as torch.nn does."""
    _warn_of_rank(x, 3)
    return x.dim() == 5


def _warn_of_rank(x: Tensor, spatial: int) -> None:
    """Warn as torch.nn does of input that has neither the batched nor the unbatched rank."""
    if x.dim() in (spatial + 1, spatial + 2):
        return
    name = f"dropout{spatial}d"
    warnings.warn(
        f"{name}: Received a {x.dim()}-D input to {name}, which is deprecated and will result in an error in "
        "a future release. To retain the behavior and silence this warning, please use dropout instead. Note "
        f"that {name} exists to provide channel-wise dropout on inputs with {spatial} spatial dimensions, a "
        f"channel dimension, and an optional batch dimension (i.e. {spatial + 1}D or {spatial + 2}D inputs).",
        stacklevel=4,
    )


def _functional(x: Tensor, batched: bool, p: float, training: bool, inplace: bool) -> Tensor:
    if not training or p == 0 or x.numel() == 0:
        return x
    rate, words = rate_with_words(p, _BITS)
    if rate.drops_all:
        return zeros(x, inplace)
    return _drop(x, batched, None, words, inplace)


def _drop(x: Tensor, batched: bool, key: Tensor | None, rate: Tensor, inplace: bool) -> Tensor:
    """Mask the channels of x: (samples, channels, ...) if batched, else (channels, ...) of one sample."""
    if x.dim() < 1 + batched:
        raise RuntimeError("Feature dropout requires at least 2 dimensions in the input")
    check_fraction(x)
    samples = x if batched else x.unsqueeze(0)
    if inplace:
        drop_channels_(samples, key, rate)
        return x
    y = ops.drop_channels(samples, key, rate)
    return y if batched else y.squeeze(0)
