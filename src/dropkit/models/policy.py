"""Policies: which sites of a network drop which units at which rate, and their grammar.

policy = none | model | item,item,...        item = site[@place]=[kind:]rate[/argument]
site   = role | role[i] (the i-th in execution order) | a glob on module paths
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from dropkit.errors import DropkitError, unknown
from dropkit.models.kinds import KINDS

ROLES = ("input", "conv", "fc", "head", "path")
_GRAMMAR = "write none, model, or items such as fc=0.5 or conv[0]=dropblock:0.1/7, separated by commas"
_ITEM = re.compile(r"(?P<site>[^@=]+)(@(?P<place>[^=]*))?=((?P<kind>[^:]*):)?(?P<rate>[^/]+)(/(?P<argument>.*))?")


@dataclass(frozen=True)
class Item:
    """One entry of a policy: `site@place=kind:rate/argument`, or a layer, of which each place gets a copy."""

    site: str
    rate: float
    kind: str = "unit"
    place: str | None = None
    argument: int | None = None
    layer: nn.Module | None = None


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
            (Item(site='conv', rate=0.1, kind='channel', ...), Item(site='fc', ...))
        """
        text = text.strip()
        if text in ("none", "model"):
            return Policy(text, untouched=text == "model")
        return Policy(text, tuple(_parse_item(part.strip(), text) for part in text.split(",")))

    @staticmethod
    def of(given: Any) -> "Policy":
        """Return a policy, given as one, as text, or as a mapping from sites to rates or layers.

        Raises:
            DropkitError: if it is none of these, or as `parse` does.

        Example:
            >>> Policy.of({"fc": 0.5, "conv": "channel:0.1"}).text
            'fc=0.5,conv=channel:0.1'
        """
        if isinstance(given, Policy):
            return given
        if isinstance(given, str):
            return Policy.parse(given)
        if not isinstance(given, Mapping) or not given:
            raise DropkitError(
                "a policy is a text such as 'conv=0.1,fc=0.5' or a mapping such as {'fc': 0.5}, but got "
                f"{f'a {type(given).__name__}' if isinstance(given, Tensor | nn.Module) else repr(given)}"
            )
        items = tuple(_item_of(site, value) for site, value in given.items())
        return Policy(",".join(f"{site}={_shown(value)}" for site, value in given.items()), items)


def _item_of(site: Any, value: Any) -> Item:
    text = f"{site}={_shown(value)}"
    if isinstance(value, nn.Module):
        place = _parse_item(f"{site}=0", text)
        return Item(place.site, float(getattr(value, "p", 0.0)), place=place.place, layer=value)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise DropkitError(
            f"policy {text!r}: a site maps to a rate, a text such as 'channel:0.1' or a layer, but got {value!r}"
        )
    return _parse_item(text, text)


def _shown(value: Any) -> str:
    return type(value).__name__ if isinstance(value, nn.Module) else str(value)


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
