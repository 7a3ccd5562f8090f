"""The hidden layers of a network: where they are, how many units they have, whether dropout acts there in training."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from dropkit.models import hosts
from dropkit.models.head import FrozenNetwork
from dropkit.models.own import rate_attribute, rate_of
from dropkit.models.site_search import sites
from dropkit.models.sites import HasSites, Site
from dropkit.uncertainty.frozen import frozen_paths

ROLES = ("conv", "fc", "head")
MOST = 12  # layers: each is measured by passes of its own, and a page that shows more is not read


@dataclass(frozen=True)
class Layer:
    """A hidden layer: what the next weights read.

    A unit is a channel where the layer makes maps, and a feature otherwise; the other places of a picture (of a map, or
    tokens) are further observations of the same units.

    Attributes:
        site: where it is.
        rate: of the dropout that acts there in training; 0 where none does.
    """

    site: Site
    rate: float = 0.0

    @property
    def path(self) -> str:
        """The path of the module that makes it, or reads it."""
        return self.site.path

    def shaped(self, value: Tensor) -> Tensor:
        """Return a value at the site as the layer made it: functional code may have flattened it before it is read."""
        shape = self.site.shape
        flattened = shape is not None and self.site.at_input and value.dim() == 2 and len(shape) > 1
        return value.reshape(-1, *shape) if flattened and shape is not None else value

    def unit_axis(self, value: Tensor) -> int:
        """Return the dimension of the units: a linear layer makes the last one, whatever lies between."""
        return value.dim() - 1 if self.site.role == "fc" else 1

    def by_unit(self, value: Tensor) -> Tensor:
        """Return a shaped value [N, ...] as [N, places, units]."""
        return value.movedim(self.unit_axis(value), -1).flatten(1, -2) if value.dim() > 2 else value.unsqueeze(1)

    @contextmanager
    def watched(self, model: nn.Module, act: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
        """Call `act` with what the layer gives to the next one, in the layer's own shape, inside the block.

        What it returns, if anything, is read in its place.
        """

        def changed(value: Tensor) -> Tensor | None:
            instead = act(self.shaped(value))
            return None if instead is None else instead.reshape(value.shape)

        def before(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            instead = changed(args[0])
            return None if instead is None else (instead, *args[1:])

        def after(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
            return changed(output)

        module = model.get_submodule(self.path)
        at_input = self.site.at_input
        handle = module.register_forward_pre_hook(before) if at_input else module.register_forward_hook(after)
        try:
            yield
        finally:
            handle.remove()


def hidden_layers(model: nn.Module, example: Tensor) -> list[Layer]:
    """Return the hidden layers of a network, in execution order.

    They are its sites with the roles conv, fc and head. Of a head on a frozen network it is the one that was trained
    on: what lies before it is the same whatever the dropout.

    Args:
        model: the network, with the dropout that it was trained with.
        example: a batch [N, ...] of its input.

    >>> import torch
    >>> from dropkit.models.cnn import CNNWithDropout
    >>> [(layer.site.name, layer.rate) for layer in hidden_layers(CNNWithDropout(), torch.zeros(2, 1, 28, 28))]
    [('conv[0]', 0.0), ('conv[1]', 0.0), ('fc[0]', 0.5)]
    """
    if isinstance(model, FrozenNetwork):
        head = model.head
        assert isinstance(head, HasSites)
        found = [replace(site, path=f"head.{site.path}") for site in head.dropout_sites()]
    else:
        found = sites(model, example)
    rates = _rates(model)
    return [
        Layer(site, rates.get(site.name, rates.get(site.path, 0.0) if site.own else 0.0))
        for site in found
        if site.role in ROLES
    ]


def _rates(model: nn.Module) -> dict[str, float]:
    """Return the rates of what drops: by the site's name where one is known, and by the module's path."""
    found: dict[str, float] = {}
    for path, module in model.named_modules():
        if rate_attribute(module) is None or rate_of(module) == 0:
            continue
        site = hosts.site_of_layer(module)
        found[path if site is None else site.name] = float(rate_of(module))
    return found


def drops(model: nn.Module) -> bool:
    """Whether anything drops in a network in training; a frozen part's own dropout never acted.

    >>> drops(nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.5))), drops(nn.Sequential(nn.Dropout(0.0)))
    (True, False)
    """
    frozen = frozen_paths(model)
    layers = (module for path, module in model.named_modules() if path not in frozen)
    return any(rate_attribute(module) is not None and rate_of(module) > 0 for module in layers)


def chosen_layers(layers: list[Layer]) -> list[Layer]:
    """Return the layers that are measured: all, or of more than can be shown some from the first to the last.

    >>> layers = [Layer(Site("conv", index, str(index))) for index in range(23)]
    >>> [layer.site.index for layer in chosen_layers(layers)]
    [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22]
    """
    if len(layers) <= MOST:
        return layers
    return [layers[place] for place in np.linspace(0, len(layers) - 1, MOST).round().astype(int)]
