"""The parts of a network that were not trained, whose own dropout therefore never acted."""

from torch import nn

from dropkit.models.head import FrozenNetwork


def backbones(model: nn.Module) -> list[nn.Module]:
    """Return the frozen networks that heads in a network were trained on."""
    return [part.backbone for part in model.modules() if isinstance(part, FrozenNetwork)]


def frozen_paths(model: nn.Module) -> set[str]:
    """Return the paths of all modules that are frozen.

    >>> from dropkit.models.head import Head
    >>> sorted(frozen_paths(FrozenNetwork(nn.Sequential(nn.Dropout(0.5)), Head(5, 3))))
    ['backbone', 'backbone.0']
    """
    frozen = {id(module) for backbone in backbones(model) for module in backbone.modules()}
    return {path for path, module in model.named_modules() if id(module) in frozen}
