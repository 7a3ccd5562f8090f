"""The section on the first layer: its weights as pictures."""

from collections.abc import Mapping
from typing import Any

from dropkit.report.details import Details, PolicyDetails
from dropkit.report.images import read_png
from dropkit.report.numbers import finite, whole
from dropkit.report.panels import Block, Image, Pane

POLICIES = 4
WIDTH = 340
"""Pixels that a grid of filters may take on the page."""


def filters_block(details: Details) -> Block | None:
    """Return the first layer's filters of each policy; None where no policy has any."""
    images = [image for policy in details.shown(POLICIES) if (image := _image(policy)) is not None]
    if not images:
        return None
    first = next(policy.filters for policy in details.policies if policy.filters)
    shape = filter_shape(first)
    return Block(
        id="filters",
        nav="Filters",
        title=" ".join(filter(None, ("First-layer filters:", str(first.get("layer") or ""), shape))),
        meaning="What the network looks for first: one small square a filter, one pixel a weight. Clear edges, spots "
        "and colours are patterns it has learned; squares that look like noise found little use.",
        panes=[Pane(images=images)],
        notes=[
            "n = 1 run a policy. Grey is a weight of zero, black and white are each filter's largest weights.",
            "Filters of different policies or seeds do not correspond to each other.",
        ],
    )


def filter_shape(filters: Mapping[str, Any]) -> str:
    """Return the weights' shape in words.

    >>> filter_shape({"shape": [32, 1, 3, 3]})
    '(32 filters, 3 × 3 pixels, 1 channel)'
    """
    shape = [int(size) for size in filters.get("shape") or () if finite(size) is not None]
    if len(shape) != 4:
        return ""
    count, channels, height, width = shape
    return f"({whole(count)} filters, {height} × {width} pixels, {channels} channel{'' if channels == 1 else 's'})"


def _image(policy: PolicyDetails) -> Image | None:
    filters = policy.filters or {}
    png = read_png(filters.get("image"))
    if png is None:
        return None
    seed, shown, shape = filters.get("seed"), filters.get("shown"), filters.get("shape") or [None]
    notes = [f"seed {seed}"] if seed is not None else []
    if shown is not None and shown != shape[0]:
        notes.append(f"{whole(shown)} of {whole(shape[0])} filters")
    return Image(
        image=png,
        alt=f"The first layer's filters of {policy.name}",
        width=png.width * png.scale_to(WIDTH),
        title=policy.name,
        colour=policy.colour,
        note=", ".join(notes),
    )
