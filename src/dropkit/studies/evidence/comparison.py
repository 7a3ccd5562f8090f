"""The evidence of several runs side by side: means with intervals over seeds, differences to the first policy."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dropkit.runs.intervals import mean_interval
from dropkit.studies.evidence.claims import CLAIMS, ENSEMBLE, WITH_L2, judged
from dropkit.studies.evidence.disagreement import DRAWS
from dropkit.studies.evidence.quantities import OF_LAYER, OF_RUN, Quantity

Found = Mapping[str, Any]
Groups = Mapping[str, Sequence[Found | None]]
"""The evidence of each policy's runs, in the same order of seeds; None for one that diverged."""

DRAWN = ("edges", "activations", "unit_means")


def compared(groups: Groups, *, shared: float = 0.0) -> list[dict[str, Any]]:
    """Return what the runs of policies show, side by side, as plain JSON: one entry a policy, the first one first.

    Args:
        groups: what `measure` returned, by policy.
        shared: test pictures over training pictures for the folds of a cross-validation, as `mean_interval` takes it.
    """
    kept = {name: runs for name, runs in groups.items() if any(run is not None for run in runs)}
    return [_policy(name, kept, shared) for name in kept]


def without_pictures(run: Found) -> dict[str, Any]:
    """Return a run's evidence without what is only drawn: of many runs it would be a large file."""
    layers = [
        {**layer, "activity": {key: value for key, value in layer["activity"].items() if key not in DRAWN}}
        for layer in run["layers"]
    ]
    return {**run, "layers": layers}


def _policy(name: str, groups: Groups, shared: float) -> dict[str, Any]:
    runs = [run for run in groups[name] if run is not None]
    first = next(iter(groups))
    pairs = [] if name == first else _pairs(groups, name, first)
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
        "claims": _claims(name, groups, pairs, shared),
        "notes": sorted({note for run in runs for note in run["notes"]}),
    }


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


def _claims(name: str, groups: Groups, pairs: Sequence[tuple[Found, Found]], shared: float) -> list[dict[str, Any]]:
    """Return what the runs say of each claim about dropout that they can say something of."""
    runs = [run for run in groups[name] if run is not None]
    if not runs[0]["drops"]:
        return []
    first = next(iter(groups))
    after, before = [run for run, _ in pairs], [run for _, run in pairs]
    found = [judged(claim, after, before, beside=f"with {first}", shared=shared) for claim in CLAIMS]
    found.append(judged(ENSEMBLE, runs, None, beside=f"that of one, in {DRAWS} draws", shared=shared))
    alone = _l2_alone(name, groups)
    if alone is not None:
        both = _pairs(groups, name, alone)
        after, before = [run for run, _ in both], [run for _, run in both]
        found.append(judged(WITH_L2, after, before, beside=f"with {alone}", shared=shared))
    return [each for each in found if each is not None]


def _l2_alone(name: str, groups: Groups) -> str | None:
    """Return the policy without dropout that has the same L2 penalty, and all else alike."""
    decay = next(run["weight_decay"] for run in groups[name] if run is not None)
    for other, runs in groups.items():
        one = next(run for run in runs if run is not None)
        alike = other.partition(";")[2] == name.partition(";")[2] and one["weight_decay"] == decay
        if decay > 0 and alike and not one["drops"]:
            return other
    return None
