"""From finished runs to the record of a study: figures, paired differences, verdicts, recommendation."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dropkit.errors import DropkitError
from dropkit.files import read_record
from dropkit.runs.details import lowest_validation, shared_pictures
from dropkit.runs.intervals import mean_interval
from dropkit.runs.metrics import per_picture
from dropkit.runs.record import RunFolder
from dropkit.runs.run import Run, train_command
from dropkit.studies.folds import FoldSpread, fold_difference, needed_repetitions
from dropkit.studies.question import Question, shared_fields
from dropkit.studies.statistics import ALPHA, Difference, holm, holm_intervals, needed_seeds, paired_difference
from dropkit.studies.sweep import describe_sweep
from dropkit.studies.verdict import PolicyRuns, Verdict, conclude, judge, recommend

Groups = Mapping[str, Sequence[Run]]
Array = np.ndarray[Any, np.dtype[np.float64]]

UNITS = {
    "error": "fraction",
    "balanced_error": "fraction",
    "nll": "nats",
    "ece": "fraction",
    "gap": "nats",
    "train_loss": "nats",
    "train_error": "fraction",
}


def analyse(question: Question, groups: Groups, *, command: str, trained: int) -> dict[str, Any]:
    """Return the record of a study.

    Args:
        question: what was asked.
        groups: the runs of each arm, in the same order of rounds; the first arm is the one held against.
        command: what repeats the study.
        trained: how many of them were made now.
    """
    tested = _tested_pictures(groups, question)
    metric, folds = question.metric, question.folds
    base, *others = [_policy_runs(name, runs, metric) for name, runs in groups.items()]
    rows, verdicts = _judge_all(groups, base, others, question, len(tested))
    advice = recommend(base, verdicts, metric=metric)
    first_arm = groups[base.name]
    environment = read_record(RunFolder(first_arm[0].folder).environment)
    repetitions = len(first_arm) // (folds or 1)
    record = {
        "kind": "study",
        "dropkit": environment["dropkit"],
        "question": "compare",
        "data": first_arm[0].summary["data"],
        "config": shared_fields(question.configs),
        "environment": environment,
        "metric": metric,
        "seeds": [run.config.seed for run in first_arm],
        "command": command,
        "seconds": sum(run.summary["seconds"] for runs in groups.values() for run in runs),
        "trained": trained,
        "tested": len(tested),
        "imbalance": _imbalance(tested),
        "policies": rows,
        "recommendation": {
            "policy": advice.policy,
            "sentence": advice.sentence,
            "command": _next_command(groups[advice.policy], question),
        },
        "verdict": conclude(
            base, verdicts, metric=metric, n_seeds=repetitions, n_pictures=len(tested), folds=question.folds
        ),
        "runs": [_describe_run(name, run) for name, runs in groups.items() for run in runs],
    }
    return record | _sweep(question, groups, rows, _untrained(base, verdicts)) | _folds(question, repetitions)


def shown_policy(record: Mapping[str, Any]) -> str:
    """Return the policy whose mistakes the page shows: the recommended one, or the best of those that the first was
    kept over."""
    names = [row["name"] for row in record["policies"]]
    if record["recommendation"]["policy"] != names[0]:
        return str(record["recommendation"]["policy"])
    key = _key(record["metric"])
    means = {row["name"]: row["metrics"][key]["mean"] for row in record["policies"][1:]}
    known = {str(name): float(mean) for name, mean in means.items() if mean is not None}
    return min(known, key=lambda name: known[name]) if known else str(names[0])


def _key(metric: str) -> str:
    """What a metric is called in a summary."""
    return metric.replace("-", "_")


def _untrained(base: PolicyRuns, verdicts: Sequence[tuple[PolicyRuns, Verdict]]) -> set[str]:
    """Return the policies that were not trained long enough to say anything of them."""
    names = {other.name for other, verdict in verdicts if other.undertrained or verdict.kind == "undertrained"}
    return names | ({base.name} if base.undertrained else set())


def _sweep(question: Question, groups: Groups, rows: Sequence[dict[str, Any]], untrained: set[str]) -> dict[str, Any]:
    """Return what the record says of a sweep, and note each row's rate."""
    if question.sweep is None:
        return {}
    for row, rate in zip(rows, question.sweep.rates, strict=True):
        row["rate"] = rate
    return {"sweep": describe_sweep(question.sweep, groups, untrained)}


def _folds(question: Question, repetitions: int) -> dict[str, Any]:
    return {} if question.folds is None else {"folds": {"k": question.folds, "repetitions": repetitions}}


def _judge_all(
    groups: Groups, base: PolicyRuns, others: Sequence[PolicyRuns], question: Question, tested: int
) -> tuple[list[dict[str, Any]], list[tuple[PolicyRuns, Verdict]]]:
    """Return the table's rows, the first policy's first, and the verdict on each of the others."""
    differences = [_difference(groups[base.name], groups[other.name], question, tested) for other in others]
    known = [difference for difference in differences if difference is not None]
    p_values, intervals = iter(holm([d.p_value for d in known])), iter(holm_intervals(known))
    rows, verdicts = [_row(base.name, groups[base.name], None)], []
    for other, difference in zip(others, differences, strict=True):
        p_holm = next(p_values) if difference is not None else math.nan
        interval = next(intervals) if difference is not None else None
        verdict = judge(
            difference,
            metric=question.metric,
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
        mean=float(np.mean([_tested_value(run, _key(metric)) for run in finished])) if finished else math.nan,
        best_epochs=[run.summary["best_epoch"] for run in finished],
        budget=runs[0].config.epoch_limit,
        fixed=runs[0].config.epochs is not None,
        diverged=len(runs) - len(finished),
    )


def _difference(base: Sequence[Run], other: Sequence[Run], question: Question, tested: int) -> Difference | None:
    """Return the paired difference over the rounds that finished with both policies; None for fewer than two."""
    pairs = [(a, b) for a, b in zip(base, other, strict=True) if not (a.diverged or b.diverged)]
    if len(pairs) < 2:
        return None
    first, second = ([_values(run, question.metric) for run in runs] for runs in zip(*pairs, strict=True))
    if question.folds is None:
        return paired_difference(np.stack(first), np.stack(second))
    n_train = float(np.mean([run.summary["data"]["train"] for run, _ in pairs]))
    return fold_difference(first, second, folds=question.folds, n_train=n_train, n_pictures=tested)


def _values(run: Run, metric: str) -> Array:
    """Return the metric of every test picture [n]."""
    logits, labels = run.test_predictions()
    return per_picture(logits.numpy(), labels.numpy(), metric)


def _tested_pictures(groups: Groups, question: Question) -> dict[str, int]:
    """Return the class of every picture that was a test picture, by the picture's id.

    Raises:
        DropkitError: if runs that are compared were not tested on the same pictures.
    """
    fingerprints: set[str] = set()
    tested: dict[str, int] = {}
    for runs in zip(*groups.values(), strict=True):
        splits = [read_record(RunFolder(run.folder).split) for run in runs]
        fingerprints |= {split["fingerprint"] for split in splits}
        if len(fingerprints) > 1 or any(split["test"] != splits[0]["test"] for split in splits):
            raise DropkitError("the runs of this study saw different data: delete its folder and run the command again")
        kept = next((run for run in runs if not run.diverged), None)
        if kept is not None and (question.folds is not None or not tested):
            tested.update(zip(splits[0]["test"], kept.test_predictions()[1].tolist(), strict=True))
    return tested


def _imbalance(tested: Mapping[str, int]) -> float | None:
    """Return how many times as many test pictures the largest class has as the smallest that has any."""
    _, counts = np.unique(list(tested.values()), return_counts=True)
    return float(counts.max() / counts.min()) if len(counts) else None


def _row(name: str, runs: Sequence[Run], verdict: dict[str, Any] | None) -> dict[str, Any]:
    finished = [run for run in runs if not run.diverged]
    shared = shared_pictures(finished)
    return {
        "name": name,
        "dropout": runs[0].config.dropout,
        "n": len(finished),
        "diverged": len(runs) - len(finished),
        "metrics": {key: _figure([_value(run, key) for run in finished], key, shared) for key in UNITS},
        "best_epoch": [run.summary["best_epoch"] for run in finished],
        "epochs": [run.summary["epochs"] for run in finished],
        "budget": runs[0].config.epoch_limit,
        "verdict": verdict,
    }


def _value(run: Run, key: str) -> float:
    """Return a figure of a run that finished."""
    if key == "gap":
        return float(run.summary["gap"])
    if key.startswith("train_"):
        return float(run.summary["train"][key.removeprefix("train_")])
    return _tested_value(run, key)


def _tested_value(run: Run, key: str) -> float:
    """Return a figure of the test pictures; the first version's runs did not store the balanced error."""
    stored = run.summary["test"].get(key)
    return float(_values(run, "balanced-error").mean() if stored is None else stored)


def _figure(values: Sequence[float], key: str, shared: float) -> dict[str, Any]:
    mean, low, high = mean_interval(values, shared) if values else (None, None, None)
    return {"mean": mean, "low": _possible(low, key), "high": _possible(high, key), "unit": UNITS[key]}


def _possible(bound: float | None, key: str) -> float | None:
    """Return an interval's end within what the figure can be: Student's t knows no limits."""
    if bound is None or key == "gap":
        return bound
    return max(0.0, min(1.0, bound)) if UNITS[key] == "fraction" else max(0.0, bound)


def _describe(
    difference: Difference | None, p_holm: float, interval: tuple[float, float] | None, comparisons: int
) -> dict[str, float | None]:
    keys = ("difference", "low", "high", "p_value", "p_holm", "from_seeds", "from_pictures", "needed_seeds")
    if difference is None or interval is None:
        return dict.fromkeys(keys)
    alpha = ALPHA / comparisons
    folds = isinstance(difference.spread, FoldSpread)  # there seeds and pictures vary together
    shares = (None, None) if folds else (difference.from_seeds, difference.from_pictures)
    needed = needed_repetitions(difference, alpha) if folds else needed_seeds(difference, alpha)
    return dict(zip(keys, (difference.mean, *interval, difference.p_value, p_holm, *shares, needed), strict=True))


def _describe_run(name: str, run: Run) -> dict[str, Any]:
    return {
        "policy": name,
        "seed": run.config.seed,
        **({} if run.config.fold is None else {"fold": run.config.fold}),
        "folder": f"runs/{Path(run.folder).name}",
        "status": run.summary["status"],
        "summary": run.summary,
        "epochs": run.epochs,
    }


def _next_command(runs: Sequence[Run], question: Question) -> str:
    """Return the command that trains the recommended policy, with the seed whose validation loss was lowest.

    After a cross-validation it trains on the usual split: the folds have told how good the policy is.
    """
    config = lowest_validation(runs).config
    split: dict[str, Any] = (
        {} if question.folds is None else {"fold": None, "split_seed": question.configs[0].split_seed}
    )
    return train_command(dataclasses.replace(config, out=None, threads=None, **split))
