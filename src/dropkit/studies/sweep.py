"""A sweep: one rate of a policy takes a range of values, and what that does to the validation loss and the gap."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from dropkit.errors import DropkitError
from dropkit.models.kinds import KINDS
from dropkit.models.policy import Policy
from dropkit.runs.details import shared_pictures
from dropkit.runs.intervals import mean_p_value
from dropkit.runs.run import Run
from dropkit.studies.statistics import ALPHA, holm

FEWEST_RATES, MOST_RATES = 2, 25
_HOW = "write one rate as START:STOP:STEP, as in fc=0:0.8:0.1 or conv=channel:0:0.5:0.1,fc=0.5"


@dataclass(frozen=True)
class Sweep:
    """The policies of a sweep, one for each rate.

    Attributes:
        text: as it was given.
        policies: the policies in the order of the rates; the others are held against the first.
        rates: the rate that varies, in each of them.
        site: where it acts.
        kind: what it drops there.
    """

    text: str
    policies: tuple[str, ...]
    rates: tuple[float, ...]
    site: str
    kind: str

    @staticmethod
    def parse(text: str) -> "Sweep":
        """Read a policy of which one rate is START:STOP:STEP, the stop included.

        Raises:
            DropkitError: if there is no range or more than one, or its rates cannot be used.

        Example:
            >>> Sweep.parse("conv=0.1,fc=0:0.5:0.25").policies
            ('conv=0.1,fc=0', 'conv=0.1,fc=0.25', 'conv=0.1,fc=0.5')
        """
        items = [item.strip() for item in str(text).split(",")]
        ranges = [i for i, item in enumerate(items) if _is_range(item)]
        if len(ranges) != 1:
            count = "more than one" if ranges else "no"
            raise DropkitError(f"sweep {text!r} has {count} range: {_HOW}")
        site, _, written = items[ranges[0]].partition("=")
        kind, numbers = _parts(written)
        rates = _rates(text, numbers)
        prefix, policies = f"{site.strip()}={kind}:" if kind else f"{site.strip()}=", []
        for rate in rates:
            items[ranges[0]] = f"{prefix}{rate}"
            policies.append(",".join(items))
            Policy.parse(policies[-1])  # what else is wrong with the policy is said now
        return Sweep(str(text), tuple(policies), tuple(map(float, rates)), site.strip(), kind or "unit")


def _is_range(item: str) -> bool:
    """Whether an item's rate is a range: more colons than the one after a kind."""
    parts = item.partition("=")[2].split(":")
    return len(parts) > 2 or (len(parts) == 2 and parts[0].strip() not in KINDS and _is_number(parts[0]))


def _parts(written: str) -> tuple[str, list[str]]:
    """Return the kind, empty where none is given, and what should be three numbers."""
    parts = [part.strip() for part in written.split(":")]
    kind = parts.pop(0) if len(parts) > 3 or parts[0] in KINDS else ""
    return kind, parts


def _is_number(text: str) -> bool:
    try:
        return Decimal(text).is_finite()
    except InvalidOperation:
        return False


def _rates(text: str, given: Sequence[str]) -> list[str]:
    """Return the rates as they are typed: decimal arithmetic, so that 3 times 0.1 is 0.3."""
    if len(given) != 3 or not all(map(_is_number, given)):
        raise DropkitError(f"sweep {text!r}: {':'.join(given)!r} is not three numbers: {_HOW}")
    start, stop, step = map(Decimal, given)
    if step <= 0:
        raise DropkitError(f"sweep {text!r}: the step must be greater than 0, but got {step}")
    for name, value in (("start", start), ("stop", stop)):
        if not 0 <= value <= 1:
            raise DropkitError(
                f"sweep {text!r}: a rate is the probability that a unit is dropped, from 0 to 1, but the {name} is "
                f"{value}"
            )
    count = int((stop - start) / step + Decimal("1e-9")) + 1 if stop >= start else 0
    if not FEWEST_RATES <= count <= MOST_RATES:
        raise DropkitError(
            f"sweep {text!r} has {count} rate{'' if count == 1 else 's'}: "
            f"give a range with {FEWEST_RATES} to {MOST_RATES} of them"
        )
    return [f"{(start + i * step).normalize():f}" for i in range(count)]


def describe_sweep(
    sweep: Sweep, groups: Mapping[str, Sequence[Run]], untrained: Collection[str] = ()
) -> dict[str, Any]:
    """Return what a study's record holds of its sweep: the rate with the lowest validation loss, where tests found
    that the network overfits (`overfits_below`, up to this rate) and underfits (`underfits_above`, from it on), and a
    sentence.

    Args:
        sweep: what was swept.
        groups: the runs of each policy, in the order of the rates; with equal positions they are paired.
        untrained: policies that were not trained long enough: nothing is claimed of them, nor against them.
    """
    paired = _finished(groups)
    curves = {
        rate: _Curve(rate, name, [paired[name][i] for i in _common(paired)])
        for rate, name in zip(sweep.rates, groups, strict=True)
        if name in paired
    }
    found: dict[str, Any] = {"text": sweep.text, "site": sweep.site, "kind": sweep.kind}
    found |= {"overfits_below": None, "underfits_above": None}
    if not curves or not _common(paired):
        return {**found, "lowest": None, "sentence": "No rate has a validation loss: every training diverged."}
    lowest = min(curves.values(), key=lambda curve: curve.mean("val"))
    tested = _Tested.of(list(curves.values()), lowest, untrained)
    return {
        **found,
        "overfits_below": tested.below[-1].rate if tested.below else None,
        "underfits_above": tested.above[-1].rate if tested.above else None,
        "lowest": {"policy": lowest.policy, "rate": lowest.rate},
        "sentence": _sentence(list(curves.values()), lowest, tested),
    }


def _finished(groups: Mapping[str, Sequence[Run]]) -> dict[str, dict[int, Run]]:
    """Return the runs that did not diverge by their position, of the policies that have any."""
    kept = {name: {i: run for i, run in enumerate(runs) if not run.diverged} for name, runs in groups.items()}
    return {name: runs for name, runs in kept.items() if runs}


def _common(paired: Mapping[str, Mapping[int, Run]]) -> list[int]:
    """Return the positions at which every policy has a run: only those can be compared."""
    positions = [set(runs) for runs in paired.values()]
    return sorted(set.intersection(*positions)) if positions else []


@dataclass(frozen=True)
class _Curve:
    """The runs of one rate."""

    rate: float
    policy: str
    runs: list[Run]

    def values(self, what: str) -> list[float]:
        """Validation loss, training loss or gap of each run, at its best epoch, in eval mode."""
        return [run.summary["gap"] if what == "gap" else run.summary[what]["loss"] for run in self.runs]

    def mean(self, what: str) -> float:
        return math.fsum(self.values(what)) / len(self.runs)


@dataclass(frozen=True)
class _Tested:
    """What tests found against the lowest rate.

    Attributes:
        worse: the rates with a higher validation loss.
        below: where it overfits, from the lowest rate of the sweep on: validation loss and gap are larger.
        above: where it underfits, from the highest rate down: validation loss and training loss are larger.
        unsaid: whether `below` and `above` leave out rates that were not trained long enough.
    """

    worse: set[float]
    below: list[_Curve]
    above: list[_Curve]
    unsaid: bool

    @staticmethod
    def of(curves: Sequence[_Curve], lowest: _Curve, untrained: Collection[str]) -> "_Tested":
        """Test every other rate against the lowest one; a single run a rate tells nothing."""
        if len(lowest.runs) < 2:
            return _Tested(set(), [], [], unsaid=False)
        worse = _above([curve for curve in curves if curve is not lowest], lowest, "val")
        left = [curve for curve in curves if curve.rate < lowest.rate]
        right = [curve for curve in curves if curve.rate > lowest.rate]
        trained = {curve.rate for curve in curves if curve.policy not in untrained}
        known = worse & trained if lowest.rate in trained else set()
        below = _run_from(left, _above(left, lowest, "gap") & known)
        above = _run_from(right[::-1], _above(right, lowest, "train") & known)
        return _Tested(worse, below, above, unsaid=len(trained) < len(curves))


def _sentence(curves: Sequence[_Curve], lowest: _Curve, tested: _Tested) -> str:
    """Say where the validation loss is lowest, and on which side of it the network overfits or underfits."""
    runs = f"{len(lowest.runs)} run{'' if len(lowest.runs) == 1 else 's'}"
    first = f"Validation loss is lowest at rate {lowest.rate:g} ({lowest.mean('val'):.3f} nats, mean of {runs})"
    if len(lowest.runs) < 2:
        return f"{first}; one run a rate cannot tell chance from effect."
    alike = [curve for curve in curves if curve.rate not in tested.worse]
    parts = [f"{first}; {_listed(curves, alike, lowest)} cannot be told from it." if len(alike) > 1 else f"{first}."]
    parts += _overfits(tested.below, lowest) + _underfits(tested.above, lowest)
    if tested.unsaid:
        parts.append("Rates that were not trained long enough are not said to overfit or underfit.")
    return " ".join(parts)


def _overfits(shown: Sequence[_Curve], lowest: _Curve) -> list[str]:
    """Say up to which rate both the validation loss and the gap are larger than at the lowest."""
    if not shown:
        return []
    end = shown[0]
    where = f"at rate {end.rate:g}" if len(shown) == 1 else f"from {end.rate:g} to {shown[-1].rate:g}"
    return [
        f"It overfits {where}: validation loss is higher and the gap to the training loss wider "
        f"({end.mean('gap'):.3f} nats at {end.rate:g}, {lowest.mean('gap'):.3f} at {lowest.rate:g})."
    ]


def _underfits(shown: Sequence[_Curve], lowest: _Curve) -> list[str]:
    """Say from which rate on both the validation loss and the training loss are larger than at the lowest."""
    if not shown:
        return []
    end = shown[0]
    where = f"at rate {end.rate:g}" if len(shown) == 1 else f"from {shown[-1].rate:g} to {end.rate:g}"
    return [
        f"It underfits {where}: the training loss itself is higher "
        f"({end.mean('train'):.3f} nats at {end.rate:g}, {lowest.mean('train'):.3f} at {lowest.rate:g})."
    ]


def _run_from(curves: Sequence[_Curve], chosen: set[float]) -> list[_Curve]:
    """Return the curves from the first one on while they are chosen."""
    stop = next((i for i, curve in enumerate(curves) if curve.rate not in chosen), len(curves))
    return list(curves[:stop])


def _above(curves: Sequence[_Curve], lowest: _Curve, what: str) -> set[float]:
    """Return the rates at which `what` is above its value at the lowest one: Holm's p-value, paired over the runs."""
    shared = shared_pictures(lowest.runs)
    base = lowest.values(what)
    gains = {c.rate: [a - b for a, b in zip(c.values(what), base, strict=True)] for c in curves}
    p_values = holm([mean_p_value(gain, shared) for gain in gains.values()])
    return {rate for (rate, gain), p in zip(gains.items(), p_values, strict=True) if p < ALPHA and math.fsum(gain) > 0}


def _listed(curves: Sequence[_Curve], chosen: Sequence[_Curve], lowest: _Curve) -> str:
    """Return the chosen rates but the lowest one's; as a range where they are many, one after the other."""
    words = [f"{curve.rate:g}" for curve in chosen if curve is not lowest]
    start = list(curves).index(chosen[0])
    if len(words) > 3 and list(curves[start : start + len(chosen)]) == list(chosen):
        return f"the other rates from {chosen[0].rate:g} to {chosen[-1].rate:g}"
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
