"""What dropout is said to do, and what runs say of it: shown, not shown, or the opposite.

The claims: less overfitting, less co-adaptation, an ensemble of thinned networks, and that it works together with L2;
that activations become sparse is the paper's (Srivastava et al., JMLR 15, 2014, sections 7.1 and 7.2). Each is judged
by one number a run. Of layers it is the mean over those at which the policy drops, or over all hidden ones where it
drops elsewhere. A claim is shown where the 95% interval of the mean difference (Student's t over runs with equal seeds)
lies on its side of 0.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dropkit.report.numbers import decimals
from dropkit.runs.intervals import mean_interval
from dropkit.studies.evidence.quantities import OF_LAYER, OF_RUN, Quantity

Found = Mapping[str, Any]

SHOWN, OPEN, OPPOSITE, UNJUDGED = "shown", "not shown", "opposite", "unjudged"


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
        return statistics.fmean(known) if known and len(known) == len(values) else None

    @property
    def unit(self) -> str:
        """The unit of a difference, with a space before it."""
        return {"share": " pp", "nats": " nats", "": ""}[self.measured.unit]

    def amount(self, value: float, *, sign: bool = True) -> str:
        """Return a difference as text, without its unit.

        >>> CLAIMS[0].amount(-0.25), CLAIMS[2].amount(0.031, sign=False)
        ('−0.250', '3.10')
        """
        scale, places = (100, 2) if self.measured.unit == "share" else (1, 3)
        return decimals(scale * value, places, sign=sign)


CLAIMS = (
    Claim("less overfitting", "the gap", "gap", -1),
    Claim("less co-adaptation, by correlation", "the correlation of units, beyond chance,", "excess", -1),
    Claim("less co-adaptation, by silencing", "what silencing half of the units costs", "cost", -1),
    Claim("sparser activations", "the share of zeros", "zero", 1),
    Claim("lower activations", "the mean activation", "mean", -1),
)
"""What a policy with dropout is held to beside the first policy."""

ENSEMBLE = Claim("an ensemble of thinned networks", "the error of their average", "gain", -1)
WITH_L2 = Claim("works together with L2", "the test error", "test_error", -1)


def judged(
    claim: Claim, runs: Sequence[Found], others: Sequence[Found] | None, *, beside: str, shared: float = 0.0
) -> dict[str, Any] | None:
    """Return what runs say of a claim, as plain JSON; None where they have no number for it.

    Args:
        claim: the claim.
        runs: the policy's.
        others: those that they are held against, in the same order; None where the number is a difference already.
        beside: what the others are, after `lower than`.
        shared: as `mean_interval` takes it.
    """
    layers = deciding_layers(runs, others or runs) if claim.of_layers else []
    paths = [layer["layer"] for layer in layers]
    after = [claim.value(run, paths) for run in runs]
    before = [0.0] * len(runs) if others is None else [claim.value(run, paths) for run in others]
    differences = [a - b for a, b in zip(after, before, strict=True) if a is not None and b is not None]
    if not runs or len(differences) < len(runs):
        return None
    mean, low, high = mean_interval(differences, shared)
    names = [layer["name"] for layer in layers]
    found = {"difference": mean, "low": low, "high": high, "n": len(runs), "layers": names}
    kind = _kind(claim, low, high)
    words = _words(claim, found, kind, beside)
    return {"quantity": claim.quantity, "kind": kind, **found, **words}


def deciding_layers(runs: Sequence[Found], others: Sequence[Found]) -> list[Found]:
    """Return the layers that decide, of those that all runs have: where the policy drops; if nowhere, all."""
    everywhere = [{layer["layer"] for layer in run["layers"]} for run in (*runs, *others)]
    common = set.intersection(*everywhere) if everywhere else set()
    layers = [layer for layer in runs[0]["layers"] if layer["layer"] in common] if runs else []
    return [layer for layer in layers if layer["rate"] > 0] or layers


def _kind(claim: Claim, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return UNJUDGED
    least, most = sorted((claim.sign * low, claim.sign * high))
    return SHOWN if least > 0 else OPPOSITE if most < 0 else OPEN


def _words(claim: Claim, found: Found, kind: str, beside: str) -> dict[str, str]:
    """Return the claim and where it was judged (`head`), the numbers (`told`), and all in a line (`sentence`)."""
    head = claim.title + (f" at {', '.join(found['layers'])}" if found["layers"] else "")
    amount = claim.amount(abs(found["difference"]), sign=False) + claim.unit
    word = "higher" if found["difference"] > 0 else "lower"
    even = not any(digit in "123456789" for digit in amount)
    told = f"{claim.words} is {f'as high, rounded, as {beside}' if even else f'{amount} {word} than {beside}'}"
    if kind == UNJUDGED:
        told += "; one seed proves nothing"
        return {"head": head, "told": _sentence(told), "sentence": _sentence(f"{head}: {told}")}
    verdict = {SHOWN: "shown", OPEN: "not shown", OPPOSITE: "the opposite is shown"}[kind]
    bounds = f"{claim.amount(found['low'])} to {claim.amount(found['high'])}{claim.unit}"
    told += f" (95% interval {bounds}; n = {found['n']})"
    return {"head": head, "told": _sentence(told), "sentence": _sentence(f"{head}: {verdict}. {_sentence(told)}")}


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:].rstrip('.')}."
