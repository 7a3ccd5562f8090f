"""What a comparison says in words: a verdict for each policy, a recommendation, a paragraph for the study.

Errors are fractions here and points (hundredths) in sentences; nll is in nats. Lower is better for all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dropkit.errors import DropkitError, unknown
from dropkit.runs.metrics import METRICS
from dropkit.studies.folds import FoldSpread, needed_repetitions
from dropkit.studies.rounds import describe_rounds
from dropkit.studies.statistics import (
    ALPHA,
    MOST_PICTURES,
    MOST_SEEDS,
    Difference,
    needed_pictures,
    needed_seeds,
)

Kind = Literal["helps", "hurts", "undertrained", "none", "diverged"]
_LATE = 0.9  # a best epoch beyond this share of the budget: the run was still getting better


@dataclass(frozen=True, kw_only=True)
class PolicyRuns:
    """What the verdict needs to know of one policy's runs.

    Attributes:
        name: the policy as the user wrote it.
        mean: the metric's mean over the runs that finished; NaN when none did.
        best_epochs: of each run that finished, the epoch (from 1) with the lowest validation loss.
        budget: the most epochs that a run may take.
        fixed: True where every run takes the whole budget; False where it may stop early (patience).
        diverged: how many runs ended with a loss that is not finite. They are in no figure.
    """

    name: str
    mean: float
    best_epochs: Sequence[int]
    budget: int
    fixed: bool = False
    diverged: int = 0

    @property
    def undertrained(self) -> bool:
        """Whether at least half of the runs had their best epoch within the last tenth of the budget."""
        return bool(self.best_epochs) and 2 * self.late >= len(self.best_epochs)

    @property
    def late(self) -> int:
        """How many runs had their best epoch within the last tenth of the budget."""
        return sum(epoch > _LATE * self.budget for epoch in self.best_epochs)


@dataclass(frozen=True)
class Verdict:
    """One policy's verdict against the first.

    Attributes:
        kind: "helps", "hurts", "none" (no evidence), "undertrained" (train longer before believing any) or
            "diverged".
        sentence: the same for a beginner, with its figures.
    """

    kind: Kind
    sentence: str


@dataclass(frozen=True)
class Recommendation:
    """The policy to use, and why in a sentence."""

    policy: str
    sentence: str


def judge(
    difference: Difference | None,
    *,
    metric: str,
    p_holm: float,
    base: PolicyRuns,
    other: PolicyRuns,
    interval: tuple[float, float] | None = None,
    comparisons: int = 1,
) -> Verdict:
    """Say what a paired difference means.

    In this order: with a run that diverged it is "diverged", since the remaining runs are a biased sample;
    where either policy was not trained long enough "undertrained"; then Holm's p-value below 0.05 decides.

    Args:
        difference: other less base; None where fewer than two seeds finished with both.
        metric: "error", "nll" or "balanced-error".
        p_holm: from `statistics.holm` over all policies of the study.
        base: the first policy's runs.
        other: this policy's.
        interval: from `statistics.holm_intervals`; the plain 95% interval without it.
        comparisons: how many policies were compared with the first.

    Raises:
        DropkitError: if the metric is unknown, or the difference is None although no run diverged.

    Example:
        >>> from dropkit.studies.statistics import paired_difference
        >>> d = paired_difference([[1, 1, 0, 1], [1, 1, 0, 1]], [[1, 1, 0, 1], [1, 1, 0, 1]])
        >>> base = PolicyRuns(name="none", mean=0.75, best_epochs=[3, 4], budget=20)
        >>> other = PolicyRuns(name="fc=0.5", mean=0.75, best_epochs=[5, 6], budget=20)
        >>> print(judge(d, metric="error", p_holm=1.0, base=base, other=other).sentence)
        fc=0.5 changes nothing: it is right and wrong on exactly the same test pictures as none.
    """
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    if base.diverged or other.diverged:
        return _diverged(base, other)
    if difference is None:
        raise DropkitError(f"no paired difference between {base.name} and {other.name}, yet no run diverged")
    if base.undertrained or other.undertrained:
        return _undertrained(base, other)
    ends = interval if interval is not None else (difference.low, difference.high)
    if p_holm < ALPHA:
        return _found(difference.mean, ends, metric, base, other, comparisons)
    return _no_evidence(difference, ends, metric, base, other, comparisons)


def recommend(base: PolicyRuns, others: Sequence[tuple[PolicyRuns, Verdict]], *, metric: str) -> Recommendation:
    """Pick the policy with the best mean among those that help; the first policy where none does.

    Example:
        >>> none = PolicyRuns(name="none", mean=0.16, best_epochs=[3, 4], budget=20)
        >>> print(recommend(none, [], metric="error").sentence)
        Keep none: nothing was compared with it.
    """
    helping = [runs for runs, verdict in others if verdict.kind == "helps"]
    if helping:
        best = min(helping, key=lambda runs: runs.mean)
        return Recommendation(best.name, _use(best, base, len(helping), metric))
    kinds = [verdict.kind for _, verdict in others]
    alone = base.name == "none" and not any(";" in runs.name for runs, _ in others)
    return Recommendation(base.name, _keep(base, kinds, "dropout" if alone else "another policy"))


def conclude(
    base: PolicyRuns,
    others: Sequence[tuple[PolicyRuns, Verdict]],
    *,
    metric: str,
    n_seeds: int,
    n_pictures: int,
    folds: int | None = None,
) -> str:
    """Return the study's answer in a paragraph: what was compared, what each policy did, what to do.

    With `folds` it was a cross-validation: `n_seeds` are its repetitions, and `n_pictures` all its pictures.

    Example:
        >>> none = PolicyRuns(name="none", mean=0.16, best_epochs=[3, 4], budget=20)
        >>> half = PolicyRuns(name="fc=0.5", mean=0.15, best_epochs=[3, 4], budget=20)
        >>> text = conclude(none, [(half, Verdict("helps", ""))], metric="error", n_seeds=5, n_pictures=1797)
        >>> print(text.replace(". ", ".\\n", 1))
        fc=0.5 helps, compared with none by test error on 5 seeds and 1,797 test pictures.
        Use fc=0.5: test error is 15.0% instead of 16.0% with none.
    """
    parts = []
    for kind, text in _LISTED.items():
        names = [runs.name for runs, verdict in others if verdict.kind == kind]
        parts += [text.format(_and(names))] if names else []
    where = f"on {_count(n_seeds, 'seed')} and {_count(n_pictures, 'test picture')}"
    if folds is not None:
        where = f"in {describe_rounds(n_seeds, folds)} of {_count(n_pictures, 'picture')}"
    advice = recommend(base, others, metric=metric).sentence
    if not parts:
        return advice
    answer = "; ".join(parts)
    if not any(verdict.kind in ("helps", "hurts") for _, verdict in others):
        answer = answer[0].upper() + answer[1:]  # it begins with a word of ours, not with a policy
    return f"{answer}, compared with {base.name} by {_Unit.fit(metric).name} {where}. {advice}"


_LISTED: dict[Kind, str] = {
    "helps": "{} helps",
    "hurts": "{} hurts",
    "none": "no evidence either way for {}",
    "undertrained": "too little training to judge {}",
    "diverged": "training diverged, so no verdict, for {}",
}


_NAMES = {"error": "test error", "nll": "test loss (NLL)", "balanced-error": "balanced test error"}


@dataclass(frozen=True)
class _Unit:
    """How a metric is written: its name, and with how many digits."""

    metric: str
    digits: int

    @staticmethod
    def fit(metric: str, *values: float) -> "_Unit":
        """The fewest digits at which none of the values that is not zero looks like zero (or three more)."""
        usual = 3 if metric == "nll" else 1
        smallest = min((abs(v) for v in values if v), default=1.0) * (1 if metric == "nll" else 100)
        extra = (d for d in range(3) if smallest >= 0.5 * 10.0 ** -(usual + d))
        return _Unit(metric, usual + next(extra, 3))

    @property
    def name(self) -> str:
        return _NAMES[self.metric]

    def number(self, value: float) -> str:
        """Points for errors, nats for losses, without the unit."""
        value = round(value if self.metric == "nll" else 100 * value, self.digits)
        return f"{value + 0.0:.{self.digits}f}"  # + 0.0: no minus before a zero

    def amount(self, value: float) -> str:
        return self.number(value) + (" nats" if self.metric == "nll" else " points")

    def level(self, value: float) -> str:
        return self.number(value) + (" nats" if self.metric == "nll" else "%")


def _found(
    mean: float, ends: tuple[float, float], metric: str, base: PolicyRuns, other: PolicyRuns, comparisons: int
) -> Verdict:
    kind: Kind = "helps" if mean < 0 else "hurts"
    near, far = sorted(abs(end) for end in ends)
    unit = _Unit.fit(metric, mean, near)
    sentence = (
        f"{other.name} {kind}: {unit.name} {'falls' if mean < 0 else 'rises'} by {unit.amount(abs(mean))} "
        f"({_interval(unit, near, far, comparisons)}), "
        f"from {unit.level(base.mean)} to {unit.level(other.mean)}."
    )
    return Verdict(kind, sentence)


def _no_evidence(
    d: Difference,
    ends: tuple[float, float],
    metric: str,
    base: PolicyRuns,
    other: PolicyRuns,
    comparisons: int,
) -> Verdict:
    low, high = ends
    if d.mean == low == high == 0.0:
        same = "has the same loss on" if metric == "nll" else "is right and wrong on exactly"
        sentence = f"{other.name} changes nothing: it {same} the same test pictures as {base.name}."
        return Verdict("none", sentence)
    bound = max(abs(low), abs(high))
    unit = _Unit.fit(metric, bound)
    sentence = (
        f"No evidence that {other.name} helps or hurts: {unit.name} changes by {unit.amount(d.mean)} "
        f"({_interval(unit, low, high, comparisons)}); "
        f"if there is an effect it is below {unit.amount(bound)}. " + _what_settles(d, unit, comparisons)
    )
    return Verdict("none", sentence)


def _interval(unit: _Unit, low: float, high: float, comparisons: int) -> str:
    allowing = f", allowing for {comparisons} comparisons" if comparisons > 1 else ""
    return f"95% interval {unit.number(low)} to {unit.number(high)}{allowing}"


def _what_settles(d: Difference, unit: _Unit, comparisons: int) -> str:
    if d.n_seeds == 1:
        return "One seed cannot tell how much seeds matter: compare with 5 seeds."
    alpha = ALPHA / comparisons
    seeds, pictures = needed_seeds(d, alpha), needed_pictures(d, alpha)
    effect = f"an effect of {unit.amount(abs(d.mean))}"
    if d.mean == 0.0:
        return "The two are equal on average, so no number of seeds or pictures is promised to part them."
    if isinstance(d.spread, FoldSpread):
        return _what_settles_folds(needed_repetitions(d, alpha), pictures, effect)
    if seeds is None and pictures is None:
        first, second = ("seeds", "test pictures") if d.from_seeds >= 0.5 else ("test pictures", "seeds")
        most = MOST_SEEDS if first == "seeds" else MOST_PICTURES
        return (
            f"More {first} would settle it sooner than more {second}, "
            f"but {effect} would take more than {most:,} {first}."
        )
    if pictures is None or (seeds is not None and seeds / d.n_seeds <= pictures / d.n_pictures):
        return f"More seeds would settle it sooner than more test pictures: about {seeds} seeds for {effect}."
    return f"More test pictures would settle it sooner than more seeds: about {pictures:,} for {effect}."


def _what_settles_folds(repetitions: int | None, pictures: int | None, effect: str) -> str:
    if repetitions is not None:
        return (
            f"More repetitions, which divide the same pictures anew, would settle it up to a point: "
            f"about {repetitions} for {effect}."
        )
    how_many = f"about {pictures:,} for {effect}" if pictures is not None else f"more than {MOST_PICTURES:,}"
    return f"More repetitions would not settle it, for they divide the same pictures; more pictures would: {how_many}."


def _diverged(base: PolicyRuns, other: PolicyRuns) -> Verdict:
    parts = [
        f"{runs.name} in {runs.diverged} of {_count(len(runs.best_epochs) + runs.diverged, 'run')}"
        for runs in (base, other)
        if runs.diverged
    ]
    sentence = (
        f"No verdict on {other.name}: training diverged (a loss that is not a number) with {_and(parts)}, "
        "and the remaining runs are a biased sample. Lower the learning rate and compare again."
    )
    return Verdict("diverged", sentence)


def _undertrained(base: PolicyRuns, other: PolicyRuns) -> Verdict:
    late = [runs for runs in (base, other) if runs.undertrained]
    budget = max(runs.budget for runs in late)
    cure = (
        f"Train longer: --epochs {2 * budget}, or leave --epochs out: training then stops by itself."
        if all(runs.fixed for runs in late)
        else f"Raise the limit: --max-epochs {2 * budget} (a run that no longer improves still ends early)."
    )
    sentence = (
        f"Not trained long enough to judge {other.name}: {_and([_late_runs(runs) for runs in late])} "
        f"had the best epoch within the last tenth of the {budget} epochs, "
        f"so training was still getting better. {cure}"
    )
    return Verdict("undertrained", sentence)


def _late_runs(runs: PolicyRuns) -> str:
    return f"{runs.late} of {_count(len(runs.best_epochs), 'run')} with {runs.name}"


def _use(best: PolicyRuns, base: PolicyRuns, helping: int, metric: str) -> str:
    unit = _Unit.fit(metric, best.mean - base.mean)
    several = (
        f" It is the best of {helping} that help; these were not tested against each other." if helping > 1 else ""
    )
    levels = f"{unit.level(best.mean)} instead of {unit.level(base.mean)} with {base.name}"
    return f"Use {best.name}: {unit.name} is {levels}.{several}"


def _keep(base: PolicyRuns, kinds: Sequence[Kind], what: str) -> str:
    if base.diverged:
        advice = "Lower the learning rate and compare again."
        return f"Choose nothing yet: training with {base.name} itself diverged. {advice}"
    if not kinds:
        return f"Keep {base.name}: nothing was compared with it."
    if all(kind == "undertrained" for kind in kinds):
        return "Train longer before you choose: no policy was trained long enough to be judged."
    if all(kind == "hurts" for kind in kinds):
        return f"Keep {base.name}: {what} hurts here." if what == "dropout" else f"Keep {base.name}: all others hurt."
    unjudged = sum(kind in ("undertrained", "diverged") for kind in kinds)
    if unjudged == len(kinds):
        return f"Keep {base.name} for now: no other policy could be judged."
    if unjudged:
        judged = f"{unjudged} of {len(kinds)} policies could not be judged"
        return f"Keep {base.name} for now: no evidence that {what} pays here, but {judged}."
    return f"Undecided, so keep {base.name} for now: no evidence that {what} pays here."


def _count(number: int, one: str) -> str:
    return f"{number:,} {one}{'' if number == 1 else 's'}"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
