"""The gallery of predictions: the pictures from the surest to the least sure, as the page's template takes them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dropkit.report import numbers
from dropkit.report.facts import text
from dropkit.report.images import Png, read_png
from dropkit.report.numbers import decimals, finite, plural, whole


@dataclass(frozen=True)
class Card:
    """A picture and what was predicted, every number already text."""

    image: Png | None
    picture: str
    label: str
    probability: str
    between: str
    """The interval in words; empty where there is none."""
    mark: float
    """Where on the bar the probability is, percent from the left."""
    span: tuple[float, float] | None
    """Where the interval begins and how wide it is, percent."""
    figures: str
    described: str


@dataclass(frozen=True)
class Gallery:
    """A titled list of cards."""

    id: str
    title: str
    cards: Sequence[Card]


def predictions_view(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of the gallery's template."""
    samples = record.get("samples") or 0
    counts = record.get("classes") or {}
    network = record.get("network") or {}
    return {
        "title": f"{plural(record.get('read') or 0, 'prediction')} for {text(network.get('data'))}",
        "version": text(record.get("dropkit")),
        "command": str(record.get("command") or ""),
        "took": numbers.duration(record.get("seconds")),
        "groups": [
            ("Pictures", _picture_facts(record)),
            ("Network", [(str(key), text(value)) for key, value in network.items()]),
        ],
        "blocks": (),
        "kicker": text(network.get("data")),
        "answer": _answer(record),
        "policy": text(network.get("policy")),
        "samples": whole(samples) if samples else "",
        "most": f"{math.log(record['of_classes']):.2f}" if record.get("of_classes") else "",
        "level": numbers.percent(record.get("level"), 0),
        "classes": [(str(name), whole(count)) for name, count in counts.items()],
        "galleries": _galleries(record),
        "cut": _cut(record),
        "errors": _errors(record),
    }


def _answer(record: Mapping[str, Any]) -> str:
    read, counts = record.get("read") or 0, record.get("classes") or {}
    said = f"{plural(read, 'picture')}, from the surest to the least sure"
    return said if read and counts else "No picture could be read."


def _picture_facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    counts, seed = record.get("classes") or {}, record.get("seed")
    return [
        ("read", whole(record.get("read"))),
        ("not readable", whole(record.get("errors"))),
        ("answers", ", ".join(f"{name}: {whole(count)}" for name, count in counts.items()) or numbers.DASH),
        *([] if seed is None else [("seed of the masks", str(seed))]),
    ]


def _cut(record: Mapping[str, Any]) -> str:
    """Say how many are left out of the page where there are more than it shows."""
    surest, unsure = (len(record.get(key) or ()) for key in ("surest", "unsure"))
    if not unsure:
        return ""
    return (
        f"Shown are the {whole(surest)} surest and the {whole(unsure)} least sure of "
        f"{plural(record['read'], 'picture')}; dropkit predict --csv or --json has a row for each."
    )


def _errors(record: Mapping[str, Any]) -> str:
    count = record.get("errors") or 0
    return f"{plural(count, 'file')} could not be read as {'a picture' if count == 1 else 'pictures'}." if count else ""


def _galleries(record: Mapping[str, Any]) -> list[Gallery]:
    surest, unsure = ([_card(row) for row in record.get(key) or ()] for key in ("surest", "unsure"))
    if not unsure:
        return [Gallery("all", "All pictures, the surest first", surest)] if surest else []
    return [
        Gallery("surest", f"The {whole(len(surest))} surest, the surest first", surest),
        Gallery("unsure", f"The {whole(len(unsure))} least sure, the least sure last", unsure),
    ]


def _card(row: Mapping[str, Any]) -> Card:
    probability = finite(row.get("probability")) or 0.0
    low, high = (finite(end) for end in row.get("interval") or (None, None))
    figures = [f"entropy\u00a0{decimals(row.get('entropy'), 2)}"]
    between, span = "", None
    if low is not None and high is not None:
        between = f"{decimals(100 * low, 1)} to {decimals(100 * high, 1)}\u00a0%"
        span = (_place(low), round(max(_place(high) - _place(low), 0.0), 1))
        more = (("m.\u00a0i.", "mutual_information"), ("std", "std"))
        figures += [f"{word}\u00a0{decimals(row.get(key), 2)}" for word, key in more]
    name, label = str(row.get("picture", "")), str(row.get("class", ""))
    return Card(
        image=read_png(row.get("image")),
        picture=name,
        label=label,
        probability=_share(probability),
        between=between,
        mark=_place(probability),
        span=span,
        figures=", ".join(figures),
        described=f"probability {_share(probability)}" + (f", interval {between}" if between else ""),
    )


def _share(value: float) -> str:
    """A probability as percent that never claims to be certain where it is not."""
    if 0.9995 <= value < 1:
        return "> 99.9\u00a0%"
    if 0 < value < 0.0005:
        return "< 0.1\u00a0%"
    return numbers.percent(value, 1)


def _place(value: float) -> float:
    return round(100 * min(max(value, 0.0), 1.0), 1)
