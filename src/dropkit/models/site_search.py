"""Where dropout could go in a network."""

from typing import Any

from torch import nn

from dropkit.errors import DropkitError
from dropkit.models import hosts
from dropkit.models.sites import HasSites, Site
from dropkit.models.stages import Stages
from dropkit.models.trace import refuse_untraceable, trace


def sites(model: nn.Module, example_input: Any = None) -> list[Site]:
    """Return where dropout could go in a network, in execution order.

    The network runs once on the example, and is the same afterwards. A site is where the next weights read the output
    of a stage: after norm, activation and pooling. Functional ReLUs, poolings and dropout are seen as well as modules.

    Args:
        model: any network; what `insert` put into it is looked through.
        example_input: a tensor; a tuple of positional or a dict of named arguments. A network of dropkit's own says by
            itself where its sites are, and needs none.

    Raises:
        DropkitError: if the network cannot run on the example, or is scripted, quantised or not yet initialised.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 6 * 6, 2))
    >>> [(site.name, site.path, site.shape) for site in sites(net, torch.zeros(1, 1, 8, 8))]
    [('input', '0', (1, 8, 8)), ('conv[0]', '1', (3, 6, 6))]
    """
    model = unwrapped(model)
    refuse_untraceable(model)
    if example_input is None and not isinstance(model, HasSites):
        raise DropkitError(
            f"to find where dropout can go, {type(model).__name__} has to run once: give an example input, such as "
            "sites(model, torch.zeros(2, 3, 224, 224))"
        )
    with hosts.as_built(model):
        return search(model, example_input)


def search(model: nn.Module, example_input: Any) -> list[Site]:
    """Return the sites of a network as it stands; one of dropkit's own says them by itself."""
    return model.dropout_sites() if isinstance(model, HasSites) else Stages(model, trace(model, example_input)).sites()


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network that torch.compile or data parallelism wrapped, perhaps both."""
    while isinstance(inner := _inner(model), nn.Module):
        model = inner
    return model


def _inner(model: Any) -> Any:
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return model.module
    return getattr(model, "_orig_mod", None)


def is_parallel(model: Any) -> bool:
    """Whether DistributedDataParallel wraps a network, compiled or not."""
    while isinstance(model, nn.Module):
        if isinstance(model, nn.parallel.DistributedDataParallel):
            return True
        model = _inner(model)
    return False
