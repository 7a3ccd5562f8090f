"""Colours that colour-blind readers can tell apart, on white and on near-black."""

BASELINE = "#767b82"
"""The first policy: what the others are measured against."""

# Okabe and Ito, "Color universal design" (2008), without its black (here the baseline's grey); its yellow,
# faint on white, comes last.
_OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")

INK = "#6b7077"
"""Text and axes inside a figure: readable on both backgrounds, also in a saved picture."""

GRID = "rgba(128, 134, 142, 0.22)"
BETTER = "rgba(0, 158, 115, 0.07)"


def colour(index: int) -> str:
    """Return the colour of the policy at `index`; from the eighth on they repeat."""
    return BASELINE if index == 0 else _OKABE_ITO[(index - 1) % len(_OKABE_ITO)]


def faint(hex_colour: str, alpha: float = 0.28) -> str:
    """Return the colour as CSS rgba with the given opacity.

    >>> faint("#0072B2", 0.5)
    'rgba(0, 114, 178, 0.5)'
    """
    red, green, blue = (int(hex_colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha})"
