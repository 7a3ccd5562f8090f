"""DropBlock: dropout of contiguous blocks of feature maps, at exactly the rate asked for."""

from operator import index

from torch import Tensor

from dropkit.errors import DropkitError
from dropkit.layers.base import DropLayer, check_input, check_p
from dropkit.masks import ops, rate_with_words
from dropkit.masks.selection import check_fraction, zeros

BlockSize = int | tuple[int, ...]
_BITS = 32  # blocks begin rarely


class _BlockLayer(DropLayer):
    """What the three layers share but for the number of axes of a map."""

    bits = _BITS
    axes: int

    def __init__(self, p: float = 0.1, block_size: BlockSize = 7, inplace: bool = False, shared: bool = False) -> None:
        super().__init__(p, inplace)
        self.block_size = block_size
        self.shared = shared

    @property
    def block_size(self) -> BlockSize:
        """The size of a block, along all axes or along each."""
        return self._block_size

    @block_size.setter
    def block_size(self, size: BlockSize) -> None:
        self._block_size, self._block = size, _along_each(size, self.axes, type(self).__name__)

    def forward(self, input: Tensor) -> Tensor:
        """Return the input without the dropped blocks in training, the input itself in eval."""
        batched = _batched(input, self.axes, type(self).__name__)
        if not self.training or self._drops_none or input.numel() == 0:
            return input
        check_fraction(input)
        if self._drops_all:
            return zeros(input, self.inplace)
        return _drop(input, batched, self.mask_key(), self._rate, self._block, self.shared, self.inplace)

    def extra_repr(self) -> str:
        """Return what the layer's repr shows."""
        return f"p={self.p}, block_size={self.block_size}, inplace={self.inplace}, shared={self.shared}"


class DropBlock1d(_BlockLayer):
    """Drop blocks of neighbouring positions of each channel in training; see `DropBlock2d`.

    Shape:
        (N, C, L) or (C, L); the output has the input's.

    >>> import torch
    >>> DropBlock1d(0.1, block_size=5)(torch.ones(2, 3, 31)).shape
    torch.Size([2, 3, 31])
    """

    axes = 1


class DropBlock2d(_BlockLayer):
    """Drop square blocks of each channel's map in training (Ghiasi et al., NeurIPS 2018, algorithm 1), exactly.

    A block begins at each place where it lies within the map with one probability, in each sample and channel by
    itself. That probability is solved for (`dropkit.masks.block_rate`), so that the expected fraction of dropped units
    is p for every height, width and block, even and oversized ones included; the paper's formula (its equation 1) is of
    first order and drops less. What is kept is multiplied by the sample's units / its kept units: unlike in the paper,
    where the whole batch is counted, a sample does not depend on what it is batched with. A sample of which nothing is
    kept is zero, and so is its gradient. Eval is the identity.

    p may change at any time, in compiled code, too, without compiling it anew.

    Args:
        p: probability of dropping a unit, rounded to a grid of 2**-32.
        block_size: of a block along both axes, or a tuple of one for each. Along an axis where it is larger than the
            map it is as large as that: a block as large as the map drops whole maps.
        inplace: write the result into the input.
        shared: drop the same blocks in all channels of a sample.

    Shape:
        (N, C, H, W) or (C, H, W), which is one sample; the output has the input's.

    Raises:
        ValueError: p is not from 0 to 1.
        DropkitError: the block size is none, or the input has another rank.

    >>> import torch
    >>> layer = DropBlock2d(0.1, block_size=7)
    >>> layer
    DropBlock2d(p=0.1, block_size=7, inplace=False, shared=False)
    >>> [round(mean, 4) for mean in layer(torch.ones(2, 3, 56, 56)).mean((1, 2, 3)).tolist()]
    [1.0, 1.0]
    """

    axes = 2


class DropBlock3d(_BlockLayer):
    """Drop cubic blocks of each channel's volume in training; see `DropBlock2d`.

    Shape:
        (N, C, D, H, W) or (C, D, H, W), which is one sample; the output has the input's.

    >>> import torch
    >>> DropBlock3d(0.1, block_size=(2, 3, 3))(torch.ones(2, 3, 5, 7, 11)).shape
    torch.Size([2, 3, 5, 7, 11])
    """

    axes = 3


def drop_block1d(
    input: Tensor,
    p: float = 0.1,
    block_size: BlockSize = 7,
    training: bool = True,
    inplace: bool = False,
    shared: bool = False,
) -> Tensor:
    """Drop blocks of neighbouring positions of (N, C, L) or (C, L); see `DropBlock1d`.

    >>> import torch
    >>> drop_block1d(torch.ones(2, 3, 31), 0.1, 5).shape
    torch.Size([2, 3, 31])
    """
    return _functional(input, 1, p, block_size, training, inplace, shared)


def drop_block2d(
    input: Tensor,
    p: float = 0.1,
    block_size: BlockSize = 7,
    training: bool = True,
    inplace: bool = False,
    shared: bool = False,
) -> Tensor:
    """Drop blocks of the maps of (N, C, H, W) or (C, H, W); see `DropBlock2d`.

    >>> import torch
    >>> drop_block2d(torch.ones(2, 3, 14, 14), 0.1, 5).shape
    torch.Size([2, 3, 14, 14])
    """
    return _functional(input, 2, p, block_size, training, inplace, shared)


def drop_block3d(
    input: Tensor,
    p: float = 0.1,
    block_size: BlockSize = 7,
    training: bool = True,
    inplace: bool = False,
    shared: bool = False,
) -> Tensor:
    """Drop blocks of the volumes of (N, C, D, H, W) or (C, D, H, W); see `DropBlock3d`.

    >>> import torch
    >>> drop_block3d(torch.ones(2, 3, 5, 7, 11), 0.1, 3).shape
    torch.Size([2, 3, 5, 7, 11])
    """
    return _functional(input, 3, p, block_size, training, inplace, shared)


def _functional(
    x: Tensor, axes: int, p: float, block_size: BlockSize, training: bool, inplace: bool, shared: bool
) -> Tensor:
    p, name = check_p(p), f"drop_block{axes}d"
    block, batched = _along_each(block_size, axes, name), _batched(x, axes, name)
    if not training or p == 0 or x.numel() == 0:
        return x
    check_fraction(x)
    rate, words = rate_with_words(p, _BITS)
    if rate.drops_all:
        return zeros(x, inplace)
    return _drop(x, batched, None, words, block, shared, inplace)


def _drop(
    x: Tensor, batched: bool, key: Tensor | None, rate: Tensor, block: tuple[int, ...], shared: bool, inplace: bool
) -> Tensor:
    """Drop blocks of x: (samples, channels, ...) if batched, else (channels, ...) of one sample."""
    samples = x if batched else x.unsqueeze(0)
    y = ops.drop_blocks(samples, key, ops.block_rate(samples, rate, block), block, shared)
    if not batched:
        y = y.squeeze(0)
    return x.copy_(y) if inplace else y


def _along_each(size: BlockSize, axes: int, name: str) -> tuple[int, ...]:
    """Return the block's size along each axis."""
    sizes = tuple(size) if isinstance(size, (tuple, list)) else (size,) * axes
    try:
        block = tuple(0 if isinstance(width, bool) else index(width) for width in sizes)
    except TypeError:
        block = ()
    if len(block) != axes or min(block) < 1:
        allowed = "an integer of 1 or more" + ("" if axes == 1 else f", or a tuple of {axes} of them")
        raise DropkitError(f"block_size of {name} is {allowed}, but got {size!r}")
    return block


def _batched(x: Tensor, axes: int, name: str) -> bool:
    """Whether dimension 0 is samples; refuses other ranks than those with and without it."""
    check_input(x, name)
    if x.dim() not in (axes + 1, axes + 2):
        places = ", ".join("DHW"[-axes:] if axes > 1 else "L")
        raise DropkitError(
            f"{name} takes (N, C, {places}) or (C, {places}), but got an input of shape {tuple(x.shape)}"
        )
    return x.dim() == axes + 2
