"""Keyed masks: the same for any order of calls, sharding of the batch, recomputation and device."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from operator import index

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from dropkit.errors import DropkitError, unknown
from dropkit.layers.base import DropLayer
from dropkit.masks import key_words, site_of


@contextmanager
def keyed(model: nn.Module, *, seed: int, step: int, first_sample: int = 0, rank: str | None = None) -> Iterator[None]:
    """Within the block, make every mask of the model's dropkit layers a function of seed, site and step.

    The global generator is neither read nor advanced. A site is a layer's path in the model, without what
    DistributedDataParallel, torch.compile, FSDP or a checkpoint wrapper put before it; a layer registered at
    several paths has the first. The block encloses forward and backward, so that what activation
    checkpointing computes again finds the same key. Blocks nest: leaving one restores what was before, also
    after an exception.

    One layer is one site: called again in the same step it repeats its mask. Use one layer per place for
    independent masks. A model without dropkit layers is left alone: a policy may name none. It
    warns of torch.nn's own dropout layers, whose masks no key reaches; functional dropout it does not see.

    Args:
        model: any module, wrapped or not.
        seed: an integer from 0 to 2**64 - 1.
        step: an integer from 0 to 2**32 - 1: the training step, or the number of the draw.
        first_sample: the number of the batch's first sample, from 0 to 2**63 - 1: a rank that holds samples 32 to 63 of
            the global batch says 32 and gets the masks that one process would have given them.
        rank: "shared" gives all ranks the same masks, whatever first sample they name.

    Raises:
        DropkitError: an argument is not an integer of its range, or the rank is unknown.

    >>> import torch
    >>> from dropkit.layers.units import Dropout
    >>> model, x = nn.Sequential(Dropout(0.5)), torch.ones(3, 5)
    >>> with keyed(model, seed=1, step=0):
    ...     first, second = model(x), model(x)
    >>> torch.equal(first, second)
    True
    """
    seed = _integer("seed", seed, 1 << 64, "an integer from 0 to 2**64 - 1")
    step = _integer("step", step, 1 << 32, "an integer from 0 to 2**32 - 1")
    first_sample = _integer("first_sample", first_sample, 1 << 63, "an integer of 0 or more (below 2**63)")
    if rank not in (None, "shared"):
        raise unknown("rank", str(rank), ["shared"])
    if rank == "shared":
        first_sample = 0
    layers = _sites(model)
    _warn_of_others(model)
    former = [(layer, layer.key) for layer, _ in layers]
    for layer, site in layers:
        # A tensor: compiled code takes it as an input and is not compiled anew for each step.
        layer.key = key_words(seed, site, step, first_sample)
    try:
        yield
    finally:
        for layer, key in former:
            layer.leave_key(key)


def _sites(model: nn.Module) -> list[tuple[DropLayer, int]]:
    """Return the model's dropkit layers and their sites, each layer once."""
    found: dict[int, DropLayer] = {}
    for path, module in model.named_modules():
        if isinstance(module, DropLayer):
            site = site_of(path)
            # Two paths with one hash would silently share their masks. The order of modules is the network's
            # own.
            while site in found:
                site = (site + 1) % (1 << 32)
            found[site] = module
    return [(layer, site) for site, layer in found.items()]


def _warn_of_others(model: nn.Module) -> None:
    """Warn of dropout layers that the key does not reach: their masks would differ from run to run unnoticed."""
    for path, module in model.named_modules():
        if isinstance(module, _DropoutNd) and module.p > 0:
            warnings.warn(
                f"keyed does not reach the torch.nn.{type(module).__name__} at {path!r}, whose masks come from the "
                "global generator: use dropkit's layer there",
                stacklevel=4,  # keyed, contextlib's __enter__, the caller's with statement
            )


def _integer(name: str, value: int, limit: int, allowed: str) -> int:
    """Return the value as an int, or say what is allowed."""
    try:
        number = index(value)
    except TypeError:
        number = -1
    if isinstance(value, bool) or number < 0 or number >= limit:
        raise DropkitError(f"keyed takes as {name} {allowed}, but got {value!r}")
    return number
