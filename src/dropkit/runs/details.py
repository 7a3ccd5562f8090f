"""What lies behind a policy's error: which classes are confused, how sure it is, what it looks for, where it is wrong.

Confusion, recall and calibration count the predictions of every run, as the error of a study does. The pictures are
those of the mean probabilities over the runs, so that what is shown is the policy's answer and not one seed's.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dropkit.data.pictures import Pictures
from dropkit.data.png import data_uri
from dropkit.files import read_record
from dropkit.runs.filters import first_filters
from dropkit.runs.intervals import mean_interval
from dropkit.runs.metrics import recall, softmax
from dropkit.runs.record import RunFolder
from dropkit.runs.run import Run
from dropkit.uncertainty.calibration import reliability

Array = NDArray[np.float64]
Whole = NDArray[np.int64]

MOST_PICTURES = 12
MOST_CONFUSED = 100  # classes: a larger matrix would make the page heavy, and nobody could read it
BINS = 10


@dataclass(frozen=True)
class _Tested:
    """What one run said of its test pictures: their indices [n], its probabilities [n, K], the truth [n]."""

    indices: Whole
    probabilities: Array
    labels: Whole

    @property
    def predicted(self) -> Whole:
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)


def run_details(run: Run, pictures: Pictures) -> dict[str, Any]:
    """Return the details of a single run; see `details`."""
    return details({run.config.dropout: [run]}, pictures, policy=run.config.dropout, against=None)


def details(
    groups: Mapping[str, Sequence[Run]], pictures: Pictures, *, policy: str, against: str | None
) -> dict[str, Any]:
    """Return confusion, recall, calibration and filters of every policy, and the pictures that tell them apart.

    Runs that diverged are left out, and so are policies of which no run is left.

    Args:
        groups: the runs of each policy. Each is asked which pictures it was tested on, so that the folds of a
            cross-validation work too: there every picture is tested once a repetition.
        pictures: what they were tested on.
        policy: whose mistakes are shown.
        against: the policy before, for the pictures where `policy` changed the answer; None shows none.

    Returns:
        Plain JSON: {"classes", "policies": [...], "pictures": {...} or None}.
    """
    place = {name: i for i, name in enumerate(pictures.ids)}
    kept = {name: [run for run in runs if not run.diverged] for name, runs in groups.items()}
    tested = {name: [_read(run, place) for run in runs] for name, runs in kept.items() if runs}
    return {
        "classes": list(pictures.class_names),
        "policies": [_policy(name, kept[name], of_runs, pictures.classes) for name, of_runs in tested.items()],
        "pictures": _pictures(tested, pictures, policy, against) if policy in tested else None,
    }


def _read(run: Run, place: Mapping[str, int]) -> _Tested:
    logits, labels = run.test_predictions()
    names = read_record(RunFolder(run.folder).split)["test"]
    indices = np.array([place[name] for name in names], dtype=np.int64)
    return _Tested(indices, softmax(logits.numpy()), labels.numpy().astype(np.int64))


def _policy(name: str, runs: Sequence[Run], tested: Sequence[_Tested], classes: int) -> dict[str, Any]:
    truth = {int(i): int(label) for each in tested for i, label in zip(each.indices, each.labels, strict=True)}
    return {
        "name": name,
        "runs": len(runs),
        "n": sum(len(each.labels) for each in tested),
        "support": np.bincount(list(truth.values()), minlength=classes).tolist(),
        "confusion": _confusion(tested, classes).tolist() if classes <= MOST_CONFUSED else None,
        "recall": _recall(tested, classes, shared_pictures(runs)),
        "calibration": _calibration(tested),
        "filters": first_filters(lowest_validation(runs)),
    }


def shared_pictures(runs: Sequence[Run]) -> float:
    """Return test pictures over training pictures for the folds of a cross-validation, 0 for other runs.

    It is `mean_interval`'s `shared`. Training pictures are those that the weights were fitted to, not those of the
    validation split, which only choose the epoch: the larger ratio, and so the wider interval, of the two.
    """
    data = [run.summary["data"] for run in runs if run.config.fold is not None]
    return sum(each["test"] for each in data) / sum(each["train"] for each in data) if data else 0.0


def _confusion(tested: Sequence[_Tested], classes: int) -> Whole:
    """Return how often each class (row) was taken for each (column), summed over the runs."""
    pairs = np.concatenate([each.labels * classes + each.predicted for each in tested])
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def _recall(tested: Sequence[_Tested], classes: int, shared: float) -> list[dict[str, float | None] | None]:
    """Return each class's recall with its interval over runs; None for a class that no run was tested on."""
    rows = [recall(each.probabilities, each.labels) for each in tested]
    found: list[dict[str, float | None] | None] = []
    for label in range(classes):
        values = [value for row in rows if (value := row[label]) is not None]
        found.append(_fraction(values, shared) if values else None)
    return found


def _fraction(values: Sequence[float], shared: float) -> dict[str, float | None]:
    """Return the mean and the interval of fractions; the interval ends at 0 and 1 too."""
    mean, low, high = mean_interval(values, shared)
    return {
        "mean": mean,
        "low": None if low is None else max(low, 0.0),
        "high": None if high is None else min(high, 1.0),
    }


def _calibration(tested: Sequence[_Tested]) -> dict[str, Any]:
    """Return mean confidence and accuracy in ten equal bins (low, high] of the top probability.

    Source: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, sec. 2.
    """
    top = np.concatenate([each.probabilities.max(axis=1) for each in tested])
    right = np.concatenate([each.predicted == each.labels for each in tested])
    found = reliability(top, right, BINS)
    confidence, accuracy = (
        [float(mean) if n else None for mean, n in zip(means, found.count, strict=True)]
        for means in (found.confidence, found.accuracy)
    )
    return {
        "edges": found.edges.tolist(),
        "confidence": confidence,
        "accuracy": accuracy,
        "count": found.count.tolist(),
        "ece": found.ece,
    }


def lowest_validation(runs: Sequence[Run]) -> Run:
    """Return the run whose validation loss is lowest: the one to use, chosen without a look at the test pictures."""
    return min(runs, key=lambda run: float(run.summary["val"]["loss"]) if run.summary["val"] else math.inf)


def _pictures(
    tested: Mapping[str, Sequence[_Tested]], pictures: Pictures, policy: str, against: str | None
) -> dict[str, Any]:
    after = _mean_answer(tested[policy])
    wrong = _ranked(after.predicted != after.labels, after.probabilities.max(axis=1))
    fixed, broken, changes = _NONE, _NONE, []
    if against is not None and against in tested:
        before = _mean_answer(tested[against])
        if np.array_equal(before.indices, after.indices):
            fixed, broken = _changed(before, after)
            changes = [("before", before), ("after", after)]
    return {
        "policy": policy,
        "against": against,
        "runs": len(tested[policy]),
        "n": len(after.labels),
        "mistakes": [_shown(pictures, after, row) | _answer(after, row) for row in wrong[:MOST_PICTURES]],
        **{
            kind: [
                _shown(pictures, after, row) | {when: _answer(answer, row) for when, answer in changes}
                for row in rows[:MOST_PICTURES]
            ]
            for kind, rows in (("fixed", fixed), ("broken", broken))
        },
        "counts": {"mistakes": len(wrong), "fixed": len(fixed), "broken": len(broken)},
    }


def _changed(before: _Tested, after: _Tested) -> tuple[Whole, Whole]:
    """Return the rows that became right and those that became wrong; first where the truth's probability moved most."""
    was_wrong, is_wrong = before.predicted != before.labels, after.predicted != after.labels
    moved = after.probabilities - before.probabilities
    gain = np.take_along_axis(moved, after.labels[:, None], axis=1)[:, 0]
    return _ranked(was_wrong & ~is_wrong, gain), _ranked(~was_wrong & is_wrong, -gain)


_NONE: Whole = np.zeros(0, dtype=np.int64)


def _ranked(chosen: NDArray[np.bool_], by: Array) -> Whole:
    """Return the rows that are chosen, the largest `by` first."""
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(-by[rows], kind="stable")]


def _mean_answer(tested: Sequence[_Tested]) -> _Tested:
    """Return the mean probabilities of every picture over the runs that were tested on it."""
    indices, row = np.unique(np.concatenate([each.indices for each in tested]), return_inverse=True)
    probabilities = np.concatenate([each.probabilities for each in tested])
    total = np.zeros((len(indices), probabilities.shape[1]))
    np.add.at(total, row, probabilities)
    labels = np.zeros(len(indices), dtype=np.int64)
    labels[row] = np.concatenate([each.labels for each in tested])
    return _Tested(indices, total / np.bincount(row)[:, None], labels)


def _shown(pictures: Pictures, answer: _Tested, row: int) -> dict[str, Any]:
    index = answer.indices[row : row + 1]
    return {
        "id": pictures.ids[int(index[0])],
        "image": data_uri(pictures.read(index)[0].numpy()),
        "true": int(answer.labels[row]),
    }


def _answer(answer: _Tested, row: int) -> dict[str, Any]:
    return {"predicted": int(answer.predicted[row]), "confidence": float(answer.probabilities[row].max())}
