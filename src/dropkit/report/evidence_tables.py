"""The tables of the section on evidence: every number of its figures."""

from collections.abc import Mapping, Sequence
from typing import Any

from dropkit.report.numbers import DASH, decimals, finite, whole
from dropkit.report.panels import Table

Row = Mapping[str, Any]
Policies = Sequence[tuple[Row, str]]
"""Each policy's evidence with its colour."""


def layer_names(policies: Policies) -> list[str]:
    """Return the layers that any policy's network has, in execution order."""
    names = (str(layer.get("name")) for policy, _ in policies for layer in policy.get("layers") or ())
    return list(dict.fromkeys(names))


def layer_table(policies: Policies) -> Table:
    """Return every number of the layers: one under the other, the policies of a layer together."""
    head = ["Layer", "Policy", "Rate", "Units", "|r|", "by chance", "Silenced", "Cost", "Zeros", "Mean", "Constant"]
    rows = []
    for name in layer_names(policies):
        for policy, _ in policies:
            layer = next((each for each in policy.get("layers") or () if str(each.get("name")) == name), None)
            if layer is None:
                continue
            figures = layer.get("figures") or {}
            rows.append(
                [
                    name,
                    str(policy.get("name")),
                    decimals(layer.get("rate"), 2),
                    whole(layer.get("units")),
                    *(_number(figures.get(key)) for key in ("correlation", "chance")),
                    *(_share(figures.get(key)) for key in ("silenced", "cost", "zero")),
                    _number(figures.get("mean")),
                    _number(figures.get("constant"), 0),
                ]
            )
    return Table("The layers: every number", head, rows, of_policies=False)


def network_table(policies: Policies) -> Table:
    """Return every number of the networks as a whole."""
    head = [
        "Policy",
        "Runs",
        "Best epoch",
        "Gap",
        "Error",
        "One thinned",
        "Average",
        "Minority",
        "Two differ",
        "Weight norm",
    ]
    rows = [
        [
            str(policy.get("name")),
            whole(policy.get("n")),
            _number(figures.get("best_epoch"), 1),
            _number(figures.get("gap")),
            *(_share(figures.get(key)) for key in ("error", "one", "average", "minority", "pairwise")),
            _number(figures.get("norm"), 2),
        ]
        for policy, _ in policies
        for figures in [policy.get("figures") or {}]
    ]
    return Table("The networks: every number", head, rows, opened=True, of_policies=False)


def _share(figure: Row | None) -> str:
    return _number(figure, 2, scale=100.0, unit="\u00a0%")


def _number(figure: Row | None, places: int = 3, *, scale: float = 1.0, unit: str = "") -> str:
    """Return a mean with its interval: half of its width, or its ends where one was cut at what is possible."""
    mean, low, high = (finite((figure or {}).get(key)) for key in ("mean", "low", "high"))
    if mean is None:
        return DASH
    said = f"{decimals(scale * mean, places)}{unit}"
    if low is None or high is None:
        return said
    above, below = (decimals(scale * width, places) for width in (high - mean, mean - low))
    if above == below:
        return f"{said} ±{above}"
    return f"{said} ({decimals(scale * low, places)} to {decimals(scale * high, places)})"
