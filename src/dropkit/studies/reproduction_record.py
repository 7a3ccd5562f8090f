"""From the finished runs of a reproduction to its record: ours beside the paper's, and what the paper's order is worth.

A row agrees with the paper only where its 95% interval over seeds (Student's t) contains the paper's figure. A claim is
a paired difference over seeds and test pictures, with Holm's correction over all claims of the table
(`dropkit.studies.statistics`); of a figure that belongs to a whole run, over seeds alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dropkit.data.pictures import Pictures
from dropkit.files import read_record
from dropkit.runs.intervals import mean_interval
from dropkit.runs.record import RunFolder
from dropkit.runs.run import Run
from dropkit.studies.question import shared_fields
from dropkit.studies.recipes.measures import Measured, Measuring
from dropkit.studies.recipes.recipe import Claim, Mark, Recipe, Row, training_of
from dropkit.studies.reproduction_words import claim_sentence, row_sentence
from dropkit.studies.statistics import ALPHA, Difference, Spread, holm, holm_intervals, level_of_zero, paired_difference

Groups = Mapping[str, Sequence[Run]]
Results = Mapping[str, Mapping[int, Measured]]
"""Of each row, what is measured of the run with each seed."""

_ANY = 2  # pictures of a figure that has none: their part of the variance is 0, whatever their number


def reproduction_record(
    recipe: Recipe, groups: Groups, pictures: Mapping[str, Pictures], measuring: Measuring
) -> dict[str, Any]:
    """Return what a reproduction found, as plain JSON; rows without a finished run have no figure.

    Args:
        recipe: what was made again.
        groups: the finished runs of each training.
        pictures: of each source.
        measuring: measures them.
    """
    names = {config: name for name, config in recipe.trainings().items()}
    trained = {row.name: groups.get(names[training_of(row)], ()) for row in recipe.rows}
    results = {
        row.name: {
            run.config.seed: measuring(row.measure, run, pictures[row.config.data])
            for run in trained[row.name]
            if not run.diverged
        }
        for row in recipe.rows
    }
    rows = [_row(row, trained[row.name], results[row.name], recipe.why, names[training_of(row)]) for row in recipe.rows]
    means = {row["name"]: row["mean"] for row in rows if row["mean"] is not None}
    runs = [run for of_training in groups.values() for run in of_training]
    return {
        "kind": "reproduction",
        "paper": recipe.paper,
        "table": recipe.table,
        "budget": recipe.budget,
        "title": recipe.title,
        "where": recipe.where,
        "axis": recipe.axis,
        "logarithmic": recipe.logarithmic,
        "seeds": sorted({run.config.seed for run in runs}),
        "rows": rows,
        "claims": _claims(recipe, results),
        "marks": [_mark(mark, means) for mark in recipe.marks],
        "differences": list(recipe.differences),
        "activity": _activity(recipe, trained, measuring),
        "runs": [_run(name, run) for name, of_training in groups.items() for run in of_training],
        **_facts(recipe, runs),
    }


def _facts(recipe: Recipe, runs: Sequence[Run]) -> dict[str, Any]:
    """Return what the page's foot says: data, options that the trainings share, the machine."""
    if not runs:
        return {"data": {}, "config": {}, "environment": {}, "seconds": 0.0}
    environment = read_record(RunFolder(runs[0].folder).environment)
    return {
        "dropkit": environment["dropkit"],
        "data": runs[0].summary["data"],
        "config": shared_fields([row.config for row in recipe.rows]),
        "environment": environment,
        "seconds": sum(run.summary["seconds"] for run in runs),
    }


def _row(row: Row, runs: Sequence[Run], results: Mapping[int, Measured], why: str, training: str) -> dict[str, Any]:
    """Return a row: our mean with its interval, the paper's figure, and a sentence that holds them together."""
    values = [measured.value for measured in results.values()]
    mean, low, high = mean_interval(values) if values else (None, None, None)
    low = None if low is None else max(0.0, low)  # nothing that is measured can be negative; Student's t knows no limit
    described = {
        "name": row.name,
        "training": training,
        "dropout": row.config.dropout,
        "source": row.config.data,
        "measure": row.measure.words,
        "unit": "fraction" if row.measure.kind != "activation" else "activation",
        "n": len(values),
        "diverged": sum(run.diverged for run in runs),
        "values": values,
        "mean": mean,
        "low": low,
        "high": high,
        "paper": None if row.paper is None else row.paper.value,
        "paper_spread": None if row.paper is None else row.paper.spread,
        "about": row.paper is not None and row.paper.about,
        "series": row.series,
        "x": row.x,
    }
    agrees = None
    if row.paper is not None and low is not None and high is not None:
        agrees = low <= row.paper.value <= high
    return {**described, "agrees": agrees, "sentence": row_sentence({**described, "agrees": agrees}, why)}


def _claims(recipe: Recipe, results: Results) -> list[dict[str, Any]]:
    """Return each claim with its difference, interval and verdict."""
    differences = [_difference(recipe, claim, results) for claim in recipe.claims]
    known = [difference for difference in differences if difference is not None]
    p_values, intervals = iter(holm([d.p_value for d in known])), iter(holm_intervals(known))
    told = []
    for claim, difference in zip(recipe.claims, differences, strict=True):
        found: dict[str, Any] = {"lower": claim.lower, "higher": claim.higher, "alike": claim.alike}
        found |= dict.fromkeys(("difference", "low", "high", "p_value", "p_holm", "n"))
        if difference is not None:
            low, high = next(intervals)
            found |= {"difference": difference.mean, "low": low, "high": high, "n": difference.n_seeds}
            found |= {"p_value": difference.p_value, "p_holm": next(p_values)}
        row = recipe.row(claim.lower)
        found |= {
            "measure": row.measure.words,
            "unit": "activation" if row.measure.kind == "activation" else "fraction",
        }
        kind = _verdict(claim, found)
        told.append({**found, "kind": kind, "sentence": claim_sentence({**found, "kind": kind}, len(known))})
    return told


def _verdict(claim: Claim, found: Mapping[str, Any]) -> str:
    """Return "shown", "not shown" or "opposite"; for rows that the paper finds alike "alike" or "differs"."""
    if found["p_holm"] is None:
        return "unknown"
    real = found["p_holm"] < ALPHA
    if claim.alike:
        return "differs" if real else "alike"
    if not real:
        return "not shown"
    return "shown" if found["difference"] < 0 else "opposite"


def _difference(recipe: Recipe, claim: Claim, results: Results) -> Difference | None:
    """Return the lower row less the higher one, over the seeds that finished in both; None for fewer than two."""
    lower, higher = results[claim.lower], results[claim.higher]
    seeds = sorted(set(lower) & set(higher))
    if len(seeds) < 2:
        return None
    pairs = [(higher[seed], lower[seed]) for seed in seeds]
    if recipe.row(claim.lower).measure.is_error:
        base, other = (np.stack([_of_pictures(pair[side]) for pair in pairs]) for side in (0, 1))
        return paired_difference(base, other)
    return seed_difference([low.value - high.value for high, low in pairs])


def _of_pictures(measured: Measured) -> np.ndarray[Any, np.dtype[np.float64]]:
    assert measured.pictures is not None  # an error is a share of pictures
    return measured.pictures


def seed_difference(values: Sequence[float]) -> Difference:
    """Return the mean of paired differences over seeds, where no picture has one of its own: Student's t.

    >>> d = seed_difference([-1.0, -2.0, -3.0])
    >>> d.mean, round(d.low, 3), round(d.high, 3)
    (-2.0, -4.484, 0.484)
    """
    d = np.asarray(values, dtype=np.float64)
    n, mean = len(d), float(d.mean())
    spread = Spread(seeds=float(d.var(ddof=1)) / n, pictures=0.0, rest=0.0)
    half = spread.half_width(n, _ANY, ALPHA)
    return Difference(
        mean=mean,
        standard_error=spread.total**0.5,
        low=mean - half,
        high=mean + half,
        p_value=level_of_zero(mean, spread, n, _ANY),
        from_seeds=1.0,
        from_pictures=0.0,
        n_seeds=n,
        n_pictures=_ANY,
        spread=spread,
    )


def _mark(mark: Mark, means: Mapping[str, float]) -> dict[str, Any]:
    known = all(name in means for name in mark.rows)
    return {"sentence": mark.sentence, "rows": list(mark.rows), "reached": mark.reached(means) if known else None}


def _run(name: str, run: Run) -> dict[str, Any]:
    return {
        "training": name,
        "policy": run.config.dropout,
        "seed": run.config.seed,
        "folder": f"runs/{Path(run.folder).name}",
        "status": run.summary["status"],
        "summary": run.summary,
        "epochs": run.epochs,
    }


def _activity(recipe: Recipe, trained: Mapping[str, Sequence[Run]], measuring: Measuring) -> list[dict[str, Any]]:
    """Return the activations of the first hidden layer, where they are what the recipe is about: one seed a training.

    Histograms of several runs have edges of their own, and cannot be averaged.
    """
    found = []
    for row in recipe.rows:
        kept = [run for run in trained[row.name] if not run.diverged]
        if row.measure.kind != "activation" or not kept:
            continue
        layer = measuring.activity(kept[0])[0]
        found.append({"name": row.series or row.name, "seed": kept[0].config.seed, **layer})
    return found
