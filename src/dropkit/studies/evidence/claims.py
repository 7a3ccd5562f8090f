"""What dropout is said to do, and what runs say of it: shown, not shown, or the opposite.

The claims: less overfitting and less co-adaptation; that activations become sparse is the paper's (Srivastava et al.,
JMLR 15, 2014, sections 7.1 and 7.2). Each is judged by one number a run, beside runs without dropout. Of layers it is
the mean over those at which the policy drops, or over all hidden ones where it drops elsewhere. A claim is shown where
the 95% interval of the mean difference (Student's t over runs with equal seeds) lies on its side of 0.

An ensemble, and that dropout works together with L2, are measured and not judged. An average errs less than one of its
members whenever these differ, however they were trained; and whether a policy pays, also beside a penalty, is for the
study's own verdict to say.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dropkit.report.numbers import decimals
from dropkit.runs.intervals import mean_interval
from dropkit.studies.evidence.quantities import OF_LAYER, OF_RUN, Quantity

Found = Mapping[str, Any]

SHOWN, OPEN, OPPOSITE = "shown", "not shown", "opposite"
UNJUDGED, UNDERTRAINED, MEASURED = "unjudged", "undertrained", "measured"


@dataclass(frozen=True)
class Claim:
    """Something that dropout is said to do.

    Attributes:
        title: what is claimed.
        words: the number that judges it.
        quantity: the same, as records call it.
        sign: 1 where the claim is that it is larger, -1 where smaller.
    """

    title: str
    words: str
    quantity: str
    sign: int

    @property
    def of_layers(self) -> bool:
        """Whether it is about layers, and not about the network as a whole."""
        return self.quantity in OF_LAYER

    @property
    def measured(self) -> Quantity:
        """The number that judges it."""
        return OF_LAYER[self.quantity] if self.of_layers else OF_RUN[self.quantity]

    def value(self, run: Found, layers: Sequence[str]) -> float | None:
        """Return a run's number, over layers by path where it is one of layers; None where there is none."""
        if not self.of_layers:
            return self.measured.find(run)
        values = [self.measured.find(layer) for layer in run["layers"] if layer["layer"] in layers]
        known = [value for value in values if value is not None]
        if not known or len(known) < len(values):
            return None
        if self.measured.unit != "ratio":
            return statistics.fmean(known)
        # Layers have scales of their own: the mean of logarithms, in which each counts the same.
        return statistics.fmean(map(math.log, known)) if min(known) > 0 else None

    def difference(self, value: float) -> float:
        """Return a difference of values as records have it: of ratios what the number changes by, as a share."""
        return math.expm1(value) if self.measured.unit == "ratio" else value

    @property
    def unit(self) -> str:
        """The unit of a difference, with a space before it."""
        return {"share": " pp", "nats": " nats", "ratio": "%", "": ""}[self.measured.unit]

    def amount(self, value: float, *, sign: bool = True) -> str:
        """Return a difference as text, without its unit.

        >>> CLAIMS[0].amount(-0.25), CLAIMS[2].amount(0.031, sign=False), CLAIMS[4].amount(-0.5)
        ('−0.250', '3.10', '−50.0')
        """
        scale, places = {"share": (100, 2), "ratio": (100, 1)}.get(self.measured.unit, (1, 3))
        return decimals(scale * value, places, sign=sign)


CLAIMS = (
    Claim("less overfitting", "the gap", "gap", -1),
    Claim("less co-adaptation, by correlation", "the correlation of units, beyond chance,", "excess", -1),
    Claim("less co-adaptation, by silencing", "what silencing half of the units costs", "cost", -1),
    Claim("sparser activations", "the share of zeros", "zero", 1),
    Claim("lower activations", "the mean activation", "mean", -1),
)
"""What a policy with dropout is held to beside a policy without."""

# What is measured, and not judged.
OF_ONE = Claim("an ensemble of thinned networks", "the error of their average", "gain", -1)
OF_PASS = Claim(OF_ONE.title, OF_ONE.words, "stand_in", -1)
TEST_ERROR = Claim("together with L2", "the test error", "test_error", -1)


def judged(
    claim: Claim,
    runs: Sequence[Found],
    others: Sequence[Found],
    *,
    beside: str,
    also: str = "",
    shared: float = 0.0,
    trained: bool = True,
) -> dict[str, Any] | None:
    """Return what runs say of a claim, as plain JSON; None where they have no number for it.

    Args:
        claim: the claim.
        runs: the policy's.
        others: those that they are held against, in the same order.
        beside: what the others are, after `lower than`.
        also: what else they differ in.
        shared: as `mean_interval` takes it.
        trained: whether the study takes both for trained long enough to be judged.
    """
    layers = deciding_layers(runs, others) if claim.of_layers else []
    found = _difference(claim, runs, others, [layer["layer"] for layer in layers], shared)
    if found is None:
        return None
    head = claim.title + (f" at {', '.join(layer['name'] for layer in layers)}" if layers else "")
    kind = _kind(claim, found) if trained else UNDERTRAINED
    told = _told(claim, found, beside) + (f"; the two differ in {also}, too" if also else "")
    if kind == UNJUDGED:
        told += "; one seed proves nothing"
    verdict = {
        SHOWN: "shown",
        OPEN: "not shown",
        OPPOSITE: "the opposite is shown",
        UNDERTRAINED: "not judged, as it was not trained long enough",
    }.get(kind)
    names = [layer["name"] for layer in layers]
    return {"quantity": claim.quantity, "kind": kind, **found, "layers": names, **_words(head, verdict, told)}


def ensemble(runs: Sequence[Found], draws: int, shared: float = 0.0) -> dict[str, Any] | None:
    """Return how the average of thinned networks errs, beside one of them and beside one pass with all units.

    Args:
        runs: of a policy.
        draws: how many thinned networks were averaged.
        shared: as `mean_interval` takes it.
    """
    beside = f"that of one of {draws}", "that of one pass with all units"
    found = [(claim, _difference(claim, runs, None, [], shared)) for claim in (OF_ONE, OF_PASS)]
    return _measured(OF_ONE, found, beside)


def with_l2(
    runs: Sequence[Found], alone: Sequence[Found], dropout: Sequence[Found] | None, shared: float = 0.0
) -> dict[str, Any] | None:
    """Return the test error of dropout with a penalty beside the penalty alone, and beside the dropout alone.

    Args:
        runs: of the policy with both.
        alone: with the same L2 penalty and no dropout.
        dropout: with the same dropout and no penalty; None where the study has no such policy.
        shared: as `mean_interval` takes it.
    """
    beside = "with the same penalty alone", "with the same dropout alone"
    groups = [alone] if dropout is None else [alone, dropout]
    found = [(TEST_ERROR, _difference(TEST_ERROR, runs, others, [], shared)) for others in groups]
    made = _measured(TEST_ERROR, found, beside[: len(groups)])
    return made if made is None else _with_note(made, "the study's verdict allows for the test pictures, too")


def _measured(
    claim: Claim, found: Sequence[tuple[Claim, dict[str, Any] | None]], beside: Sequence[str]
) -> dict[str, Any] | None:
    known = [(one, numbers, words) for (one, numbers), words in zip(found, beside, strict=True) if numbers is not None]
    if not known:
        return None
    told = "; ".join(_told(one, numbers, words) for one, numbers, words in known)
    return {
        "quantity": claim.quantity,
        "kind": MEASURED,
        **known[0][1],
        "layers": [],
        **_words(claim.title, None, told),
    }


def _with_note(made: dict[str, Any], note: str) -> dict[str, Any]:
    return {**made, **{key: f"{made[key].rstrip('.')}; {note}." for key in ("told", "sentence")}}


def _difference(
    claim: Claim, runs: Sequence[Found], others: Sequence[Found] | None, paths: Sequence[str], shared: float
) -> dict[str, Any] | None:
    """Return the mean difference with its interval; None where a run has no such number."""
    after = [claim.value(run, paths) for run in runs]
    before = [0.0] * len(runs) if others is None else [claim.value(run, paths) for run in others]
    differences = [a - b for a, b in zip(after, before, strict=True) if a is not None and b is not None]
    if not runs or len(differences) < len(runs):
        return None
    bounds = [None if bound is None else claim.difference(bound) for bound in mean_interval(differences, shared)]
    return {**dict(zip(("difference", "low", "high"), bounds, strict=True)), "n": len(runs)}


def deciding_layers(runs: Sequence[Found], others: Sequence[Found]) -> list[Found]:
    """Return the layers that decide, of those that all runs have: where the policy drops; if nowhere, all."""
    everywhere = [{layer["layer"] for layer in run["layers"]} for run in (*runs, *others)]
    common = set.intersection(*everywhere) if everywhere else set()
    layers = [layer for layer in runs[0]["layers"] if layer["layer"] in common] if runs else []
    return [layer for layer in layers if layer["rate"] > 0] or layers


def _kind(claim: Claim, found: Found) -> str:
    if found["low"] is None or found["high"] is None:
        return UNJUDGED
    least, most = sorted((claim.sign * found["low"], claim.sign * found["high"]))
    return SHOWN if least > 0 else OPPOSITE if most < 0 else OPEN


def _told(claim: Claim, found: Found, beside: str) -> str:
    """Say by how much the number is higher or lower, with its interval where there is one."""
    amount = claim.amount(abs(found["difference"]), sign=False) + claim.unit
    word = "higher" if found["difference"] > 0 else "lower"
    even = not any(digit in "123456789" for digit in amount)
    told = f"{claim.words} is {f'as high, rounded, as {beside}' if even else f'{amount} {word} than {beside}'}"
    if found["low"] is None:
        return told
    bounds = f"{claim.amount(found['low'])} to {claim.amount(found['high'])}{claim.unit}"
    return f"{told} (95% interval {bounds}; n = {found['n']})"


def _words(head: str, verdict: str | None, told: str) -> dict[str, str]:
    """Return the claim and where it was judged (`head`), the numbers (`told`), and all in a line (`sentence`)."""
    line = f"{head}: {told}" if verdict is None else f"{head}: {verdict}. {_sentence(told)}"
    return {"head": head, "told": _sentence(told), "sentence": _sentence(line)}


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:].rstrip('.')}."
