"""The section on what dropout does inside a network: claims, and the figures and numbers behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from dropkit.report.evidence_figures import (
    Series,
    Spread,
    quantile_figure,
    side_by_side,
    spread_figure,
    unit_means,
)
from dropkit.report.evidence_tables import Policies, Row, layer_names, layer_table, network_table
from dropkit.report.numbers import finite, plural, whole
from dropkit.report.palette import BASELINE, colour, policy_colours
from dropkit.report.panels import Block, Pane, Panel, Table

JUDGED = {"shown": "shown", "not shown": "not shown", "opposite": "the opposite"}
CHIPS = {**JUDGED, "undertrained": "not judged"}
CLASSES = {"shown": "shown", "not shown": "open", "opposite": "opposite"}
DRAWN_LAYERS, DRAWN_POLICIES, DRAWN_WEIGHTS = 3, 4, 16


@dataclass(frozen=True)
class Said:
    """What is said of a claim: whether it is shown, the claim, the numbers."""

    kind: str
    word: str
    head: str
    told: str


@dataclass(frozen=True)
class EvidenceBlock(Block):
    """A section with what is said of each claim, and a second table."""

    claims: Sequence[tuple[str, str, Sequence[Said]]] = ()
    """Name and colour of each policy, and what is said of its claims."""
    networks: Table | None = None


def evidence_block(record: Row) -> Block | None:
    """Return what `dropkit evidence` measured of a run or a study; None where it has not."""
    values = record.get("evidence") or {}
    policies = _coloured(values.get("policies") or (), record)
    if not policies:
        return None
    panes = [_adaptation(policies), _sparsity(policies), _ensemble(policies), _weights(policies)]
    return EvidenceBlock(
        id="evidence",
        nav="Inside",
        title="What dropout does inside",
        finding=_finding(values, policies),
        meaning="Dropout is said to keep units from relying on one another (co-adaptation), to make their activations "
        "sparse, and to train an ensemble of thinned networks. Each is measured here on this network, in eval mode on "
        "test pictures; a site's units are its channels or features.",
        panes=[pane for pane in panes if pane is not None],
        legend="policies" if len(policies) > 1 else "",
        named=[(str(policy.get("name")), shade) for policy, shade in policies],
        table=layer_table(policies),
        notes=_notes(values, policies),
        claims=_claims(policies),
        networks=network_table(policies),
    )


def _coloured(rows: Sequence[Row], record: Row) -> Policies:
    """Return the policies with the colours that they have elsewhere on the page."""
    names = [str(policy.get("name", "")) for policy in record.get("policies") or ()]
    known = dict(zip(names, policy_colours(record), strict=True))
    if not known:  # a run's page: the run is blue, as in its curves
        return list(zip(rows, [colour(1)] if len(rows) == 1 else [BASELINE, colour(1)], strict=False))
    return [(row, known.get(str(row.get("name")), colour(place))) for place, row in enumerate(rows)]


def _finding(values: Row, policies: Policies) -> str:
    told = [
        f"{policy.get('name')}: {_counted(kinds)}"
        for policy, _ in policies
        if (kinds := [claim.get("kind") for claim in policy.get("claims") or () if claim.get("kind") in JUDGED])
    ]
    if told:
        return f"{'; '.join(told)}."
    if any(claim.get("kind") == "undertrained" for policy, _ in policies for claim in policy.get("claims") or ()):
        return "Nothing is judged: the study finds its policies not trained long enough. Train for more epochs."
    if max((policy.get("n") or 0) for policy, _ in policies) > 1:
        return "Here are the numbers; a policy without dropout, or one with it, is missing to judge claims by."
    if len(policies) > 1 or any(policy.get("claims") for policy, _ in policies):
        return (
            "One run each: here are the numbers, but one seed proves nothing. A study of several seeds can judge them."
        )
    return "These are the numbers of one network without dropout. Beside one with dropout they say more: --against."


def _counted(kinds: Sequence[Any]) -> str:
    """Say how many claims are shown.

    >>> _counted(["shown", "shown", "opposite"])
    '2 of 3 claims are shown, of 1 the opposite is'
    >>> _counted(["shown", "not shown"])
    '1 of 2 claims is shown, 1 is not'
    """
    shown, opposite = kinds.count("shown"), kinds.count("opposite")
    left = len(kinds) - shown - opposite
    parts = [f"{shown} of {plural(len(kinds), 'claim')} {_is(shown)} shown"]
    parts += [f"{left} {_is(left)} not"] if left else []
    parts += [f"of {opposite} the opposite is"] if opposite else []
    return ", ".join(parts)


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _claims(policies: Policies) -> list[tuple[str, str, list[Said]]]:
    return [
        (
            str(policy.get("name")),
            shade,
            [
                Said(CLASSES.get(kind, "open"), CHIPS.get(kind, ""), _upper(claim.get("head")), str(claim.get("told")))
                for claim in policy["claims"]
                if (kind := str(claim.get("kind")))
            ],
        )
        for policy, shade in policies
        if policy.get("claims")
    ]


def _upper(words: Any) -> str:
    return f"{str(words)[:1].upper()}{str(words)[1:]}."


def _notes(values: Row, policies: Policies) -> list[str]:
    runs = ", ".join(f"{policy.get('name')} {whole(policy.get('n'))}" for policy, _ in policies)
    notes = [
        f"{_measured_on(values)}; runs: {runs}. Of each "
        f"layer {whole(values.get('halves'))} random halves of the units were silenced, one after the other, and the "
        f"others scaled up as dropout does it; {whole(values.get('draws'))} thinned networks were drawn."
    ]
    if any((policy.get("n") or 0) > 1 for policy, _ in policies):
        notes.append(
            "Bars are 95\u00a0% intervals (Student's t over runs), each for itself: of twenty such, one is wrong."
        )
    if any(not layer.get("rectified") for policy, _ in policies for layer in policy.get("layers") or ()):
        notes.append(
            "Where activations are negative, too, 0 has no meaning of its own, and no share of zeros is given."
        )
    return [*notes, *_remarks(policies)]


def _measured_on(values: Row) -> str:
    taken, there = values.get("pictures") or 0, values.get("of") or 0
    return (
        f"All {plural(taken, 'test picture')}" if taken == there else f"{whole(taken)} of {whole(there)} test pictures"
    )


def _remarks(policies: Policies) -> list[str]:
    """Return what has to be known of policies, each remark once with all policies that it is about."""
    about: dict[str, list[str]] = {}
    for policy, _ in policies:
        said = [str(note) for note in policy.get("notes") or ()]
        if policy.get("no_disagreement"):
            said.insert(0, f"no thinned networks, because {policy['no_disagreement']}")
        if policy.get("left_out"):
            said.append(f"not measured, to keep it short: {', '.join(policy['left_out'])}")
        for words in said:
            about.setdefault(words.rstrip("."), []).append(str(policy.get("name")))
    return [f"{' and '.join(names)}: {words}." for words, names in about.items()]


# --------------------------------------------------------------- co-adaptation


def _adaptation(policies: Policies) -> Pane | None:
    layers = layer_names(policies)
    if not layers:
        return None
    errors = {str(policy.get("name")): _mean(policy, "error") for policy, _ in policies}
    related = [_series(policy, shade, "correlation", _by_layer(policy, "chance")) for policy, shade in policies]
    silent = [
        _series(policy, shade, "silenced", dict.fromkeys(layers, errors[str(policy.get("name"))]))
        for policy, shade in policies
    ]
    panels = [
        Panel(
            id="evidence-correlation",
            figure=side_by_side(related, layers, title="mean |correlation| of two units", mark="by chance"),
            title="How much units do the same",
            caption="Dashes: what shuffled pictures leave, so what chance and the layout of maps give.",
            description="The mean absolute correlation between units of each layer, for each policy, beside chance",
        ),
        Panel(
            id="evidence-silenced",
            figure=side_by_side(silent, layers, title="error (%)", scale=100, mark="with all units"),
            title="Error with a random half of the units silenced",
            caption="Dashes: the error with all units. The further above, the more units need one another.",
            description="The error with a random half of each layer's units silenced, for each policy",
        ),
    ]
    return Pane(id="evidence-adaptation", tab="Co-adaptation", panels=panels, columns=2)


def _series(policy: Row, shade: str, key: str, marks: Mapping[str, float | None]) -> Series:
    points = {
        str(layer.get("name")): figure
        for layer in policy.get("layers") or ()
        if (figure := (layer.get("figures") or {}).get(key))
    }
    return Series(str(policy.get("name")), shade, points, {name: marks.get(name) for name in points})


def _by_layer(policy: Row, key: str) -> dict[str, float | None]:
    return {
        str(layer.get("name")): finite(((layer.get("figures") or {}).get(key) or {}).get("mean"))
        for layer in policy.get("layers") or ()
    }


def _mean(policy: Row, key: str) -> float | None:
    return finite(((policy.get("figures") or {}).get(key) or {}).get("mean"))


# -------------------------------------------------------------------- sparsity


def _sparsity(policies: Policies) -> Pane | None:
    panels = [panel for name in _drawn_layers(policies) for panel in _layer_panels(name, policies[:DRAWN_POLICIES])]
    return Pane(id="evidence-sparsity", tab="Activations", panels=panels, columns=2) if panels else None


def _drawn_layers(policies: Policies) -> list[str]:
    """Return the layers to draw: the last ones at which any policy drops, or the last ones."""
    dropped = {
        str(layer.get("name"))
        for policy, _ in policies
        for layer in policy.get("layers") or ()
        if (finite(layer.get("rate")) or 0) > 0
    }
    names = layer_names(policies)
    return ([name for name in names if name in dropped] or names)[-DRAWN_LAYERS:]


def _layer_panels(name: str, policies: Policies) -> list[Panel]:
    found = [(str(policy.get("name")), shade, _activity(policy, name)) for policy, shade in policies]
    rows = [(policy, shade, active) for policy, shade, active in found if active]
    if not rows:
        return []
    spreads = [Spread(policy, shade, active["edges"], _densities(active)) for policy, shade, active in rows]
    beyond = "The last bin also holds what lies beyond it. Of the first run of each policy."
    zeros = all(active.get("rectified") for _, _, active in rows)
    means = unit_means([(policy, shade, active["unit_means"]) for policy, shade, active in rows])
    return [
        Panel(
            id=f"evidence-{_id(name)}-activations",
            figure=spread_figure(spreads, x="activation", y="% per unit of activation", logarithmic=True),
            title=f"{name}: all activations" + (" but zeros" if zeros else ""),
            caption=("The share of zeros stands in the table. " if zeros else "") + beyond,
            description=f"Histogram of the activations of {name}, on a logarithmic scale",
        ),
        Panel(
            id=f"evidence-{_id(name)}-units",
            figure=spread_figure(means, x="mean activation of a unit", y="units (%)"),
            title=f"{name}: each unit's mean",
            caption="Further to the left: units are less active on average.",
            description=f"Histogram of the mean activation of the units of {name}",
        ),
    ]


def _densities(active: Row) -> list[float]:
    """Return the share of activations per unit of activation in each bin, zeros aside: bins are each run's own."""
    shares = [finite(share) or 0.0 for share in active["activations"]]
    if active.get("rectified"):
        shares[0] = max(shares[0] - (finite(active.get("zero")) or 0.0), 0.0)
    return [share / (high - low) for share, (low, high) in zip(shares, pairwise(active["edges"]), strict=True)]


def _activity(policy: Row, name: str) -> Row | None:
    layers = (layer for layer in policy.get("layers") or () if str(layer.get("name")) == name)
    active = next((layer.get("activity") for layer in layers), None)
    return active if active and active.get("edges") and active.get("activations") else None


def _id(name: str) -> str:
    """Return a site's name as an element's id can hold it."""
    return "".join(character if character.isalnum() else "-" for character in name).strip("-")


# ----------------------------------------------------------- thinned networks


def _ensemble(policies: Policies) -> Pane | None:
    shown = [(policy, shade) for policy, shade in policies if _mean(policy, "one") is not None]
    if not shown:
        return None
    panels = []
    errors = {"one thinned": "one", "their average": "average", "all units": "error"}
    apart = {"from most others": "minority", "two of them": "pairwise"}
    for key, words, title, axis in (
        ("errors", errors, "Error of one, of their average, and of the plain pass", "error (%)"),
        ("apart", apart, "How often thinned networks disagree", "pictures (%)"),
    ):
        series = [
            Series(
                str(policy.get("name")),
                shade,
                {word: figure for word, name in words.items() if (figure := (policy.get("figures") or {}).get(name))},
                {},
            )
            for policy, shade in shown
        ]
        drawn = side_by_side(series, list(words), title=axis, scale=100)
        panels.append(Panel(id=f"evidence-{key}", figure=drawn, title=title, description=title))
    return Pane(id="evidence-ensemble", tab="Thinned networks", panels=panels, columns=2)


# --------------------------------------------------------------------- weights


def _weights(policies: Policies) -> Pane | None:
    rows = [
        (
            str(policy.get("name")),
            shade,
            {str(row.get("layer")): row["quantiles"] for row in policy.get("norms") or () if row.get("quantiles")},
        )
        for policy, shade in policies
    ]
    layers = list(dict.fromkeys(layer for _, _, quantiles in rows for layer in quantiles))
    if not layers:
        return None
    last = layers[-DRAWN_WEIGHTS:]
    cut = f" The last {len(last)} of {len(layers)} layers." if len(last) < len(layers) else ""
    panel = Panel(
        id="evidence-weights",
        figure=quantile_figure(rows, last),
        title="How large a unit's incoming weights are",
        caption=f"Point: the median unit. Thick: half of the units. Thin: 90\u00a0% of them. Means over runs.{cut}",
        description="Quantiles over units of the L2 norm of their incoming weights, for each layer and policy",
    )
    return Pane(id="evidence-weights-pane", tab="Weights", panels=[panel], columns=1)
