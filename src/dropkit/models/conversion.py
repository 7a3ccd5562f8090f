"""Which of dropkit's layers does what a layer of torch.nn, torchvision or timm does."""

from collections.abc import Callable
from typing import Any

from torch import nn

from dropkit.layers.alpha import AlphaDropout, FeatureAlphaDropout
from dropkit.layers.base import DropLayer
from dropkit.layers.blocks import DropBlock2d, DropBlock3d
from dropkit.layers.channels import Dropout1d, Dropout2d, Dropout3d
from dropkit.layers.paths import DropPath
from dropkit.layers.units import Dropout

Make = Callable[[Any], DropLayer | None]


def _plain(layer: Callable[..., DropLayer]) -> Make:
    return lambda module: layer(module.p, inplace=module.inplace)


def _stochastic_depth(module: Any) -> DropLayer | None:
    return DropPath(module.p) if module.mode == "row" else None


def _drop_path(module: Any) -> DropLayer | None:
    return DropPath(module.drop_prob or 0.0) if getattr(module, "scale_by_keep", True) else None


def _torchvision_blocks(layer: Callable[..., DropLayer]) -> Make:
    return lambda module: layer(module.p, module.block_size, inplace=module.inplace)


def _timm_blocks(module: Any) -> DropLayer | None:
    if module.with_noise or module.gamma_scale != 1.0 or not getattr(module, "scale_by_keep", True):
        return None
    if getattr(module, "batchwise", False):  # before timm 1.0.23: one mask for all samples
        return None
    shared = getattr(module, "couple_channels", False)
    return DropBlock2d(module.drop_prob, module.block_size, inplace=module.inplace, shared=shared)


# By name: neither library need be installed.
_MAKERS: dict[str, Make] = {
    "torch.nn.modules.dropout.Dropout": _plain(Dropout),
    "torch.nn.modules.dropout.Dropout1d": _plain(Dropout1d),
    "torch.nn.modules.dropout.Dropout2d": _plain(Dropout2d),
    "torch.nn.modules.dropout.Dropout3d": _plain(Dropout3d),
    # torch ignores their inplace
    "torch.nn.modules.dropout.AlphaDropout": lambda module: AlphaDropout(module.p),
    "torch.nn.modules.dropout.FeatureAlphaDropout": lambda module: FeatureAlphaDropout(module.p),
    "torchvision.ops.stochastic_depth.StochasticDepth": _stochastic_depth,
    "torchvision.ops.drop_block.DropBlock2d": _torchvision_blocks(DropBlock2d),
    "torchvision.ops.drop_block.DropBlock3d": _torchvision_blocks(DropBlock3d),
    "timm.layers.drop.DropPath": _drop_path,
    "timm.layers.drop.DropBlock2d": _timm_blocks,
}


def converted(module: nn.Module) -> DropLayer | None:
    """Return dropkit's layer with the rate and options of another library's; None where there is none."""
    kind = type(module)
    make = _MAKERS.get(f"{kind.__module__}.{kind.__qualname__}")
    return None if make is None else make(module)
