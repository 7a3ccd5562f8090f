"""The kinds of dropout that a policy can name, and where each can act."""

from collections import OrderedDict
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any

from torch.nn.utils.parametrize import is_parametrized

from dropkit.layers.alpha import AlphaDropout, FeatureAlphaDropout
from dropkit.layers.base import DropLayer
from dropkit.layers.blocks import DropBlock1d, DropBlock2d, DropBlock3d
from dropkit.layers.channels import Dropout1d, Dropout2d, Dropout3d
from dropkit.layers.gaussian import GaussianDropout
from dropkit.layers.learned import ConcreteDropout, ConcreteDropout2d
from dropkit.layers.paths import DropPath
from dropkit.layers.units import Dropout
from dropkit.layers.weights import DropConnect
from dropkit.models.sites import Site

BLOCK_SIZE = 7  # Ghiasi et al., NeurIPS 2018, section 4.1

Layers = Callable[[str], Any]  # a path's layer, as it is once all weights that are dropped have their layer
Make = Callable[[Layers, Site, float, int | None], DropLayer]


@dataclass(frozen=True)
class Kind:
    """One kind of dropout.

    Attributes:
        drops: what a unit is, for messages.
        make: builds the layer, from the network's layers, the site, the rate and the argument.
        maps: it needs feature maps to act on.
        weights: it takes the place of the layer that makes the site's activation, whose weights it drops.
        learned: its rate is learned, from the weights of the layer that reads the activation.
        path: it acts on residual branches, and nothing else does.
        deeper: the rate is the last site's; at those before it, it grows linearly with depth.
        argument: what the number after the rate means; None where there is none.
        least: a rate that is too low; None where 0 is allowed.
        most: a rate that is too high; None where 1 is allowed.
    """

    drops: str
    make: Make
    maps: bool = False
    weights: bool = False
    learned: bool = False
    path: bool = False
    deeper: bool = False
    argument: str | None = None
    least: float | None = None
    most: float | None = None


def _plain(layer: Callable[[float], DropLayer]) -> Make:
    return lambda layers, site, rate, argument: layer(rate)


def _axes(site: Site) -> int:
    """Return how many axes the maps of a site have."""
    return 2 if site.shape is None else len(site.shape) - 1


def _channels(layers: Layers, site: Site, rate: float, argument: int | None) -> DropLayer:
    return _CHANNELS[_axes(site)](rate)


def _blocks(layers: Layers, site: Site, rate: float, argument: int | None) -> DropLayer:
    return _BLOCKS[_axes(site)](rate, BLOCK_SIZE if argument is None else argument)


def _connect(layers: Layers, site: Site, rate: float, argument: int | None) -> DropLayer:
    # The layer is turned into the new one in place and keeps its hooks: DropConnect, which refuses some, sees none.
    layer = _layer(layers, site.made_by)
    if is_parametrized(layer):
        return DropConnect(layer, rate)  # which says that it cannot; torch refuses to copy such a layer
    plain = copy(layer)
    for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
        setattr(plain, name, OrderedDict())
    return DropConnect(plain, rate)


def _concrete(layers: Layers, site: Site, rate: float, argument: int | None) -> DropLayer:
    reader = _layer(layers, site.read_by)
    if not site.spatial:
        return ConcreteDropout(rate, layer=reader)
    # A fully connected layer that reads maps counts pixels as inputs; whole maps are dropped.
    channels = _layer(layers, site.made_by).out_channels if site.shape is None else site.shape[0]
    return ConcreteDropout2d(rate, layer=reader, inputs=channels)


def _layer(layers: Layers, path: str | None) -> Any:
    assert path is not None  # the policy has seen to it
    return layers(path)


_CHANNELS = {1: Dropout1d, 2: Dropout2d, 3: Dropout3d}
_BLOCKS = {1: DropBlock1d, 2: DropBlock2d, 3: DropBlock3d}

KINDS: dict[str, Kind] = {
    "unit": Kind("single units", _plain(Dropout)),
    "channel": Kind("whole feature maps", _channels, maps=True),
    "dropblock": Kind("blocks of feature maps", _blocks, maps=True, argument="the block's side", most=1.0),
    "gaussian": Kind("nothing, but multiplies units by noise", _plain(GaussianDropout), most=1.0),
    "alpha": Kind("single units", _plain(AlphaDropout), most=1.0),
    "feature-alpha": Kind("whole feature maps", _plain(FeatureAlphaDropout), maps=True, most=1.0),
    "concrete": Kind("units at a learned rate", _concrete, learned=True, least=0.0, most=1.0),
    "connect": Kind("weights", _connect, weights=True),
    "sample": Kind("residual branches", _plain(DropPath), path=True),
    "depth": Kind("residual branches", _plain(DropPath), path=True, deeper=True),
}
