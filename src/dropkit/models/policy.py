"""Policies: which sites of a network drop which units at which rate, and their grammar.

policy = none | model | item,item,...        item = site[@place]=[kind:]rate[/argument]
site   = role | role[i] (the i-th in execution order) | a glob on module paths
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from dropkit.errors import DropkitError, unknown
from dropkit.layers.base import DropLayer
from dropkit.layers.paths import Residual
from dropkit.layers.units import Dropout
from dropkit.models.kinds import KINDS, Kind
from dropkit.models.sites import HasSites, Site, attach

ROLES = ("input", "conv", "fc", "head", "path")
_GRAMMAR = "write none, model, or items such as fc=0.5 or conv[0]=dropblock:0.1/7, separated by commas"
_ITEM = re.compile(r"(?P<site>[^@=]+)(@(?P<place>[^=]*))?=((?P<kind>[^:]*):)?(?P<rate>[^/]+)(/(?P<argument>.*))?")


@dataclass(frozen=True)
class Item:
    """One entry of a policy: `site@place=kind:rate/argument`."""

    site: str
    rate: float
    kind: str = "unit"
    place: str | None = None
    argument: int | None = None


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
            (Item(site='conv', rate=0.1, kind='channel', place=None, argument=None), Item(site='fc', ...))
        """
        text = text.strip()
        if text in ("none", "model"):
            return Policy(text, untouched=text == "model")
        return Policy(text, tuple(_parse_item(part.strip(), text) for part in text.split(",")))


def _parse_item(part: str, text: str) -> Item:
    match = _ITEM.fullmatch(part)
    if match is None:
        raise DropkitError(f"policy {text!r}: {part!r} is not of the form site=rate. To mend it, {_GRAMMAR}")
    site = match["site"].strip()
    kind = match["kind"].strip() if match["kind"] is not None else "sample" if _role(site) == "path" else "unit"
    if kind not in KINDS:
        raise unknown(f"kind of dropout in policy {text!r}:", kind, KINDS)
    if match["place"] not in (None, "act"):
        raise unknown(f"place in policy {text!r}:", match["place"], ["act"])
    rate = _parse_rate(match["rate"], text)
    if rate in (KINDS[kind].least, KINDS[kind].most):
        side = "below" if rate else "above"
        raise DropkitError(f"policy {text!r}: the rate of kind {kind} has to be {side} {rate:g}")
    return Item(site, rate, kind, match["place"], _parse_argument(match["argument"], kind, text))


def _role(site: str) -> str:
    return site.partition("[")[0]


def _parse_argument(given: str | None, kind: str, text: str) -> int | None:
    meaning = KINDS[kind].argument
    if given is None:
        return None
    if meaning is None:
        raise DropkitError(f"policy {text!r}: kind {kind} takes no number after its rate, but got /{given}")
    if not (given.isascii() and given.isdigit()) or int(given) < 1:
        raise DropkitError(f"policy {text!r}: the number after the rate is {meaning}, 1 or more, but got {given!r}")
    return int(given)


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
    layers = _make_layers(model, chosen)
    for site in sites:
        if site.own and (site.path, "own") not in chosen:
            _set_own(model, site.path, Dropout(0.0))
    # First the weights: what is hung on a layer below has to hang on the one that stays.
    for (path, place), layer in sorted(layers.items(), key=lambda entry: entry[0][1] != "weights"):
        if place == "weights":
            model.set_submodule(path, layer)
        elif place == "own":
            _set_own(model, path, layer)
        else:
            attach(model.get_submodule(path), layer, at_input=place == "input")


Place = tuple[str, str]  # path of a module, and what of it: its weights, its input, its output, or its own dropout


def _make_layers(model: nn.Module, chosen: dict[Place, tuple[Site, Item]]) -> dict[Place, DropLayer]:
    """Return the layers to install. Those that drop weights come first: others may have to know them."""
    layers: dict[Place, DropLayer] = {}

    def at(path: str) -> nn.Module:
        return layers.get((path, "weights")) or model.get_submodule(path)

    for place, (site, item) in sorted(chosen.items(), key=lambda entry: entry[0][1] != "weights"):
        layers[place] = KINDS[item.kind].make(at, site, item.rate, item.argument)
    return layers


def _set_own(model: nn.Module, path: str, layer: DropLayer) -> None:
    """Set the rate of the network's own dropout layer, or put another kind of layer there."""
    own = model.get_submodule(path)
    if isinstance(own, Residual) or type(own) is type(layer) is Dropout:
        own.p = layer.p
    else:
        model.set_submodule(path, layer)


def _places(item: Item, sites: list[Site], text: str) -> list[tuple[Place, tuple[Site, Item]]]:
    """Return (place, (site, item)) for every site that the item names."""
    matched = [site for site in sites if _names(item.site, site, sites)]
    if not matched:
        raise unknown(f"site in policy {text!r}:", item.site, _known_names(sites))
    for site in matched:
        _require(KINDS[item.kind], item, site, text)
    return [(_place(item, site), (site, item)) for site in matched]


def _place(item: Item, site: Site) -> Place:
    if KINDS[item.kind].weights and site.made_by is not None:
        return site.made_by, "weights"
    if item.place == "act" and site.act_path is not None:
        return site.act_path, "output"
    return site.path, "own" if site.own else "input" if site.at_input else "output"


def _require(kind: Kind, item: Item, site: Site, text: str) -> None:
    """Raise if a kind of dropout cannot act at a site."""
    start = f"policy {text!r}: kind {item.kind!r} "
    if kind.maps and not site.spatial:
        raise DropkitError(f"{start}drops {kind.drops}, but {site.name} has none: use kind unit")
    if kind.weights and site.made_by is None:
        raise DropkitError(f"{start}drops weights, but no layer of the network makes the {site.name}: use another kind")
    if kind.learned and site.read_by is None:
        raise DropkitError(f"{start}learns the rate of a hidden activation, and {site.name} is none: use another kind")
    if kind.path != (site.role == "path"):
        raise DropkitError(
            f"{start}acts on {'residual branches alone' if kind.path else 'no residual branch'}, but {site.name} is "
            f"{'none' if kind.path else 'one: use kind sample'}"
        )
    if item.place == "act" and kind.weights:
        raise DropkitError(f"{start}drops weights, which have no place @act: leave it out")
    if item.place == "act" and site.act_path is None:
        raise DropkitError(f"policy {text!r}: only conv sites have the place @act, {site.name} has not")


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
