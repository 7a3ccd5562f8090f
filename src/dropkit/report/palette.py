"""Colours that colour-blind readers can tell apart, on white and on near-black."""

from collections.abc import Mapping
from typing import Any

BASELINE = "#767b82"
"""The first policy: what the others are measured against."""

# Okabe and Ito, "Color universal design" (2008), without its black (here the baseline's grey); its yellow,
# faint on white, comes last.
_OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")

# An order that can be seen: the rates of a sweep, from a low one to a high one.
_SWEEP = ("#0072B2", "#2A9D8F", "#E69F00", "#C4451C")

INK = "#6b7077"
"""Text and axes inside a figure: readable on both backgrounds, also in a saved picture."""

GRID = "rgba(128, 134, 142, 0.22)"
STRIPE = "rgba(128, 134, 142, 0.07)"
BETTER = "rgba(0, 158, 115, 0.07)"
OVERFIT, UNDERFIT = "rgba(213, 94, 0, 0.06)", "rgba(0, 114, 178, 0.06)"

RIGHT, WRONG = "#0072B2", "#D55E00"
"""Answers that are right and answers that are wrong, wherever no policy is meant."""


def colour(index: int) -> str:
    """Return the colour of the policy at `index`; from the eighth on they repeat."""
    return BASELINE if index == 0 else _OKABE_ITO[(index - 1) % len(_OKABE_ITO)]


def policy_colours(record: Mapping[str, Any]) -> list[str]:
    """Return the colours of a record's policies, in their order: a sweep's go with the rate, from blue to rust."""
    policies = record.get("policies") or ()
    if not record.get("sweep"):
        return [colour(index) for index in range(len(policies))]
    return [BASELINE, *(_along(index / max(len(policies) - 2, 1)) for index in range(len(policies) - 1))]


def _along(share: float) -> str:
    """The colour at a share, 0 to 1, of the way along the sweep's colours."""
    place = share * (len(_SWEEP) - 1)
    first = min(int(place), len(_SWEEP) - 2)
    low, high = (_channels(colour) for colour in _SWEEP[first : first + 2])
    mixed = (round(a + (place - first) * (b - a)) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{channel:02X}" for channel in mixed)


def _channels(hex_colour: str) -> tuple[int, ...]:
    return tuple(int(hex_colour[i : i + 2], 16) for i in (1, 3, 5))


def faint(hex_colour: str, alpha: float = 0.28) -> str:
    """Return the colour as CSS rgba with the given opacity.

    >>> faint("#0072B2", 0.5)
    'rgba(0, 114, 178, 0.5)'
    """
    red, green, blue = _channels(hex_colour)
    return f"rgba({red}, {green}, {blue}, {alpha})"
