"""What a record knows beyond its means: per class, per picture, per filter. Parts that do not fit are left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from dropkit.report import palette
from dropkit.report.numbers import finite, plural, whole

Interval = tuple[float, float | None, float | None]
"""Mean, low, high; the bounds are None where a single run gives none."""


@dataclass(frozen=True)
class PolicyDetails:
    """One policy's test predictions over all its runs."""

    name: str
    colour: str
    runs: int
    n: int
    support: Sequence[int] | None
    confusion: Sequence[Sequence[int]] | None
    recall: Sequence[Interval | None] | None
    calibration: Mapping[str, Any] | None
    filters: Mapping[str, Any] | None

    @property
    def counts(self) -> str:
        """Say how many predictions the numbers stand on."""
        runs = f" of {plural(self.runs, 'run')}" if self.runs else ""
        return f"n = {whole(self.n)} predictions{runs}"


@dataclass(frozen=True)
class Details:
    """The details of a run or a study."""

    classes: Sequence[str]
    policies: Sequence[PolicyDetails]
    pictures: Mapping[str, Any]

    @property
    def chosen(self) -> PolicyDetails:
        """The policy that is set against the first one: the recommended, or the best of the others."""
        named = [policy for policy in self.policies if policy.name == self.pictures.get("policy")]
        return (named or list(self.policies))[-1]

    def shown(self, limit: int) -> list[PolicyDetails]:
        """Return the policies to draw: all where at most `limit`, else the first and the chosen one."""
        if len(self.policies) <= limit:
            return list(self.policies)
        first, chosen = self.policies[0], self.chosen
        return [first] if first is chosen else [first, chosen]

    def class_name(self, index: Any) -> str:
        """Return the name of a class; its number where it has none."""
        known = isinstance(index, int) and 0 <= index < len(self.classes)
        return str(self.classes[index]) if known else str(index)

    def class_in_words(self, index: Any) -> str:
        """Return the name as a sentence can hold it: a bare number would read as a count."""
        name = self.class_name(index)
        return f"class {name}" if name.isdigit() else name


def read_details(record: Mapping[str, Any]) -> Details | None:
    """Return a record's details; None where it has none. Colours are those of the record's policies."""
    details = record.get("details") or {}
    classes, rows = details.get("classes"), details.get("policies")
    if not classes or not rows:
        return None
    colours = _colours(record)
    policies = [_read_policy(row, len(classes), colours) for row in rows]
    return Details([str(name) for name in classes], policies, details.get("pictures") or {})


def _colours(record: Mapping[str, Any]) -> dict[str, str]:
    names = [str(policy.get("name", "")) for policy in record.get("policies") or ()]
    return dict(zip(names, palette.policy_colours(record), strict=True))


def _read_policy(row: Mapping[str, Any], classes: int, colours: Mapping[str, str]) -> PolicyDetails:
    name = str(row.get("name", ""))
    confusion = row.get("confusion")
    recall = row.get("recall")
    support = row.get("support")
    return PolicyDetails(
        name=name,
        colour=colours.get(name, palette.colour(1)),
        runs=row.get("runs") or 0,
        n=row.get("n") or 0,
        support=support if _has_length(support, classes) else None,
        confusion=confusion if _is_square(confusion, classes) else None,
        recall=[_interval(value) for value in recall] if _has_length(recall, classes) else None,
        calibration=_calibration(row.get("calibration")),
        filters=row.get("filters") or None,
    )


def _has_length(value: Any, length: int) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, (list, tuple)) and len(value) == length


def _is_square(value: Any, size: int) -> bool:
    return _has_length(value, size) and all(_has_length(line, size) for line in value)


def _interval(value: Mapping[str, Any] | None) -> Interval | None:
    mean = finite((value or {}).get("mean"))
    if value is None or mean is None:
        return None
    return mean, finite(value.get("low")), finite(value.get("high"))


def _calibration(value: Any) -> Mapping[str, Any] | None:
    if not value:
        return None
    bins = len(value.get("count") or ())
    fits = bins > 0 and all(_has_length(value.get(key), bins) for key in ("confidence", "accuracy"))
    return value if fits and _has_length(value.get("edges"), bins + 1) else None
