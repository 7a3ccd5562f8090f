"""The functions that drop, with dropkit's layer that does the same, and those that draw random numbers otherwise."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dropkit.layers.alpha import AlphaDropout, FeatureAlphaDropout
from dropkit.layers.base import DropLayer
from dropkit.layers.channels import Dropout1d, Dropout2d, Dropout3d
from dropkit.layers.units import Dropout

Function = Callable[..., Any]


class _FeatureDropout(Dropout1d):
    """Dropout of whole channels of (N, C, ...), of any rank from 2: what torch.feature_dropout does."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the thinned input."""
        return super().forward(input.flatten(2) if input.dim() > 2 else input.unsqueeze(-1)).reshape(input.shape)


@dataclass(frozen=True)
class Keyed:
    """A function whose masks can be keyed.

    Attributes:
        kind: the layer that does the same.
        flag: what the function calls its argument, the third, that lets it drop.
        default: of that argument.
        in_place: whether it always writes into its input; None where its fourth argument, `inplace`, says so.
    """

    kind: type[DropLayer]
    flag: str = "training"
    default: bool = True
    in_place: bool | None = None

    def drops(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether a call is told to drop."""
        return bool(kwargs.get(self.flag, args[2] if len(args) > 2 else self.default))

    def rate(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
        """Return a call's rate."""
        rate: float = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
        return rate

    def writes(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether a call writes into its input."""
        if self.in_place is not None:
            return self.in_place
        return bool(kwargs.get("inplace", args[3] if len(args) > 3 else False))


def _both(name: str, kind: type[DropLayer]) -> dict[Function, Keyed]:
    """Return torch's own function of a name, and the one of that name that writes into its input."""
    return {
        getattr(torch, name): Keyed(kind, "train", in_place=False),
        getattr(torch, f"{name}_"): Keyed(kind, "train", in_place=True),
    }


KEYED: dict[Function, Keyed] = {
    F.dropout: Keyed(Dropout),
    F.dropout1d: Keyed(Dropout1d),
    F.dropout2d: Keyed(Dropout2d),
    F.dropout3d: Keyed(Dropout3d),
    F.alpha_dropout: Keyed(AlphaDropout, default=False),
    F.feature_alpha_dropout: Keyed(FeatureAlphaDropout, default=False),
    **_both("dropout", Dropout),
    **_both("feature_dropout", _FeatureDropout),
    **_both("alpha_dropout", AlphaDropout),
    **_both("feature_alpha_dropout", FeatureAlphaDropout),
}

ATTENTION: dict[Function, tuple[int, str]] = {
    F.multi_head_attention_forward: (10, "dropout_p"),
    F.scaled_dot_product_attention: (4, "dropout_p"),
}

RANDOM: frozenset[Function] = frozenset(
    [
        *(torch.bernoulli, torch.binomial, torch.multinomial, torch.normal, torch.poisson, torch.rand, torch.rand_like),
        *(torch.randint, torch.randint_like, torch.randn, torch.randn_like, torch.randperm),
        *(Tensor.bernoulli, Tensor.bernoulli_, Tensor.cauchy_, Tensor.exponential_, Tensor.geometric_),
        *(Tensor.log_normal_, Tensor.multinomial, Tensor.normal_, Tensor.random_, Tensor.uniform_),
    ]
)
"""What draws random numbers in a network's own code; with torch's functions that draw within, nothing is dropped."""


def attention_rate(function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
    """Return the rate at which a call of attention drops; 0 for other functions, and in multi-head attention's eval."""
    if function not in ATTENTION:
        return 0.0
    place, name = ATTENTION[function]
    rate: float = kwargs.get(name, args[place] if len(args) > place else 0.0)
    on = function is F.scaled_dot_product_attention or kwargs.get("training", args[13] if len(args) > 13 else True)
    return rate if on else 0.0
