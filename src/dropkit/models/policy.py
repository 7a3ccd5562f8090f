"""Policies: which sites of a network drop which units at which rate, and their grammar.

policy = none | model | item,item,...        item = site[@place]=[kind:]rate
site   = role | role[i] (the i-th in execution order) | a glob on module paths
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from dropkit.errors import DropkitError, unknown
from dropkit.layers.channels import Dropout2d
from dropkit.layers.units import Dropout
from dropkit.models.sites import HasSites, Site, attach

ROLES = ("input", "conv", "fc", "head")
KINDS: dict[str, type[nn.Module]] = {"unit": Dropout, "channel": Dropout2d}
_GRAMMAR = "write none, model, or items such as fc=0.5 or conv[0]=channel:0.1, separated by commas"
_ITEM = re.compile(r"(?P<site>[^@=]+)(@(?P<place>[^=]*))?=((?P<kind>[^:]*):)?(?P<rate>.+)")


@dataclass(frozen=True)
class Item:
    """One entry of a policy: `site@place=kind:rate`."""

    site: str
    rate: float
    kind: str = "unit"
    place: str | None = None


@dataclass(frozen=True)
class Policy:
    """A mapping from sites to a layer kind and a rate. A site that it does not name has rate 0.

    Attributes:
        text: the policy as the user wrote it.
        items: its entries; of two that name the same place the later one holds.
        untouched: True for `model`, which leaves the network as it was built.
    """

    text: str
    items: tuple[Item, ...] = ()
    untouched: bool = False

    @staticmethod
    def parse(text: str) -> "Policy":
        """Read a policy.

        Raises:
            DropkitError: if the text does not follow the grammar, or names a rate outside [0, 1].

        Example:
            >>> Policy.parse("conv=channel:0.1,fc=0.5").items  # doctest: +ELLIPSIS
            (Item(site='conv', rate=0.1, kind='channel', place=None), Item(site='fc', ...))
        """
        text = text.strip()
        if text in ("none", "model"):
            return Policy(text, untouched=text == "model")
        return Policy(text, tuple(_parse_item(part.strip(), text) for part in text.split(",")))


def _parse_item(part: str, text: str) -> Item:
    match = _ITEM.fullmatch(part)
    if match is None:
        raise DropkitError(f"policy {text!r}: {part!r} is not of the form site=rate. To mend it, {_GRAMMAR}")
    kind = match["kind"] if match["kind"] is not None else "unit"
    if kind not in KINDS:
        raise unknown(f"kind of dropout in policy {text!r}:", kind, KINDS)
    if match["place"] not in (None, "act"):
        raise unknown(f"place in policy {text!r}:", match["place"], ["act"])
    return Item(match["site"].strip(), _parse_rate(match["rate"], text), kind, match["place"])


def _parse_rate(given: str, text: str) -> float:
    try:
        rate = float(given)
    except ValueError:
        raise DropkitError(f"policy {text!r}: the rate {given!r} is not a number. To mend it, {_GRAMMAR}") from None
    if not 0.0 <= rate <= 1.0:
        raise DropkitError(
            f"policy {text!r}: a rate is the probability that a unit is dropped, from 0 to 1, but got {given}"
        )
    return rate


def apply_policy(model: nn.Module, policy: Policy) -> None:
    """Make `model`, as built, drop exactly what `policy` says.

    Where the network has its own dropout layer at a named site, that layer's rate is set and none is added.

    Raises:
        DropkitError: if an item names no site of the network, or a kind that cannot act there. The network is then
            unchanged.

    Example:
        >>> from dropkit.models.cnn import CNNWithDropout
        >>> net = CNNWithDropout()
        >>> apply_policy(net, Policy.parse("conv=0.1"))
        >>> net.dropout.p, net.pool1.site_dropout.p
        (0.0, 0.1)
    """
    if policy.untouched:
        return
    if not isinstance(model, HasSites):
        raise DropkitError(f"a policy needs a network that lists its dropout sites; {type(model).__name__} does not")
    sites = model.dropout_sites()
    chosen = {place: entry for item in policy.items for place, entry in _places(item, sites, policy.text)}
    layers = {path: KINDS[item.kind](item.rate) for path, (_, item) in chosen.items()}
    for site in sites:
        if site.own and site.path not in chosen:
            _replace(model, site.path, Dropout(0.0))
    for path, (site, _) in chosen.items():
        if site.own:
            _replace(model, path, layers[path])
        else:
            attach(model.get_submodule(path), layers[path], at_input=site.at_input)


def _replace(model: nn.Module, path: str, layer: nn.Module) -> None:
    """Put `layer` where the network's own dropout layer of the same family is, or set that layer's rate."""
    own = model.get_submodule(path)
    if type(own) is type(layer):
        own.p = layer.p
    else:
        model.set_submodule(path, layer)


def _places(item: Item, sites: list[Site], text: str) -> list[tuple[str, tuple[Site, Item]]]:
    """Return (path of the host, (site, item)) for every site that the item names."""
    matched = [site for site in sites if _names(item.site, site, sites)]
    if not matched:
        raise unknown(f"site in policy {text!r}:", item.site, _known_names(sites))
    places = []
    for site in matched:
        if item.kind == "channel" and not site.spatial:
            raise DropkitError(
                f"policy {text!r}: kind 'channel' drops whole feature maps, but {site.name} has none: use kind unit"
            )
        if item.place == "act" and site.act_path is None:
            raise DropkitError(f"policy {text!r}: only conv sites have the place @act, {site.name} has not")
        path = site.act_path if item.place == "act" and site.act_path is not None else site.path
        places.append((path, (site, item)))
    return places


def _names(given: str, site: Site, sites: list[Site]) -> bool:
    """Whether `given` names `site`: by role, by role and index, as an alias, or by a glob on its path."""
    hidden = [other for other in sites if other.role == "fc"]
    aliases = {site.role, site.name, f"{site.role}[{site.index}]"}
    if site.role == "head" and not hidden:
        aliases.add("fc")  # a network without a hidden fully connected layer
    if hidden and site is hidden[-1]:
        aliases.add("head")  # the last hidden layer's output enters the classifier
    return given in aliases or (not site.at_input and fnmatchcase(site.path, given))


def _known_names(sites: list[Site]) -> list[str]:
    roles = [role for role in ROLES if any(_names(role, site, sites) for site in sites)]
    indexed = [site.name for site in sites if site.name not in roles]
    return roles + indexed + [f"{site.path} (a module path)" for site in sites if not site.at_input]
