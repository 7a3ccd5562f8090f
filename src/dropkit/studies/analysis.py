"""From finished runs to the record of a study: figures, paired differences, verdicts, recommendation."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dropkit.errors import DropkitError
from dropkit.files import read_json
from dropkit.runs.metrics import per_picture
from dropkit.runs.record import RunFolder
from dropkit.runs.run import Run, effective, train_command
from dropkit.studies.statistics import (
    ALPHA,
    Difference,
    holm,
    holm_intervals,
    mean_interval,
    needed_seeds,
    paired_difference,
)
from dropkit.studies.verdict import PolicyRuns, Verdict, conclude, judge, recommend

UNITS = {"error": "fraction", "nll": "nats", "ece": "fraction", "gap": "nats"}


def analyse(groups: dict[str, list[Run]], *, metric: str, command: str, trained: int) -> dict[str, Any]:
    """Return the record of a study.

    Args:
        groups: the runs of each policy, in the same order of seeds; the first policy is the one held against.
        metric: "error" or "nll".
        command: what repeats the study.
        trained: how many of them were made now.
    """
    _require_same_test_pictures(groups)
    base, *others = [_policy_runs(name, runs, metric) for name, runs in groups.items()]
    rows, verdicts = _judge_all(groups, base, others, metric)
    advice = recommend(base, verdicts, metric=metric)
    first_policy = groups[base.name]
    first = first_policy[0]
    environment = read_json(RunFolder(first.folder).environment)
    n_pictures = first.summary["data"]["test"]
    return {
        "kind": "study",
        "dropkit": environment["dropkit"],
        "question": "compare",
        "data": first.summary["data"],
        "config": {k: v for k, v in effective(first.config).items() if k not in ("dropout", "seed", "out")},
        "environment": environment,
        "metric": metric,
        "seeds": [run.config.seed for run in first_policy],
        "command": command,
        "seconds": sum(run.summary["seconds"] for runs in groups.values() for run in runs),
        "trained": trained,
        "policies": rows,
        "recommendation": {
            "policy": advice.policy,
            "sentence": advice.sentence,
            "command": _next_command(groups[advice.policy]),
        },
        "verdict": conclude(base, verdicts, metric=metric, n_seeds=len(first_policy), n_pictures=n_pictures),
        "runs": [_describe_run(run) for runs in groups.values() for run in runs],
    }


def _judge_all(
    groups: dict[str, list[Run]], base: PolicyRuns, others: Sequence[PolicyRuns], metric: str
) -> tuple[list[dict[str, Any]], list[tuple[PolicyRuns, Verdict]]]:
    """Return the table's rows, the first policy's first, and the verdict on each of the others."""
    differences = [_difference(groups[base.name], groups[other.name], metric) for other in others]
    known = [difference for difference in differences if difference is not None]
    p_values, intervals = iter(holm([d.p_value for d in known])), iter(holm_intervals(known))
    rows, verdicts = [_row(base.name, groups[base.name], None)], []
    for other, difference in zip(others, differences, strict=True):
        p_holm = next(p_values) if difference is not None else math.nan
        interval = next(intervals) if difference is not None else None
        verdict = judge(
            difference,
            metric=metric,
            p_holm=p_holm,
            base=base,
            other=other,
            interval=interval,
            comparisons=len(known),
        )
        verdicts.append((other, verdict))
        figures = _describe(difference, p_holm, interval, len(known))
        described = {"kind": verdict.kind, "sentence": verdict.sentence, **figures}
        rows.append(_row(other.name, groups[other.name], described))
    return rows, verdicts


def _policy_runs(name: str, runs: Sequence[Run], metric: str) -> PolicyRuns:
    finished = [run for run in runs if not run.diverged]
    return PolicyRuns(
        name=name,
        mean=float(np.mean([run.summary["test"][metric] for run in finished])) if finished else math.nan,
        best_epochs=[run.summary["best_epoch"] for run in finished],
        budget=runs[0].config.epoch_limit,
        fixed=runs[0].config.epochs is not None,
        diverged=len(runs) - len(finished),
    )


def _difference(base: Sequence[Run], other: Sequence[Run], metric: str) -> Difference | None:
    """Return the paired difference over the seeds that finished with both policies; None for fewer than two."""
    pairs = [(a, b) for a, b in zip(base, other, strict=True) if not (a.diverged or b.diverged)]
    if len(pairs) < 2:
        return None
    first, second = zip(*pairs, strict=True)
    return paired_difference(_values(first, metric), _values(second, metric))


def _values(runs: Sequence[Run], metric: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the metric of every seed and test picture, [seeds, pictures]."""
    outputs = [run.test_predictions() for run in runs]
    return np.stack([per_picture(logits.numpy(), labels.numpy(), metric) for logits, labels in outputs])


def _require_same_test_pictures(groups: dict[str, list[Run]]) -> None:
    splits = {read_json(RunFolder(run.folder).split)["fingerprint"] for runs in groups.values() for run in runs}
    if len(splits) > 1:
        raise DropkitError("the runs of this study saw different data: delete its folder and run the command again")


def _row(name: str, runs: Sequence[Run], verdict: dict[str, Any] | None) -> dict[str, Any]:
    finished = [run.summary for run in runs if not run.diverged]
    return {
        "name": name,
        "n": len(finished),
        "diverged": len(runs) - len(finished),
        "metrics": {
            **{key: _figure([run["test"][key] for run in finished], key) for key in ("error", "nll", "ece")},
            "gap": _figure([run["gap"] for run in finished], "gap"),
        },
        "best_epoch": [run["best_epoch"] for run in finished],
        "epochs": [run["epochs"] for run in finished],
        "budget": runs[0].config.epoch_limit,
        "verdict": verdict,
    }


def _figure(values: Sequence[float], key: str) -> dict[str, Any]:
    mean, low, high = mean_interval(values) if values else (None, None, None)
    return {"mean": mean, "low": low, "high": high, "unit": UNITS[key]}


def _describe(
    difference: Difference | None, p_holm: float, interval: tuple[float, float] | None, comparisons: int
) -> dict[str, float | None]:
    keys = ("difference", "low", "high", "p_value", "p_holm", "from_seeds", "from_pictures", "needed_seeds")
    if difference is None or interval is None:
        return dict.fromkeys(keys)
    shares = (difference.from_seeds, difference.from_pictures)
    needed = needed_seeds(difference, ALPHA / comparisons)
    return dict(zip(keys, (difference.mean, *interval, difference.p_value, p_holm, *shares, needed), strict=True))


def _describe_run(run: Run) -> dict[str, Any]:
    return {
        "policy": run.config.dropout,
        "seed": run.config.seed,
        "folder": f"runs/{Path(run.folder).name}",
        "status": run.summary["status"],
        "summary": run.summary,
        "epochs": run.epochs,
    }


def _next_command(runs: Sequence[Run]) -> str:
    """Return the command that trains the recommended policy, with the seed whose validation loss was lowest."""
    config = min((run for run in runs if run.summary["val"]), key=lambda r: r.summary["val"]["loss"], default=runs[0])
    return train_command(dataclasses.replace(config.config, out=None, threads=None))
