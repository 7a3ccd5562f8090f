"""Which places of a network a policy names, and whether its kinds of dropout can act there."""

import re
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase

from torch import nn

from dropkit.errors import DropkitError, unknown
from dropkit.layers.paths import linear_rates
from dropkit.models.kinds import KINDS, Kind
from dropkit.models.own import is_dropout
from dropkit.models.policy import ROLES, Item, Policy
from dropkit.models.sites import Site

SHOWN_NAMES = 16  # of the sites that a message lists

Place = tuple[str, str]  # path of a module, and what of it: its weights, its input, its output, or its own dropout


def chosen_places(policy: Policy, sites: list[Site] | None, model: nn.Module) -> dict[Place, tuple[Site, Item]]:
    """Return what a policy puts where; of two items that name the same place the later one holds.

    Args:
        policy: what to put.
        sites: the network's; None where it never ran.
        model: the network.

    Raises:
        DropkitError: if an item names no place, or a kind that cannot act there.
    """
    return {place: entry for item in policy.items for place, entry in _places(item, sites, model, policy.text)}


def _places(item: Item, sites: list[Site] | None, model: nn.Module, text: str) -> list[tuple[Place, tuple[Site, Item]]]:
    """Return (place, (site, item)) for every site that the item names."""
    matched = [site for site in sites or [] if names(item.site, site, sites or [])]
    if not matched and not _is_role(item.site):
        matched = list(_modules_as_sites(item, model))
    if not matched:
        raise _no_site(item, sites, text)
    if not _is_role(item.site) and item.layer is None:
        # A glob names what its kind can act on: branches, or everything else.
        path = KINDS[item.kind].path
        matched = [site for site in matched if site.role == "module" or (site.role == "path") == path] or matched
    if item.layer is None:
        for site in matched:
            _require(KINDS[item.kind], item, site, text)
    if item.layer is None and KINDS[item.kind].deeper:
        items = [replace(item, rate=rate) for rate in linear_rates(item.rate, len(matched))]
    else:
        items = [item] * len(matched)
    return [(_place(item, site), (site, one)) for site, one in zip(matched, items, strict=True)]


def _is_role(given: str) -> bool:
    """Whether an item names a role, or a role with an index, which is then no glob: conv[1] is not conv1."""
    return re.fullmatch(rf"({'|'.join(ROLES)})(\[.*\])?", given) is not None


def _no_site(item: Item, sites: list[Site] | None, text: str) -> DropkitError:
    if sites is None and _is_role(item.site):
        return DropkitError(
            f"policy {text!r}: to find the sites of role {item.site!r} the network has to run once: give an example "
            "input, such as insert(model, policy, torch.zeros(2, 3, 224, 224)), or name modules by their paths"
        )
    if not sites and _is_role(item.site):
        return DropkitError(
            f"policy {text!r}: the network has no site of role {item.site!r}, nor of another one: none of its modules "
            "returns, or reads first, what weights read. Name modules by their paths, as named_modules() lists them"
        )
    return unknown(f"site in policy {text!r}:", item.site, _known_names(sites or []) or ["paths of its modules"])


def _modules_as_sites(item: Item, model: nn.Module) -> Iterator[Site]:
    """Yield a site for every module that a pattern names by its path: its output, or its own dropout."""
    weights = item.layer is None and KINDS[item.kind].weights
    for path, module in model.named_modules():
        if not path or not fnmatchcase(path, item.site) or not _computes(module):
            continue
        if weights and not hasattr(module, "weight") and item.site != path:
            continue  # of all that a glob matches, layers with weights can drop them
        last, giving = _last_child(model, path, module)
        yield Site("module", 0, last, own=is_dropout(giving), spatial=True, made_by=path)


def _computes(module: nn.Module) -> bool:
    """Whether a module is one that is called: a ModuleList only holds others."""
    empty = isinstance(module, nn.Sequential) and not len(module)
    return type(module).forward is not nn.Module.forward and not empty


def _last_child(model: nn.Module, path: str, module: nn.Module) -> tuple[str, nn.Module]:
    """Return what gives a module's output: a Sequential would run whatever hangs on it as one of its own.

    Raises:
        DropkitError: if that gives other modules' outputs as well.
    """
    given = path
    while type(module).forward is nn.Sequential.forward and isinstance(module, nn.Sequential) and len(module):
        name, module = list(module._modules.items())[-1]
        path = f"{path}.{name}"
        if sum(other is module for _, other in model.named_modules(remove_duplicate=False)) > 1:
            raise DropkitError(
                f"the output of {given!r} is that of its last layer, {path!r}, which the network uses at other places "
                "too, where it would drop as well: give each place a layer of its own, or name the site by its role"
            )
    return path, module


def _place(item: Item, site: Site) -> Place:
    if item.layer is None and KINDS[item.kind].weights and site.made_by is not None:
        return site.made_by, "weights"
    if item.place == "act" and site.act_path is not None:
        return site.act_path, "output"
    return site.path, "own" if site.own else "input" if site.at_input else "output"


def _require(kind: Kind, item: Item, site: Site, text: str) -> None:
    """Raise if a kind of dropout cannot act at a site."""
    start, called = f"policy {text!r}: kind {item.kind!r} ", site.path if site.role == "module" else site.name
    if kind.maps and not site.spatial:
        raise DropkitError(f"{start}drops {kind.drops}, but {called} has none: use kind unit")
    if kind.weights and site.made_by is None:
        raise DropkitError(f"{start}drops weights, but no layer of the network makes the {called}: use another kind")
    if kind.learned and site.read_by is None:
        raise DropkitError(f"{start}learns the rate of a hidden activation, and {called} is none: use another kind")
    if kind.path != (site.role == "path") and site.role != "module":
        raise DropkitError(
            f"{start}acts on {'residual branches alone' if kind.path else 'no residual branch'}, but {called} is "
            f"{'none' if kind.path else 'one: use kind sample'}"
        )
    if item.place == "act" and kind.weights:
        raise DropkitError(f"{start}drops weights, which have no place @act: leave it out")
    if item.place == "act" and site.act_path is None:
        if site.role == "conv":
            raise DropkitError(
                f"policy {text!r}: no module of its own returns the activation of {called}: leave out @act"
            )
        raise DropkitError(f"policy {text!r}: only conv sites have the place @act, {called} has not")


def names(given: str, site: Site, sites: list[Site]) -> bool:
    """Whether `given` names `site`: by role, by role and index, as an alias, or by a glob on its path.

    The path of a site at an input is that of the layer whose output is read there.
    """
    path = _path(site)
    return given in aliases(site, sites) or (not _is_role(given) and path is not None and fnmatchcase(path, given))


def aliases(site: Site, sites: list[Site]) -> frozenset[str]:
    """Return what a policy can call one of a network's sites by role."""
    if site.role not in ROLES:
        return frozenset()
    hidden = [other for other in sites if other.role == "fc"]
    found = {site.role, site.name, f"{site.role}[{site.index}]"}
    if site.role == "head" and not hidden:
        found.add("fc")  # a network without a hidden fully connected layer
    if not any(other.role == "head" for other in sites):
        # The last hidden layer's output enters the classifier; or, without one, the last maps do.
        maps = [other for other in sites if other.role == "conv"]
        if site in (hidden or maps)[-1:]:
            found |= {"head"} if hidden else {"head", "fc"}
    return frozenset(found)


def _path(site: Site) -> str | None:
    """Return the path by which a policy can name a site."""
    return site.made_by if site.at_input else site.path


def _known_names(sites: list[Site]) -> list[str]:
    roles = [role for role in ROLES if any(names(role, site, sites) for site in sites)]
    indexed = [site.name for site in sites if site.name not in roles]
    paths = [f"{path} (a module path)" for path in map(_path, sites) if path is not None]
    known = roles + indexed + paths
    return (
        known if len(known) <= 2 * SHOWN_NAMES else [*(roles + indexed)[:SHOWN_NAMES], "... (dropkit.sites lists all)"]
    )
