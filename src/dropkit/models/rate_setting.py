"""Other rates for the dropout that a network has."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from numbers import Real
from typing import Any

from torch import nn

from dropkit.errors import DropkitError
from dropkit.layers.learned import ConcreteDropout
from dropkit.models import hosts
from dropkit.models.changes import Change, one_line, site_name
from dropkit.models.functional_calls import FunctionalDropout, functional_dropout
from dropkit.models.override import override
from dropkit.models.own import rate_attribute
from dropkit.models.placement import aliases
from dropkit.models.policy import Item, Policy
from dropkit.models.site_search import sites, unwrapped
from dropkit.models.sites import HasSites
from dropkit.models.trace import require_module


def set_rate(model: nn.Module, rate_or_policy: Any, example_input: Any = None) -> list[Change]:
    """Change the rates of the dropout that a network has; nothing is added.

    No rate of a dropkit layer compiles anything anew. That of functional dropout and of torch.nn's layers is a constant
    of compiled code, which compiles again when it is set.

    Args:
        model: any network.
        rate_or_policy: a rate for all of its dropout: what `insert` put there, its own layers, and, where an example is
            given, functional dropout. Or a policy without kinds, as "conv=0.2" or {"fc": 0.3}: then what it does not
            name keeps its rate. Sites are known by the names that `insert` gave them, and by globs on module paths;
            functional dropout by the path of the module in whose forward it stands.
        example_input: what the network runs on once to find its functional dropout, and which of its own layers are
            its sites.

    Returns:
        A change for each dropout that has another rate now.

    Raises:
        DropkitError: if there is nothing of that name, no dropout at all, a rate is not from 0 to 1, or the policy
            names another kind. The network is unchanged then.

    >>> net = nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.5))
    >>> print(*set_rate(net, 0.2))
    1: Dropout(p=0.5, inplace=False) -> Dropout(p=0.2, inplace=False)
    """
    model = unwrapped(model)
    require_module(model)
    one_rate = isinstance(rate_or_policy, Real) and not isinstance(rate_or_policy, bool)
    policy = Policy.of({"*": float(rate_or_policy)} if one_rate else rate_or_policy)
    layers = list(_layers(model, example_input))
    calls = functional_dropout(model, example_input) if example_input is not None else []
    if not layers and not calls:
        raise DropkitError(
            f"{type(model).__name__} has no dropout whose rate could be set: insert some"
            + (
                ", or give an example input, so that functional dropout is seen"
                if example_input is None
                else ". Functional dropout is not called where its rate is 0: build the network with another one"
            )
        )
    chosen: dict[int, tuple[_Layer, Item]] = {}
    wanted: dict[int, tuple[FunctionalDropout, Item]] = {}
    for item in policy.items:
        of_layers = [layer for layer in layers if layer.is_named(item.site)]
        of_calls = [call for call in calls if fnmatchcase(call.module, item.site)]
        if not of_layers and not of_calls:
            raise DropkitError(_nothing_named(item, layers, calls, policy))
        _require_rate_alone(item, policy)
        chosen.update({id(layer): (layer, item) for layer in of_layers})
        wanted.update({id(call): (call, item) for call in of_calls})
    with hosts.all_or_nothing(model):
        changes = [_set_layer(layer, item.rate) for layer, item in chosen.values()]
        changes += [set_call(model, call, item.rate) for call, item in wanted.values()]
    return [change for change in changes if change.before != change.after]


@dataclass(frozen=True)
class _Layer:
    """A layer whose rate can be set, its path, its site's path, and what a policy can call it."""

    path: str
    module: nn.Module
    site: str = ""
    names: frozenset[str] = frozenset()

    def is_named(self, given: str) -> bool:
        """Whether a policy's item names it."""
        return given in self.names or any(fnmatchcase(path, given) for path in (self.path, self.site) if path)

    def __str__(self) -> str:
        return f"{self.path} ({', '.join(sorted(self.names))})" if self.names else self.path


def _layers(model: nn.Module, example_input: Any) -> Iterator[_Layer]:
    """Yield every layer of a network whose rate can be set."""
    found = sites(model, example_input) if example_input is not None or isinstance(model, HasSites) else []
    own = {site.path: site for site in found if site.own}
    for path, module in model.named_modules():
        if rate_attribute(module) is None or isinstance(module, ConcreteDropout):
            continue
        site, called = hosts.site_of_layer(module), hosts.names_of_layer(module)
        if site is None and path in own:
            site, called = own[path], aliases(own[path], found)
        where = "" if site is None else (site.made_by or "") if site.at_input else site.path
        yield _Layer(path, module, where, called)


def _nothing_named(item: Item, layers: list[_Layer], calls: list[FunctionalDropout], policy: Policy) -> str:
    there = [*map(str, layers), *(f"{call.module or 'the network'} ({call.name} in its forward)" for call in calls)]
    return (
        f"policy {policy.text!r}: there is no dropout at {item.site!r}. There is some at "
        f"{', '.join(there[:8])}{', ...' if len(there) > 8 else ''}. insert puts it elsewhere"
    )


def _require_rate_alone(item: Item, policy: Policy) -> None:
    if item.layer is not None or item.argument is not None or item.kind not in ("unit", "sample"):
        raise DropkitError(f"policy {policy.text!r}: set_rate changes rates alone: leave the kind out, or use insert")


def _set_layer(layer: _Layer, rate: float) -> Change:
    before = one_line(layer.module)
    hosts.set_attribute(layer.module, rate_attribute(layer.module) or "p", rate)
    host = layer.path.removesuffix(hosts.SLOT).removesuffix(hosts.INPUT_SLOT).removesuffix(".")
    return Change(host, site_name(layer.module), before, one_line(layer.module))


def set_call(model: nn.Module, call: FunctionalDropout, rate: float) -> Change:
    """Set the rate of a functional dropout: in the attribute that holds it, or wherever the call is met."""
    if call.attribute is not None:
        path, name = call.attribute
        hosts.set_attribute(model.get_submodule(path), name, rate)
    else:
        override(model.get_submodule(call.module), call.rate, rate)
        hosts.forget_compiled()
    return Change(call.module, "", f"{call.name} {call.rate:g}", f"{call.name} {rate:g}")
