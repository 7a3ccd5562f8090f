"""Learning curves out of a record: one policy's runs, their mean, and the best epoch."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dropkit.report.numbers import finite, plural, span

Curve = dict[int, float | None]
"""From the epoch (counted from 1) to a value; None where the run's number was not finite."""

KINDS = ("train_loss", "val_loss", "train_error", "val_error", "gap")


@dataclass(frozen=True)
class Trace:
    """One run's curves."""

    seed: str
    finished: bool
    best_epoch: int | None
    curves: Mapping[str, Curve]

    @property
    def length(self) -> int:
        """The last epoch that the run recorded."""
        return max(self.curves["val_loss"], default=0)


@dataclass(frozen=True)
class PolicyCurves:
    """The runs of one policy that recorded at least one epoch."""

    name: str
    colour: str
    traces: Sequence[Trace]

    @property
    def counted(self) -> list[Trace]:
        """The runs that the mean is taken over: the finished ones, or all where none finished."""
        return [trace for trace in self.traces if trace.finished] or list(self.traces)

    def mean(self, kind: str) -> Curve:
        """Return the mean over the runs, at each epoch where at least half of them have a finite number."""
        counted = self.counted
        result: Curve = {}
        for epoch in range(1, max((trace.length for trace in counted), default=0) + 1):
            values = [v for trace in counted if (v := trace.curves[kind].get(epoch)) is not None]
            result[epoch] = statistics.fmean(values) if values and 2 * len(values) >= len(counted) else None
        return result

    @property
    def best_epoch(self) -> int | None:
        """The median of the runs' best epochs (the lower one of two)."""
        epochs = [trace.best_epoch for trace in self.counted if trace.best_epoch is not None]
        return statistics.median_low(epochs) if epochs else None

    @property
    def length(self) -> int:
        """The last epoch of the longest run."""
        return max((trace.length for trace in self.traces), default=0)


def diverged(run: Mapping[str, Any]) -> bool:
    """Whether the run's loss stopped being a finite number: its record or its summary says so."""
    return "diverged" in {run.get("status"), (run.get("summary") or {}).get("status")}


def read_trace(run: Mapping[str, Any]) -> Trace:
    """Return the curves of a run's record. Errors become percent; losses stay in nats."""
    epochs = [row for row in run.get("epochs") or () if finite(row.get("epoch")) is not None]
    curves: dict[str, Curve] = {kind: {} for kind in KINDS}
    for row in epochs:
        epoch = int(row["epoch"])
        for kind in KINDS[:4]:
            value = finite(row.get(kind))
            curves[kind][epoch] = 100 * value if value is not None and kind.endswith("error") else value
        train, validation = curves["train_loss"][epoch], curves["val_loss"][epoch]
        curves["gap"][epoch] = None if train is None or validation is None else validation - train
    best = finite((run.get("summary") or {}).get("best_epoch"))
    return Trace(
        seed=str(run.get("seed", "")),
        finished=not diverged(run),
        best_epoch=None if best is None else int(best),
        curves=curves,
    )


def read_policy(name: str, colour: str, runs: Sequence[Mapping[str, Any]]) -> PolicyCurves:
    """Return the curves of the runs that belong to one policy."""
    traces = [read_trace(run) for run in runs]
    return PolicyCurves(name, colour, [trace for trace in traces if trace.length])


def remarks(policies: Sequence[PolicyCurves]) -> list[str]:
    """Return what a reader must know about the means: runs that end early, runs that diverged."""
    counted = [policy.counted for policy in policies if policy.traces]
    found = []
    if any(len({trace.length for trace in traces}) > 1 for traces in counted):
        lengths = span(trace.length for traces in counted for trace in traces)
        found.append(
            f"The runs took {lengths} epochs: a mean is drawn only while at least half of its runs go on, "
            "and may step where one of them ends."
        )
    failed = sum(not trace.finished for policy in policies for trace in policy.traces)
    if failed:
        found.append(f"{plural(failed, 'run')} diverged: drawn faint, left out of the means of those that finished.")
    return found
