"""Dropout of whole samples on a residual branch: stochastic depth."""

from operator import index

import torch
from torch import Tensor, nn

from dropkit.errors import DropkitError
from dropkit.layers.base import DropLayer, check_input, check_p
from dropkit.masks import Rate, ops, rate_with_words
from dropkit.masks.inplace import drop_channels_
from dropkit.masks.private_torch import in_dispatch_mode, in_functorch, is_plain
from dropkit.masks.selection import check_fraction, scaled, zeros

_BITS = 32  # samples are few: their random bits cost nothing


def drop_path(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Drop whole samples of (N, ...); see `DropPath`.

    >>> drop_path(torch.ones(2, 3, 5), 0.2).shape
    torch.Size([2, 3, 5])
    """
    p = check_p(p)
    _check(input, "drop_path")
    if not training or p == 0 or input.numel() == 0:
        return input
    rate, words = rate_with_words(p, _BITS)
    if rate.drops_all:
        return zeros(input, inplace)
    return _drop(input, None, words, inplace)


class DropPath(DropLayer):
    """Drop each sample with probability p in training: stochastic depth (Huang et al., ECCV 2016, sec. 3).

    It goes to the end of a residual branch: `x + drop_path(branch(x))`. What is kept is multiplied by the inverse of
    the keep fraction and eval is the identity; the paper multiplies by the keep fraction in evaluation instead (eq. 5),
    which has the same expectation, and drops the branch for a whole batch at once, which has more variance. p is
    rounded to a grid of 2**-32. `Residual` saves the work for the dropped samples, too. To those who know timm's: p is
    its `drop_prob`, and `scale_by_keep` is always on.

    Args:
        p: probability of dropping a sample.
        inplace: write the result into the input.

    Shape:
        (N, ...), N being the samples; the output has the input's.

    Raises:
        ValueError: p is not from 0 to 1.
        DropkitError: the input has no dimension.

    >>> layer = DropPath(0.5)
    >>> y = layer(torch.ones(31, 2, 3))
    >>> sorted(set(y.flatten().tolist())), torch.equal(y[:, :1, :1].expand_as(y), y)
    ([0.0, 2.0], True)
    """

    bits = _BITS

    def forward(self, input: Tensor) -> Tensor:
        """Return the input with samples dropped in training, the input itself in eval."""
        _check(input, "drop_path")
        if not self.training or self._drops_none or input.numel() == 0:
            return input
        if self._drops_all:
            return zeros(input, self.inplace)
        return _drop(input, self.mask_key(), self._rate, self.inplace)


class Residual(DropLayer):
    """`shortcut(x) + drop_path(branch(x))`, the branch being computed for the kept samples alone.

    So p = .5 saves half of its work. The source is that of `DropPath` (Huang et al., ECCV 2016, sec. 3). Where shapes
    must not depend on data (compiled, exported, under torch.func, a key on a GPU) the whole branch is computed and then
    masked, with the same mask for the same key. The branch has to treat samples independently and to leave its input as
    it is; then both give the same result (to rounding, where the branch rounds otherwise for another batch size) and
    the same gradients.

    - Fewer than two samples kept: the whole branch is computed and masked, for batch-norm may refuse one sample, and
      many modules none. So the branch's parameters always have a gradient, if zero, and DistributedDataParallel needs
      no `find_unused_parameters`.
    - Batch-norm in the branch takes its statistics from the kept samples. The running mean and variance stay unbiased
      estimates, noisier ones; what it divides by is the variance over fewer samples. Where the branch is masked it
      takes them from all samples.
    - dropkit layers in the branch number their masks by sample. Inside `dropkit.keyed` such a branch is masked, so that
      the masks stay the same for any split of the batch; elsewhere it is computed for the kept samples all the same.

    Args:
        branch: a module that maps (N, ...) to (N, ...).
        p: probability of dropping a sample. At 1 the branch is computed and its result replaced by zeros.
        shortcut: the module beside it; None is the identity.

    Shape:
        (N, ...) to (N, ...), N being the samples; branch and shortcut give the same shape.

    Raises:
        ValueError: p is not from 0 to 1.
        DropkitError: the input has no dimension.

    >>> block = Residual(nn.Linear(3, 3), 0.5)
    >>> x = torch.ones(31, 3)
    >>> y = block(x)
    >>> skipped = (y == x).all(1)
    >>> torch.allclose(y[~skipped], x[~skipped] + 2 * block.branch(x[~skipped]))
    True
    """

    bits = _BITS

    def __init__(self, branch: nn.Module, p: float = 0.5, *, shortcut: nn.Module | None = None) -> None:
        super().__init__(p)
        self.branch = branch
        self.shortcut = shortcut

    def forward(self, input: Tensor) -> Tensor:
        """Return the sum of both ways, with samples of the branch dropped in training."""
        _check(input, "Residual")
        if not self.training or self._drops_none or input.numel() == 0:
            return _sum(self._beside(input), self.branch(input))
        key = self.mask_key()
        if not self._drops_all and self._may_skip(input, key):
            key = ops.as_words(key, input)
            kept = self._kept(input, key)
            if 1 < kept.numel() < input.shape[0]:
                return self._with_some(input, kept)
        beside, y = self._beside(input), self.branch(input)
        return _sum(beside, zeros(y, False) if self._drops_all else _drop(y, key, self._rate, False))

    def _beside(self, x: Tensor) -> Tensor:
        y: Tensor = x if self.shortcut is None else self.shortcut(x)
        return y

    def _may_skip(self, x: Tensor, key: Tensor | None) -> bool:
        """Whether shapes may depend on the mask, and no mask within the branch on the samples' places."""
        if torch.compiler.is_compiling() or in_functorch() or in_dispatch_mode() or not is_plain(x):
            return False
        return key is None or not (key.is_cuda or any(isinstance(part, DropLayer) for part in self.branch.modules()))

    def _kept(self, x: Tensor, key: Tensor) -> Tensor:
        """Return the numbers of the kept samples."""
        # Computed on the host, where the key is: a GPU that had to tell how many there are would be waited for.
        samples = torch.ones(x.shape[0], 1, device="cpu")
        kept = ops.drop_channels(samples, key, self._rate).flatten().nonzero().flatten()
        return kept.to(x.device, non_blocking=True)

    def _with_some(self, x: Tensor, kept: Tensor) -> Tensor:
        """Return the sum of the shortcut and of the branch for the kept samples."""
        beside = self._beside(x)
        # Indexing keeps the memory format, as index_add_ does: index_select and index_add do not.
        y = scaled(self.branch(x[kept]), Rate.of(self.p, _BITS).scale, False)
        _require_same(beside.shape, (beside.shape[0], *y.shape[1:]))
        dtype = torch.promote_types(beside.dtype, y.dtype)  # under autocast they differ
        return beside.to(dtype, copy=True).index_add_(0, kept, y.to(dtype))

    def extra_repr(self) -> str:
        """Return what the layer's repr shows."""
        return f"p={self.p}"


def _sum(beside: Tensor, y: Tensor) -> Tensor:
    _require_same(beside.shape, y.shape)
    return beside + y


def _require_same(beside: tuple[int, ...], branch: tuple[int, ...]) -> None:
    """Refuse a branch whose output would be broadcast: with samples left out it cannot be."""
    if tuple(beside) != tuple(branch):
        raise DropkitError(
            f"Residual adds outputs of one shape, but the shortcut gives {tuple(beside)} and the branch "
            f"{tuple(branch)}: give a shortcut that fits, such as a 1x1 convolution"
        )


def linear_rates(p: float, depth: int) -> list[float]:
    """Return a drop probability for each of `depth` blocks, growing linearly: l/L * p for l = 1 to L.

    The first blocks, whose features all others use, are dropped least (Huang et al., ECCV 2016, eq. 4, there in keep
    probabilities).

    Args:
        p: the last block's.
        depth: L, the number of blocks.

    Raises:
        ValueError: p is not from 0 to 1.
        DropkitError: depth is not an integer of 0 or more.

    >>> linear_rates(0.5, 4)
    [0.125, 0.25, 0.375, 0.5]
    """
    p = check_p(p)
    try:
        blocks = -1 if isinstance(depth, bool) else index(depth)
    except TypeError:
        blocks = -1
    if blocks < 0:
        raise DropkitError(f"linear_rates takes as depth an integer of 0 or more, but got {depth!r}")
    return [p * (block / blocks) for block in range(1, blocks + 1)]


def _check(x: Tensor, name: str) -> None:
    check_input(x, name)
    if x.dim() == 0:
        raise DropkitError(f"{name} takes an input (N, ...) of N samples, but got one without dimensions: unsqueeze it")


def _drop(x: Tensor, key: Tensor | None, rate: Tensor, inplace: bool) -> Tensor:
    """Mask the samples of x: each is one channel."""
    check_fraction(x)
    whole = x.unsqueeze(1)
    if inplace:
        drop_channels_(whole, key, rate)
        return x
    return ops.drop_channels(whole, key, rate).squeeze(1)
