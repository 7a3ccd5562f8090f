"""DropBlock: dropout of contiguous blocks of feature maps, at exactly the rate asked for."""

from torch import Tensor

from dropkit.errors import DropkitError
from dropkit.layers.base import DropLayer, check_input
from dropkit.masks import ops
from dropkit.masks.selection import check_fraction, zeros

BlockSize = int | tuple[int, ...]


class _BlockLayer(DropLayer):
    """What the three layers share but for the number of axes of a map."""

    bits = 32  # blocks begin rarely
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
        block = size if isinstance(size, tuple) else (size,) * self.axes
        if len(block) != self.axes or not all(type(width) is int and width >= 1 for width in block):
            allowed = "an integer of 1 or more" + ("" if self.axes == 1 else f", or a tuple of {self.axes} of them")
            raise DropkitError(f"block_size of {type(self).__name__} is {allowed}, but got {size!r}")
        self._block_size, self._block = size, block

    def forward(self, input: Tensor) -> Tensor:
        """Return the input without the dropped blocks in training, the input itself in eval."""
        check_input(input, type(self).__name__)
        batched = self._batched(input)
        if not self.training or self._drops_none or input.numel() == 0:
            return input
        check_fraction(input)
        if self._drops_all:
            return zeros(input, self.inplace)
        x = input if batched else input.unsqueeze(0)
        rate = ops.block_rate(x, self._rate, self._block)
        y = ops.drop_blocks(x, self.mask_key(), rate, self._block, self.shared)
        if not batched:
            y = y.squeeze(0)
        return input.copy_(y) if self.inplace else y

    def _batched(self, x: Tensor) -> bool:
        """Whether dimension 0 is samples; refuses other ranks than those with and without it."""
        if x.dim() not in (self.axes + 1, self.axes + 2):
            axes = ", ".join("DHW"[-self.axes :] if self.axes > 1 else "L")
            raise DropkitError(
                f"{type(self).__name__} takes (N, C, {axes}) or (C, {axes}), but got an input of shape {tuple(x.shape)}"
            )
        return x.dim() == self.axes + 2

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
    >>> layer(torch.ones(2, 3, 56, 56)).mean((1, 2, 3))
    tensor([1.0000, 1.0000])
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
