"""The dropout layers that networks are built with: torch.nn's, torchvision's, timm's and dropkit's."""

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from dropkit.layers.base import DropLayer
from dropkit.layers.paths import DropPath, Residual
from dropkit.layers.relu import ReLUDropout
from dropkit.layers.weights import DropConnect

# By name: neither library need be installed, and what is not imported has no instances.
_RATES = {
    "torchvision.ops.stochastic_depth.StochasticDepth": "p",
    "torchvision.ops.drop_block.DropBlock2d": "p",
    "torchvision.ops.drop_block.DropBlock3d": "p",
    "timm.layers.drop.DropPath": "drop_prob",
    "timm.layers.drop.DropBlock2d": "drop_prob",
    "timm.layers.patch_dropout.PatchDropout": "prob",
    "timm.layers.patch_dropout.PatchDropoutWithIndices": "prob",
}


def class_name(module: nn.Module) -> str:
    """Return the full name of a module's class."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


def rate_attribute(module: nn.Module) -> str | None:
    """Return the attribute that holds a dropout layer's rate; None for modules that are none."""
    if isinstance(module, _DropoutNd | DropLayer):
        return "p"
    return next((_RATES[name] for name in map(_full, type(module).__mro__) if name in _RATES), None)


def drops_samples(module: nn.Module) -> bool:
    """Whether a dropout layer drops whole samples of a residual branch."""
    samples = ("torchvision.ops.stochastic_depth.StochasticDepth", "timm.layers.drop.DropPath")
    return isinstance(module, DropPath) or any(_full(kind) in samples for kind in type(module).__mro__)


def rate_of(module: nn.Module) -> float:
    """Return a dropout layer's rate."""
    rate: float = getattr(module, rate_attribute(module) or "p")
    return rate


def _full(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def is_dropout(module: nn.Module) -> bool:
    """Whether a module is a layer that does nothing but drop: with its dropout off it is the identity."""
    return rate_attribute(module) is not None and not isinstance(module, Residual | DropConnect | ReLUDropout)
