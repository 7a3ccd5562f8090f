"""Dropout of single weights: DropConnect."""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from dropkit.errors import DropkitError, unknown
from dropkit.layers.base import DropLayer, check_input
from dropkit.masks import Rate, ops
from dropkit.masks.selection import zeros

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CONVOLUTIONS: dict[int, Any] = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}  # by the weight's dimensions
_EVALUATIONS = ("mean", "moments")


class DropConnect(DropLayer):
    """A linear or convolutional layer whose single WEIGHTS are dropped in training (Wan et al., ICML 2013, sec. 3).

    What is kept is multiplied by the inverse of the keep fraction q; the bias is kept. p is rounded to a grid of
    2**-32. The new layer has the old one's own parameters under the old one's names, so that it takes its place in a
    network without a change to optimizer, state dict or old checkpoints. Hooks would be lost: a layer with some is
    refused.

    By default one mask of the weights serves the whole batch; in a `dropkit.keyed` block every rank and every part of
    the batch have that mask, whatever their first sample. `per_sample` has a mask for each sample, as the paper does,
    numbered by sample: its gradients vary less, and it takes memory for N times the weights.

    **Moments.** With independent m ~ Bernoulli(q), an output before the activation is u = sum_i w_i x_i m_i / q + b.
    Its mean is the plain layer's output, and since Var(m/q) = q (1 - q) / q**2 = p / q, its variance is
    p/q * sum_i w_i**2 x_i**2 (sec. 3.2, where nothing is scaled). A sum of many terms, u is about normal. The paper
    draws from that normal distribution, applies the activation and averages; for ReLU the average over all draws is
    known:

        E[max(u, 0)] = mean * Phi(mean / s) + s * phi(mean / s),   s = sqrt(variance)

    That is what `evaluation="moments"` returns in eval, without any draw. It is for layers that a ReLU follows, which
    leaves it as it is. Where nothing nonlinear follows, "mean" is exact; for other activations draw from `moments`.

    Args:
        layer: an nn.Linear, nn.Conv1d, nn.Conv2d or nn.Conv3d.
        p: probability of dropping a weight.
        per_sample: give each sample a mask of its own.
        evaluation: "mean" is the plain layer in eval, "moments" the mean of what a ReLU makes of the masked layers.

    Shape:
        the layer's. Dimension 0 counts as samples, in unbatched input the whole is one.

    Raises:
        ValueError: p is not from 0 to 1.
        DropkitError: the layer is another one or its weight is computed (weight_norm, parametrize, prune); the
            evaluation is unknown.

    >>> net = nn.Sequential(nn.Linear(3, 5), nn.ReLU())
    >>> net[0] = DropConnect(net[0], 0.5)
    >>> list(net.state_dict())
    ['0.weight', '0.bias']
    """

    bits = 32  # weights may be few
    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, ...]
    padding: str | tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    padding_mode: str

    def __init__(self, layer: Layer, p: float = 0.5, *, per_sample: bool = False, evaluation: str = "mean") -> None:
        super().__init__(p)
        _check_layer(layer)
        if evaluation not in _EVALUATIONS:
            raise unknown("evaluation", str(evaluation), _EVALUATIONS)
        self.per_sample = per_sample
        self.evaluation = evaluation
        for name, parameter in (("weight", layer.weight), ("bias", layer.bias)):
            self.register_parameter(name, cast("nn.Parameter | None", parameter))
        self.training = layer.training
        for name in layer.__constants__:  # in_features or in_channels, stride, padding, ...
            setattr(self, name, getattr(layer, name))
        # What F.pad is to do before; None where the convolution pads.
        self._around = None if isinstance(layer, nn.Linear) or layer.padding_mode == "zeros" else _around(layer)
        self._shown = f"{type(layer).__name__}({layer.extra_repr()})"

    def forward(self, input: Tensor) -> Tensor:
        """Return the layer's output: with weights dropped in training, as `evaluation` says in eval."""
        check_input(input, "DropConnect")
        if input.dim() == 0:
            raise DropkitError("DropConnect takes an input (..., F) or (N, C, ...), but got one without dimensions")
        if not self.training and self.evaluation == "moments" and not (self._drops_none or self._drops_all):
            return _rectified(*self.moments(input))
        if not self.training or self._drops_none or input.numel() == 0:
            return self._whole(input, self.weight, self.bias)
        if self.per_sample:
            return self._each(input)
        return self._whole(input, self._dropped(self.weight.unsqueeze(0), self._batch_key()).squeeze(0), self.bias)

    def moments(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance, over the masks, of each output before the activation.

        Both have the output's shape; the variance is computed and returned in float32, or in float64 if the input's
        dtype is. At p = 1 nothing is left to chance: it counts as 0.

        >>> layer = DropConnect(nn.Linear(3, 2), 0.5)
        >>> _ = layer.weight.data.fill_(1.0), layer.bias.data.fill_(7.0)
        >>> [moment.tolist() for moment in layer.moments(torch.tensor([1.0, 2.0, 3.0]))]
        [[13.0, 13.0], [14.0, 14.0]]
        """
        rate = Rate.of(self.p, self.bits)
        mean = self._whole(input, self.weight, self.bias)
        with torch.autocast(input.device.type, enabled=False):  # squares overflow in float16
            squares = [_wide(x).square() for x in (input, self.weight)]
            variance = self._whole(squares[0], squares[1], None) * (0.0 if rate.drops_all else rate.p / rate.q)
        return mean, variance

    def _batch_key(self) -> Tensor | None:
        """Return the key without its first sample: parts of a batch have one mask."""
        key = self.mask_key()
        return None if key is None else F.pad(key[:3], (0, 1))

    def _dropped(self, weights: Tensor, key: Tensor | None) -> Tensor:
        """Return the weights [samples, ...], dropped."""
        return zeros(weights, False) if self._drops_all else ops.drop(weights, key, self._rate)

    def _whole(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return what the layer makes of x with the given weights."""
        if weight.dim() == 2:
            return F.linear(x, weight, bias)
        return self._convolved(self._padded(x), weight, bias, 1)

    def _each(self, x: Tensor) -> Tensor:
        """Return what the layer makes of each sample of x with weights of its own."""
        linear = self.weight.dim() == 2
        if x.dim() == (1 if linear else self.weight.dim() - 1):
            return self._each(x.unsqueeze(0)).squeeze(0)
        n = x.shape[0]
        weights = self._dropped(self.weight.expand(n, *self.weight.shape), self.mask_key())
        if linear:
            rows = x.reshape(n, math.prod(x.shape[1:-1]), x.shape[-1])
            columns = weights.transpose(1, 2)
            y = torch.bmm(rows, columns) if self.bias is None else torch.baddbmm(self.bias, rows, columns)
            return y.view(*x.shape[:-1], y.shape[-1])
        # The samples side by side, each a group of channels of its own (or several, where the layer has groups).
        x = self._padded(x)
        bias = None if self.bias is None else self.bias.repeat(n)
        y = self._convolved(x.reshape(1, -1, *x.shape[2:]), weights.flatten(0, 1), bias, n)
        return y.view(n, -1, *y.shape[2:])

    def _padded(self, x: Tensor) -> Tensor:
        return x if self._around is None else F.pad(x, self._around, self.padding_mode)

    def _convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None, samples: int) -> Tensor:
        padding = self.padding if self._around is None else 0
        convolve = _CONVOLUTIONS[weight.dim()]
        y: Tensor = convolve(x, weight, bias, self.stride, padding, self.dilation, self.groups * samples)
        return y

    def extra_repr(self) -> str:
        """Return what the layer's repr shows."""
        return f"{self._shown}, p={self.p}, per_sample={self.per_sample}, evaluation={self.evaluation!r}"


def _check_layer(layer: nn.Module) -> None:
    """Raise unless the layer's forward is torch's own, with weights that are its parameters."""
    kind = type(layer).__name__
    computed = is_parametrized(layer)
    if type(layer) not in _LAYERS and not computed:
        raise DropkitError(
            f"DropConnect takes an nn.Linear, nn.Conv1d, nn.Conv2d or nn.Conv3d, but got {kind}: what a subclass "
            "computes in a way of its own would be lost"
        )
    names = {name for name, _ in layer.named_parameters(recurse=False)}
    if computed or "weight" not in names or names - {"weight", "bias"}:
        raise DropkitError(
            f"DropConnect drops weights that are parameters, but this {kind}'s are computed from others "
            "(weight_norm, spectral_norm, parametrize, prune): remove that first"
        )
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks:
        raise DropkitError(
            f"DropConnect takes the place of a layer, but this {kind} has hooks, which would be lost: remove them, and "
            "register them on the new layer"
        )


def _around(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> list[int]:
    """Return what F.pad adds before and after each dimension, the last one first."""
    if isinstance(layer.padding, str):
        totals = [
            d * (k - 1) * (layer.padding == "same") for d, k in zip(layer.dilation, layer.kernel_size, strict=True)
        ]
        pairs = [(total // 2, total - total // 2) for total in totals]
    else:
        pairs = [(n, n) for n in layer.padding]
    return [n for pair in reversed(pairs) for n in pair]


def _rectified(mean: Tensor, variance: Tensor) -> Tensor:
    """Return the mean of max(u, 0), u being normal."""
    # Where nothing varies, the root would have an infinite derivative.
    varies = variance > 0
    deviation = torch.where(varies, variance, 1).sqrt()
    center = mean.to(variance.dtype)
    z = center / deviation
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    # Far below zero the two terms cancel to rounding.
    result = (center * torch.special.ndtr(z) + deviation * density).clamp_min(0)
    return torch.where(varies, result, center.relu()).to(mean.dtype)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
