"""Dropout of whole channels: spatial dropout."""

import warnings

from torch import Tensor

from dropkit.layers.base import DropLayer, check_p
from dropkit.layers.selection import select, zeros
from dropkit.masks import Key, Rate, fresh_key, keep


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Drop whole channels of (N, C, L) or (C, L); see `Dropout1d`.

    Signature as `torch.nn.functional.dropout1d`.

    >>> import torch
    >>> dropout1d(torch.ones(2, 3, 5), 0.2).shape
    torch.Size([2, 3, 5])
    """
    return _drop1d(input, _rate(p), training, inplace, None)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Drop whole channels of (N, C, H, W); see `Dropout2d`.

    Signature as `torch.nn.functional.dropout2d`.

    >>> import torch
    >>> dropout2d(torch.ones(2, 3, 5, 7), 0.2).shape
    torch.Size([2, 3, 5, 7])
    """
    return _drop2d(input, _rate(p), training, inplace, None)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Drop whole channels of (N, C, D, H, W) or (C, D, H, W); see `Dropout3d`.

    Signature as `torch.nn.functional.dropout3d`.

    >>> import torch
    >>> dropout3d(torch.ones(2, 3, 5, 7, 1), 0.2).shape
    torch.Size([2, 3, 5, 7, 1])
    """
    return _drop3d(input, _rate(p), training, inplace, None)


class Dropout1d(DropLayer):
    """Drop each channel of each sample with probability p in training (Tompson et al., CVPR 2015, sec. 3.2).

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
        return _drop1d(input, _rate(self.p), self.training, self.inplace, self.mask_key())


class Dropout2d(DropLayer):
    """Drop each channel of each sample with probability p in training (Tompson et al., CVPR 2015, sec. 3.2).

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
        return _drop2d(input, _rate(self.p), self.training, self.inplace, self.mask_key())


class Dropout3d(DropLayer):
    """Drop each channel of each sample with probability p in training (Tompson et al., CVPR 2015, sec. 3.2).

    A drop-in for `torch.nn.Dropout3d`; see `Dropout1d`.

    Shape:
        (N, C, D, H, W) or (C, D, H, W): 4-D input is ONE sample. As in torch.nn, other ranks are deprecated.

    >>> import torch
    >>> Dropout3d(0.2)(torch.ones(2, 3, 5, 7, 1)).shape
    torch.Size([2, 3, 5, 7, 1])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the thinned input in training, the input itself in eval."""
        return _drop3d(input, _rate(self.p), self.training, self.inplace, self.mask_key())


def _rate(p: float) -> Rate:
    """Return p on the fine grid: channels are few, so their random bits cost nothing."""
    return Rate.of(check_p(p), bits=32)


def _drop1d(x: Tensor, rate: Rate, training: bool, inplace: bool, key: Key | None) -> Tensor:
    if x.dim() not in (2, 3):
        raise RuntimeError(
            f"dropout1d: Expected 2D or 3D input, but received a {x.dim()}D input. Note that dropout1d "
            "exists to provide channel-wise dropout on inputs with 1 spatial dimension, a channel dimension, "
            "and an optional batch dimension (i.e. 2D or 3D inputs)."
        )
    return _drop_channels(x, x.dim() == 3, rate, training, inplace, key)


def _drop2d(x: Tensor, rate: Rate, training: bool, inplace: bool, key: Key | None) -> Tensor:
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
    return _drop_channels(x, True, rate, training, inplace, key)


def _drop3d(x: Tensor, rate: Rate, training: bool, inplace: bool, key: Key | None) -> Tensor:
    _warn_of_rank(x, 3)
    return _drop_channels(x, x.dim() == 5, rate, training, inplace, key)


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


def _drop_channels(x: Tensor, batched: bool, rate: Rate, training: bool, inplace: bool, key: Key | None) -> Tensor:
    """Mask the channels of x: (samples, channels, ...) if batched, else (channels, ...) of one sample."""
    if not training or rate.drops_none or x.numel() == 0:
        return x
    if rate.drops_all:
        return zeros(x, inplace)
    axes = 2 if batched else 1
    if x.dim() < axes:
        raise RuntimeError("Feature dropout requires at least 2 dimensions in the input")
    shape = x.shape[:axes]
    kept = keep(shape[0] if batched else 1, shape[-1], rate, key or fresh_key(), x.device)
    return select(x, kept.view(*shape, *[1] * (x.dim() - axes)), rate.scale, inplace)
