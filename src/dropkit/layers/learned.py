"""Concrete dropout: rates that are learned with the weights."""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dropkit.errors import DropkitError
from dropkit.layers.base import DropLayer, check_input, check_p
from dropkit.masks import ops
from dropkit.masks.selection import check_fraction


class ConcreteDropout(DropLayer):
    """Scale each unit by a relaxed mask whose rate is learned (Gal, Hron and Kendall, NeurIPS 2017, section 3).

    In training z = sigmoid((logit p + logit u) / t), with u uniform and the temperature t = 0.1, is the relaxed
    indicator of being dropped, and the output is x * (1 - z) / (1 - p); eval is the identity. p is a parameter: the
    gradient of the loss reaches it through z. Without the regularizer it would sink to 0, where training is easiest:
    add `concrete_loss` to the loss. z almost never is exactly 1, so next to nothing is dropped entirely: unlike
    `dropkit.Dropout` this multiplies, and an infinity or NaN in x stays one.

    The noise takes 16 random bits a unit; it and z are computed in float32, with half types the output is rounded once.

    Args:
        p: the rate to start from; neither 0 nor 1, whose logits are infinite.
        layer: the layer that reads the output, directly or through layers without weights; see `feeds`.
        inputs: how many units of a sample are dropped; see `feeds`.

    Attributes:
        p_logit: the parameter: [1], the logit of p.
        reader: the layer that reads the output and how many of its inputs are dropped; None where it is not known.

    Shape:
        any; the output has the input's. Dimension 0 counts as samples (for `dropkit.keyed`).

    Raises:
        ValueError: p is not from 0 to 1.
        DropkitError: p is 0 or 1, or the layer cannot be used.

    >>> head = nn.Linear(5, 2)
    >>> drop = ConcreteDropout(0.2, layer=head)
    >>> model = nn.Sequential(drop, head)
    >>> loss = model(torch.ones(3, 5)).square().mean() + concrete_loss(model, n_train=3)
    >>> loss.backward()
    >>> drop
    ConcreteDropout(p=0.2)
    >>> list(model.state_dict())
    ['0.p_logit', '1.weight', '1.bias']
    """

    temperature = 0.1
    p_logit: nn.Parameter

    def __init__(self, p: float = 0.1, *, layer: nn.Module | None = None, inputs: int | None = None) -> None:
        super().__init__(p)
        self.reader: tuple[nn.Module, int] | None = None
        if layer is not None:
            self.feeds(layer, inputs)

    def feeds(self, layer: nn.Module, inputs: int | None = None) -> None:
        """Tell which layer reads the output: the regularizer counts its weights. It does not become a child.

        Args:
            layer: a layer with a `weight`.
            inputs: D, how many inputs of the layer are dropped on their own; by default its `in_features`, or its
                `in_channels`: the units of one channel share a convolution's weights and count as one.

        Raises:
            DropkitError: the layer has no weight, or how many inputs it has is not known.
        """
        if not isinstance(getattr(layer, "weight", None), Tensor):
            raise DropkitError(
                f"{type(self).__name__} feeds a layer with a weight, such as Linear or Conv2d, but got {layer!r}"
            )
        inputs = self._inputs_of(layer) if inputs is None else inputs
        if inputs is None:
            raise DropkitError(
                f"how many of its inputs {type(self).__name__} drops cannot be told from {layer!r}: say inputs="
            )
        # In a tuple, which torch does not look into: as an attribute the layer would be a child, and its weights would
        # stand in the state dict twice. A copy of the whole model still refers to its own copy of the layer.
        self.reader = layer, inputs

    def _inputs_of(self, layer: nn.Module) -> int | None:
        return getattr(layer, "in_features", getattr(layer, "in_channels", None))

    @property
    def p(self) -> float:
        """The rate learned so far. Reading it waits for the parameter's device."""
        return torch.sigmoid(self.p_logit.detach().cpu().double()).item()

    @p.setter
    def p(self, p: float) -> None:
        p = check_p(p)
        if p in (0, 1):
            raise DropkitError(
                f"{type(self).__name__} learns a p between 0 and 1, which it cannot leave again at either end, but got "
                f"{p:g}: start from 0.1, or use dropkit.Dropout"
            )
        logit = math.log(p) - math.log1p(-p)
        if "p_logit" in self._parameters:
            with torch.no_grad():
                self.p_logit.fill_(logit)
        else:
            # One dimension: FSDP shards no parameter without any.
            self.p_logit = nn.Parameter(torch.tensor([logit]))

    def forward(self, input: Tensor) -> Tensor:
        """Return the input times its relaxed mask in training, the input itself in eval."""
        check_input(input, "concrete_dropout")
        if not self.training or input.numel() == 0:
            return input
        check_fraction(input)
        return self._relaxed(input, ops.logistic(input, self.mask_key()))

    def _relaxed(self, x: Tensor, noise: Tensor) -> Tensor:
        """Return x * (1 - z) / (1 - p) for noise of a shape that broadcasts to x's."""
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        logit = self.p_logit.to(dtype).squeeze()
        # 1 - sigmoid(a) = sigmoid(-a), without the cancellation
        kept = torch.sigmoid((logit + noise.to(dtype)) / -self.temperature)
        return (x * (kept / torch.sigmoid(-logit))).to(x.dtype)

    def extra_repr(self) -> str:
        """Return what the layer's repr shows."""
        return "" if self.p_logit.is_meta else f"p={self.p:.4g}"


class ConcreteDropout2d(ConcreteDropout):
    """Scale each channel of each sample by a relaxed mask whose rate is learned (Gal, Hron and Kendall, NeurIPS 2017).

    As `ConcreteDropout`, with one z for a sample's channel and the temperature 2/3 of the authors' code for spatial
    dropout.

    Args:
        p: the rate to start from; neither 0 nor 1.
        layer: the convolution that reads the output, directly or through layers without weights. With another kind of
            layer say `inputs` too: a Linear behind a Flatten has more inputs than there are channels.
        inputs: the number of channels; by default the convolution's `in_channels`.

    Shape:
        (N, C, H, W); the output has the input's.

    Raises:
        ValueError: p is not from 0 to 1.
        DropkitError: p is 0 or 1, the layer cannot be used, or the input has not 4 dimensions.

    >>> conv = nn.Conv2d(3, 7, 3)
    >>> model = nn.Sequential(ConcreteDropout2d(0.1, layer=conv), conv)
    >>> model(torch.ones(2, 3, 5, 5)).shape
    torch.Size([2, 7, 3, 3])
    """

    temperature = 2 / 3

    def _inputs_of(self, layer: nn.Module) -> int | None:
        return getattr(layer, "in_channels", None)

    def forward(self, input: Tensor) -> Tensor:
        """Return the input times its channels' relaxed mask in training, the input itself in eval."""
        check_input(input, "concrete_dropout2d")
        if input.dim() != 4:
            raise DropkitError(f"ConcreteDropout2d takes input of shape (N, C, H, W), but got {tuple(input.shape)}")
        if not self.training or input.numel() == 0:
            return input
        check_fraction(input)
        # One pixel stands for its channel: noise depends on nothing but the shape.
        noise = ops.logistic(input.detach()[:, :, 0, 0], self.mask_key())
        return self._relaxed(input, noise[:, :, None, None])


def concrete_loss(
    model: nn.Module, n_train: int, *, length_scale: float = 1e-2, precision: float | None = None
) -> Tensor:
    """Return the regularizers of all concrete layers of a model: what to add to the loss (Gal et al., NeurIPS 2017).

    Equation (1) minimises the negative log-likelihood averaged over samples plus KL / N. By equations (2) to (4) each
    layer's KL is l^2 (1 - p) / 2 * |M|^2 - D H(p), up to a constant. Kept units are scaled here by 1 / (1 - p), so that
    M = W / (1 - p), and a layer's term is

        l^2 / (2 N) * sum(W^2) / (1 - p) + D / N * (p ln p + (1 - p) ln(1 - p)).

    That belongs to a mean cross-entropy in nats, which is the negative log-likelihood itself. A Gaussian likelihood of
    precision tau has tau / 2 times the squared error in its place: to a squared error (summed over outputs, averaged
    over samples) belong 2 / tau of these terms, l^2 / (tau N) and 2 / (tau N), as in the authors' code.

    W and D are the weights and the number of inputs of the layer that reads a concrete layer's output. Weight decay on
    W would count the first term twice, and on `p_logit` it would draw p to 1/2.

    Args:
        model: any module.
        n_train: N, the number of training samples.
        length_scale: l, the prior's: the larger, the smaller the weights and the rates.
        precision: tau, for a squared error; None for a mean cross-entropy.

    Returns:
        A scalar in float32.

    Raises:
        DropkitError: a number is not positive, the model has no concrete layer, or one of them does not know which
            layer of the model reads its output.

    >>> head = nn.Linear(5, 2)
    >>> model = nn.Sequential(ConcreteDropout(0.1, layer=head), head)
    >>> concrete_loss(model, n_train=100).requires_grad
    True
    """
    scale = 1.0 if precision is None else 2 / _positive("precision", precision)
    scale /= _positive("n_train", n_train)
    prior = _positive("length_scale", length_scale) ** 2 / 2
    terms = [_regularizer(*known, scale * prior, scale) for known in _readers(model)]
    if not terms:
        raise DropkitError("the model has no concrete layer: put a ConcreteDropout or ConcreteDropout2d into it")
    return torch.stack(terms).sum()


def learned_rates(model: nn.Module) -> dict[str, float]:
    """Return the rate of each concrete layer by its path in the model.

    >>> learned_rates(nn.Sequential(nn.Linear(2, 3), ConcreteDropout(0.5)))
    {'1': 0.5}
    """
    return {path: module.p for path, module in model.named_modules() if isinstance(module, ConcreteDropout)}


def _readers(model: nn.Module) -> Iterator[tuple[ConcreteDropout, nn.Module, int]]:
    """Yield each concrete layer with the layer that reads its output and the number of inputs that are dropped."""
    own = set(model.modules())
    for path, module in model.named_modules():
        if not isinstance(module, ConcreteDropout):
            continue
        reader, inputs = module.reader or (None, 0)
        # A layer that has been replaced since is trained by nothing.
        if reader is None or reader not in own:
            raise DropkitError(
                f"the layer that reads the output of the {type(module).__name__} at {path!r} is "
                f"{'not known' if reader is None else 'not part of the model'}, and concrete_loss needs its weights: "
                f"call model.get_submodule({path!r}).feeds(layer)"
            )
        yield module, reader, inputs


def _regularizer(drop: ConcreteDropout, reader: nn.Module, inputs: int, prior: float, scale: float) -> Tensor:
    """Return prior * sum(W^2) / (1 - p) + scale * D * (p ln p + (1 - p) ln(1 - p))."""
    logit = drop.p_logit.float().squeeze()
    dropped, kept = torch.sigmoid(logit), torch.sigmoid(-logit)
    weights: Any = reader.weight
    squares: Tensor = weights.float().square().sum()
    return prior * squares / kept + scale * inputs * (dropped * F.logsigmoid(logit) + kept * F.logsigmoid(-logit))


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise DropkitError(f"concrete_loss takes a positive {name}, but got {value!r}")
    return value
