"""Surgery: insert, change and remove dropout in any network, without a change to its classes."""

import copy
from typing import Any

from torch import nn

from dropkit.errors import DropkitError
from dropkit.layers.base import DropLayer
from dropkit.layers.learned import ConcreteDropout
from dropkit.layers.paths import Residual
from dropkit.layers.units import Dropout
from dropkit.layers.weights import DropConnect
from dropkit.models import hosts
from dropkit.models.changes import Change as Change
from dropkit.models.changes import dropping, one_line, rates_set, site_name, with_origin
from dropkit.models.conversion import converted
from dropkit.models.functional_calls import functional_dropout
from dropkit.models.kinds import KINDS
from dropkit.models.override import overridden
from dropkit.models.own import rate_attribute
from dropkit.models.placement import Place, aliases, chosen_places
from dropkit.models.policy import Item, Policy
from dropkit.models.rate_setting import set_call
from dropkit.models.rate_setting import set_rate as set_rate
from dropkit.models.site_search import is_parallel, search, unwrapped
from dropkit.models.site_search import sites as sites
from dropkit.models.sites import HasSites, Site
from dropkit.models.trace import refuse_untraceable, require_module


def insert(model: nn.Module, policy: Any, example_input: Any = None) -> list[Change]:
    """Make a network drop exactly what a policy says; what was inserted before is taken out first.

    A policy is total: at sites that it does not name nothing is dropped, by the network's own dropout layers and
    functional dropout neither. Where the network has a dropout layer of its own at a named site, that becomes dropkit's
    layer at the policy's rate and none is added. The network's classes, `training` flags, parameters, hooks and
    state-dict keys stay; a learned rate (kind concrete) adds a key of its own, which its change names. `remove` undoes
    all of it exactly.

    Args:
        model: any network, on any device, compiled (before or after) or not. What is compiled in this process, this
            network or another one, is compiled anew when it is next called.
        policy: a text such as "conv=channel:0.1,fc=0.5", or a mapping from sites to rates, to texts such as
            "channel:0.1", or to layers, of which each place gets a copy. A site is a role, a role with an index, or a
            glob on module paths.
        example_input: what the network runs on once to find its sites. Not needed for networks of dropkit's own, and
            for policies that name modules by their paths; functional dropout is seen only with it.

    Returns:
        The changes: first what is switched off, then what drops now, in execution order.

    Raises:
        DropkitError: if an item names nothing in the network, or a kind that cannot act there; or as `sites`. The
            network is unchanged then.

    >>> net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    >>> import torch
    >>> print(*insert(net, {"fc": 0.5}, torch.zeros(2, 3)))
    1 (fc[0]): nothing -> Dropout(p=0.5, inplace=False)
    >>> print(*remove(net))
    1 (fc[0]): Dropout(p=0.5, inplace=False) -> nothing
    >>> from dropkit.models.cnn import CNNWithDropout
    >>> print(*insert(CNNWithDropout(), "conv[0]=0.1"), sep="\\n")
    dropout: Dropout(p=0.5, inplace=False) -> Dropout(p=0.0, inplace=False)
    pool1 (conv[0]): nothing -> Dropout(p=0.1, inplace=False)
    """
    given, model = model, unwrapped(model)
    refuse_untraceable(model)
    policy = Policy.of(policy)
    with hosts.all_or_nothing(model):
        parameters = set(model.parameters())
        hosts.take_back(model)
        changes = [] if policy.untouched else _apply(model, policy, example_input)
        if is_parallel(given) and not set(model.parameters()) <= parameters:
            raise DropkitError(
                f"policy {policy.text!r} adds a learned rate, which each process would train on its own: insert it "
                "before DistributedDataParallel wraps the network"
            )
    hosts.forget_compiled()
    return changes


def _apply(model: nn.Module, policy: Policy, example_input: Any) -> list[Change]:
    seen = example_input is not None or isinstance(model, HasSites)
    found = search(model, example_input) if seen else None
    calls = functional_dropout(model, example_input) if example_input is not None else []
    chosen = chosen_places(policy, found, model)
    changes = _switch_off(model, {path for path, place in chosen if place == "own"})
    changes += [set_call(model, call, 0.0) for call in calls if call.rate > 0]
    order = found or []
    put = [
        (site, _put(model, place, site, item, aliases(site, order)))
        for place, (site, item) in sorted(chosen.items(), key=lambda entry: _turn(entry[0]))
    ]
    put.sort(key=lambda entry: order.index(entry[0]) if entry[0] in order else len(order))
    return changes + [change for _, change in put]


def _turn(place: Place) -> int:
    """First the weights: others may have to know the layers that drop them."""
    return 0 if place[1] == "weights" else 1


def _put(model: nn.Module, place: Place, site: Site, item: Item, called: frozenset[str]) -> Change:
    """Let one item of a policy act at one place."""
    path, what = place
    host = model.get_submodule(path)
    layer = _beside(_make(model, site, item), model, site)
    if what in ("own", "weights"):
        before, after = _set_own(host, layer, item)
    else:
        before, after = "nothing", one_line(layer)
        hosts.attach(host, layer, at_input=what == "input")
    hosts.mark(host if what in ("own", "weights") else layer, site, called)
    child = {"input": f"{hosts.INPUT_SLOT}.", "output": f"{hosts.SLOT}."}.get(what, "")
    learned = isinstance(layer, ConcreteDropout) or item.layer is not None
    start = f"{path}." if path else ""
    keys = tuple(f"{start}{child}{key}" for key in layer.state_dict()) if learned else ()
    return Change(path, "" if site.role == "module" else site.name, before, after, keys)


def _make(model: nn.Module, site: Site, item: Item) -> nn.Module:
    if item.layer is not None:
        return copy.deepcopy(item.layer)
    return KINDS[item.kind].make(model.get_submodule, site, item.rate, item.argument)


def _beside(layer: nn.Module, model: nn.Module, site: Site) -> nn.Module:
    """Bring what a layer learns to the device of the weights around it."""
    near = [model.get_submodule(path) for path in (site.read_by, site.made_by) if path is not None]
    weights = [parameter for module in (*near, model) for parameter in module.parameters()]
    if weights and not isinstance(layer, DropConnect):  # which has the weights of its layer already
        layer.to(weights[0].device)
    return layer


def _set_own(own: nn.Module, layer: nn.Module, item: Item) -> tuple[str, str]:
    """Set the rate of a network's own dropout layer, or turn a layer into another; return what it was and is."""
    before = one_line(own)
    layer = converted(layer) or layer  # a layer of torch.nn's was given
    if isinstance(own, Residual) or (type(own) is type(layer) is Dropout and item.layer is None):
        hosts.set_attribute(own, "p", layer.p)
    elif isinstance(layer, DropLayer):
        hosts.become(own, layer)
    else:
        raise DropkitError(
            f"{type(layer).__name__} cannot take the place of the network's own {before}: give one of dropkit's "
            "layers, or a rate"
        )
    return before, one_line(own)


def _switch_off(model: nn.Module, named: set[str]) -> list[Change]:
    """Set the rate of the network's own dropout layers to 0, but for those that the policy names."""
    changes = []
    for path, module in model.named_modules():
        attribute = rate_attribute(module)
        if attribute is None or path in named or getattr(module, attribute) == 0:
            continue
        before = one_line(module)
        if isinstance(module, ConcreteDropout):  # its rate cannot be 0
            hosts.become(module, Dropout(0.0))
        else:
            hosts.set_attribute(module, attribute, 0.0)
        changes.append(Change(path, "", before, one_line(module)))
    return changes


def remove(model: nn.Module) -> list[Change]:
    """Undo all that `insert`, `set_rate` and `convert` did: the network is as it was before the first of them.

    To switch off the dropout that a network was built with, insert the policy "none".

    Returns:
        The changes.

    Raises:
        DropkitError: if there is nothing to undo.

    >>> net = nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.5))
    >>> _ = convert(net)
    >>> print(*remove(net))
    1: Dropout(p=0.5, inplace=False) -> Dropout(p=0.5, inplace=False) of torch.nn
    """
    model = unwrapped(model)
    require_module(model)
    if not hosts.is_changed(model):
        raise DropkitError(
            f"there is nothing to remove: nothing was inserted into this {type(model).__name__}. Its own dropout is "
            "switched off by insert(model, 'none', example_input)"
        )
    changes, hanging = [], set()
    for path, _, layer, at_input in hosts.hanging(model):
        start = f"{path}." if path else ""
        slot = hosts.INPUT_SLOT if at_input else hosts.SLOT
        keys = tuple(f"{start}{slot}.{key}" for key in layer.state_dict())
        changes.append(Change(path, site_name(layer), one_line(layer), "nothing", keys))
        hanging.add(layer)
    own = {path: module for path, module in hosts.became(model) if module not in hanging}
    own |= {path: module for path, module, *_ in hosts.rates_before(model) if module not in hanging}
    overrides = {path: rates for path, _, rates in overridden(model)}
    held = {path: rates_set(module) for path, module in own.items()}
    was = {path: (site_name(module), dropping(module, held[path])) for path, module in own.items()}
    had = {path: set(module.state_dict()) for path, module in own.items()}
    hosts.take_back(model)
    hosts.forget_compiled()
    for path, module in own.items():
        gone = tuple(f"{path}.{key}" if path else key for key in sorted(had[path] - set(module.state_dict())))
        after = dropping(module, held[path]) if held[path] else with_origin(module)
        changes.append(Change(path, *was[path], after, gone))
    for path, rates in overrides.items():
        changes += [Change(path, "", f"dropout {now:g}", f"dropout {written:g}") for written, now in rates.items()]
    return changes


def convert(model: nn.Module) -> list[Change]:
    """Turn torch.nn's, torchvision's and timm's dropout layers into dropkit's, at the same rates.

    Each layer is turned in place: every name under which it is registered, the network itself if it is one, hooks and
    `training` flags stay. `remove` undoes it. Left as they are: subclasses, torchvision's StochasticDepth in mode
    "batch", timm's DropBlock2d with noise, a scaled gamma or one mask for a batch, and timm's layers that do not scale
    what they keep: these have no counterpart.

    Returns:
        The changes.

    Raises:
        DropkitError: if there is no such layer.

    >>> net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Dropout2d(0.2))
    >>> print(*convert(net))
    1: Dropout2d(p=0.2, inplace=False) of torch.nn -> Dropout2d(p=0.2, inplace=False)
    """
    model = unwrapped(model)
    refuse_untraceable(model)
    found = [
        (path, module, layer) for path, module in model.named_modules() if (layer := converted(module)) is not None
    ]
    if not found:
        raise DropkitError(
            f"there is no dropout layer of torch.nn, torchvision or timm in this {type(model).__name__} to convert; "
            "functional dropout has no layer: insert puts one in its place"
        )
    changes = []
    for path, module, layer in found:
        before = with_origin(module)
        hosts.become(module, layer)
        changes.append(Change(path, "", before, one_line(module)))
    return changes
