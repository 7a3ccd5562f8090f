"""The evidence of several runs side by side: means with intervals, differences to a policy without dropout."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from dropkit.runs.intervals import mean_interval
from dropkit.studies.evidence.claims import CLAIMS, ensemble, judged, with_l2
from dropkit.studies.evidence.disagreement import DRAWS
from dropkit.studies.evidence.quantities import OF_LAYER, OF_RUN, Quantity

Found = Mapping[str, Any]
Groups = Mapping[str, Sequence[Found | None]]
"""The evidence of each policy's runs, in the same order of seeds; None for one that diverged."""

DRAWN = ("edges", "activations", "unit_means")


def compared(groups: Groups, *, shared: float = 0.0, undertrained: Collection[str] = ()) -> list[dict[str, Any]]:
    """Return what the runs of policies show, side by side, as plain JSON: one entry a policy, in their order.

    Args:
        groups: what `measure` returned, by policy.
        shared: test pictures over training pictures for the folds of a cross-validation, as `mean_interval` takes it.
        undertrained: policies that the study does not judge, because they, or what they are held against, were not
            trained long enough.
    """
    kept = {name: runs for name, runs in groups.items() if any(run is not None for run in runs)}
    return [_policy(name, kept, shared, trained=name not in undertrained) for name in kept]


def without_pictures(run: Found) -> dict[str, Any]:
    """Return a run's evidence without what is only drawn: of many runs it would be a large file."""
    layers = [
        {**layer, "activity": {key: value for key, value in layer["activity"].items() if key not in DRAWN}}
        for layer in run["layers"]
    ]
    return {**run, "layers": layers}


def _policy(name: str, groups: Groups, shared: float, *, trained: bool) -> dict[str, Any]:
    runs = _finished(groups[name])
    base = _base(name, groups)
    pairs = [] if base is None else _pairs(groups, name, base)
    return {
        "name": name,
        "n": len(runs),
        "diverged": len(groups[name]) - len(runs),
        "drops": any(run["drops"] for run in runs),
        "weight_decay": runs[0]["weight_decay"],
        "figures": {key: _figure(quantity, runs, shared) for key, quantity in OF_RUN.items()},
        "differences": {key: _difference(quantity, pairs, shared) for key, quantity in OF_RUN.items()},
        "layers": _layers(runs, pairs, shared),
        "left_out": runs[0]["left_out"],
        "no_disagreement": runs[0]["no_disagreement"],
        "norms": _norms(runs),
        "base": base,
        "claims": _claims(name, groups, shared, trained=trained),
        "notes": [*_note_of_base(name, base, groups), *sorted({note for run in runs for note in run["notes"]})],
    }


def _finished(runs: Sequence[Found | None]) -> list[Found]:
    return [run for run in runs if run is not None]


def _drops(groups: Groups, name: str) -> bool:
    return any(run["drops"] for run in _finished(groups[name]))


def _decay(groups: Groups, name: str) -> float:
    return float(_finished(groups[name])[0]["weight_decay"])


def _base(name: str, groups: Groups) -> str | None:
    """Return the policy without dropout that a policy is held against: the one otherwise alike, or else the first."""
    without = [other for other in groups if other != name and not _drops(groups, other)]
    if not _drops(groups, name):
        return next(iter(groups)) if name != next(iter(groups)) else None
    alike = [other for other in without if not _differing(name, other, groups)]
    return next(iter((*alike, *without)), None)


def _differing(name: str, other: str, groups: Groups) -> list[str]:
    """Return the options, beside the dropout, in which two policies differ, as their names and weight decays tell."""
    one, two = ({word for word in policy.split(";")[1:] if word} for policy in (name, other))
    fields = {word.partition("=")[0] for word in one ^ two} - {"seed"}
    if _decay(groups, name) != _decay(groups, other):
        fields.add("weight_decay")
    return sorted(fields)


def _note_of_base(name: str, base: str | None, groups: Groups) -> list[str]:
    if base is not None or not _drops(groups, name) or len(groups) == 1:
        return []
    return ["no policy without dropout is there to hold it against, so no claim is judged: compare it with none, too"]


def _pairs(groups: Groups, name: str, other: str) -> list[tuple[Found, Found]]:
    """Return the runs of two policies with equal seeds, of which none diverged."""
    both = zip(groups[name], groups[other], strict=False)
    return [(run, before) for run, before in both if run is not None and before is not None]


def _figure(quantity: Quantity, found: Sequence[Found], shared: float) -> dict[str, float | None] | None:
    """Return the mean over runs with its interval; None where a run has no such number."""
    values = [quantity.find(each) for each in found]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    mean, low, high = mean_interval(known, shared)
    return {"mean": mean, "low": quantity.possible(low), "high": quantity.possible(high)}


def _difference(
    quantity: Quantity, pairs: Sequence[tuple[Found, Found]], shared: float
) -> dict[str, float | None] | None:
    values = [(quantity.find(run), quantity.find(before)) for run, before in pairs]
    known = [after - before for after, before in values if after is not None and before is not None]
    if not known or len(known) < len(values):
        return None
    return dict(zip(("mean", "low", "high"), mean_interval(known, shared), strict=True))


def _layers(runs: Sequence[Found], pairs: Sequence[tuple[Found, Found]], shared: float) -> list[dict[str, Any]]:
    """Return the layers of a policy's network, with the first run's activity to draw."""
    rows = []
    for shown in runs[0]["layers"]:
        path = shown["layer"]
        found = [layer for run in runs if (layer := _layer(run, path)) is not None]
        both = [(_layer(run, path), _layer(before, path)) for run, before in pairs]
        whole = [(layer, before) for layer, before in both if layer is not None and before is not None]
        told = {key: value for key, value in shown.items() if key not in ("correlation", "silenced")}
        rows.append(
            {
                **told,
                "rectified": all(layer["activity"]["rectified"] for layer in found),
                "figures": {key: _figure(quantity, found, shared) for key, quantity in OF_LAYER.items()},
                "differences": {key: _difference(quantity, whole, shared) for key, quantity in OF_LAYER.items()},
            }
        )
    return rows


def _layer(run: Found, path: str) -> Found | None:
    return next((layer for layer in run["layers"] if layer["layer"] == path), None)


def _norms(runs: Sequence[Found]) -> list[dict[str, Any]]:
    """Return each weight layer's quantiles over units, as means over runs."""
    rows = []
    for place, shown in enumerate(runs[0]["norms"]["layers"]):
        found = [run["norms"]["layers"][place] for run in runs]
        quantiles = np.mean([row["quantiles"] for row in found], axis=0).tolist()
        norm = float(np.mean([row["norm"] for row in found]))
        rows.append({"layer": shown["layer"], "units": shown["units"], "quantiles": quantiles, "norm": norm})
    return rows


def _claims(name: str, groups: Groups, shared: float, *, trained: bool) -> list[dict[str, Any]]:
    """Return what the runs say of each claim about dropout that they can say something of."""
    if not _drops(groups, name):
        return []
    found: list[dict[str, Any] | None] = []
    base = _base(name, groups)
    if base is not None:
        after, before = _side_by_side(groups, name, base)
        also = " and ".join(_differing(name, base, groups))
        how: dict[str, Any] = {"beside": f"with {base}", "also": also, "shared": shared, "trained": trained}
        found += [judged(claim, after, before, **how) for claim in CLAIMS]
    found += [ensemble(_finished(groups[name]), DRAWS, shared), _together_with_l2(name, groups, shared)]
    return [each for each in found if each is not None]


def _together_with_l2(name: str, groups: Groups, shared: float) -> dict[str, Any] | None:
    """Return what dropout with an L2 penalty does beside each of the two alone."""
    penalty = [other for other in groups if not _drops(groups, other) and not _differing(name, other, groups)]
    if _decay(groups, name) == 0 or not penalty:
        return None
    dropout = name.partition(";")[0]
    rest = [other for other in groups if other.partition(";")[0] == dropout and _decay(groups, other) == 0]
    rest = [other for other in rest if _differing(name, other, groups) == ["weight_decay"]]
    both, alone, *others = ([*groups[other]] for other in (name, penalty[0], *rest[:1]))
    if any(run is None for runs in (both, alone, *others) for run in runs):
        return None  # one diverged: they are no longer of the same seeds
    return with_l2(_finished(both), _finished(alone), _finished(others[0]) if others else None, shared)


def _side_by_side(groups: Groups, name: str, other: str) -> tuple[list[Found], list[Found]]:
    pairs = _pairs(groups, name, other)
    return [run for run, _ in pairs], [run for _, run in pairs]
