"""How numbers are written on the page: percent, points, nats, intervals. What is missing is a dash."""

import math
from collections.abc import Iterable
from typing import Any

DASH = "–"


def finite(value: Any) -> float | None:
    """Return `value` as a float, or None where it is no finite number.

    >>> finite(3), finite(float("nan")), finite(None), finite("3")
    (3.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def whole(value: Any) -> str:
    """Return a count, thousands set apart by a comma.

    >>> whole(1797)
    '1,797'
    """
    number = finite(value)
    return DASH if number is None else f"{number:,.0f}"


def decimals(value: Any, places: int = 3, *, sign: bool = False) -> str:
    """Return a number with `places` decimals, a true minus, and no minus before a zero.

    >>> decimals(-0.12345), decimals(0.5, 2, sign=True), decimals(-0.0001), decimals(None)
    ('−0.123', '+0.50', '0.000', '–')
    """
    number = finite(value)
    if number is None:
        return DASH
    rounded = round(number, places) or 0.0
    mark = "−" if rounded < 0 else "+" if sign and rounded > 0 else ""
    return f"{mark}{abs(rounded):.{places}f}"


def percent(value: Any, places: int = 2) -> str:
    """Return a fraction as percent.

    >>> percent(0.01234), percent(0.01234, 1)
    ('1.23\\xa0%', '1.2\\xa0%')
    """
    number = finite(value)
    return DASH if number is None else f"{decimals(100 * number, places)}\u00a0%"


def quantity(value: Any, metric: str) -> str:
    """Return a value: an error as percent; `nll`, `gap` (nats) and `ece` (a fraction) plainly."""
    return percent(value) if in_percent(metric) else decimals(value)


def difference(value: Any, metric: str) -> str:
    """Return a difference of two errors (percentage points) or losses (nats), signed.

    >>> difference(-0.0142, "error"), difference(0.2, "nll")
    ('−1.42\\xa0pp', '+0.200\\xa0nats')
    """
    number = finite(value)
    if number is None:
        return DASH
    if in_nats(metric):
        return f"{decimals(number, 3, sign=True)}\u00a0nats"
    return f"{decimals(100 * number, 2, sign=True)}\u00a0pp"


def interval(low: Any, high: Any, metric: str, *, sign: bool = False) -> str:
    """Return the bounds in the metric's unit, without the unit; empty where one is missing.

    >>> interval(0.011, 0.0342, "error"), interval(None, 0.2, "nll")
    ('1.10 to 3.42', '')
    """
    bounds = finite(low), finite(high)
    if bounds[0] is None or bounds[1] is None:
        return ""
    scale, places = (100, 2) if in_percent(metric) else (1, 3)
    first, last = (decimals(scale * bound, places, sign=sign) for bound in bounds if bound is not None)
    return f"{first} to {last}"


def in_nats(metric: str) -> bool:
    """Whether the metric is a loss in nats; otherwise it is a fraction."""
    return metric in {"nll", "gap", "loss"}


def in_percent(metric: str) -> bool:
    """Whether the metric is a fraction that is written as percent: the errors and the recall are, the ECE is not.

    >>> in_percent("error"), in_percent("balanced-error"), in_percent("ece")
    (True, True, False)
    """
    return metric.replace("-", "_") in {"error", "balanced_error", "recall"}


def metric_name(metric: str) -> str:
    """Return the words for a study's metric, measured on the test pictures.

    >>> metric_name("balanced-error")
    'balanced test error'
    """
    return {"nll": "test loss (NLL)", "balanced-error": "balanced test error"}.get(metric, "test error")


def p_value(value: Any) -> str:
    """Return a p value.

    >>> p_value(0.0000012), p_value(0.0312), p_value(1.0)
    ('< 0.001', '0.031', '1.000')
    """
    number = finite(value)
    if number is None:
        return DASH
    return "< 0.001" if number < 0.001 else f"{number:.3f}"


def duration(seconds: Any) -> str:
    """Return a time that people can read.

    >>> duration(812.3), duration(4.26), duration(7322)
    ('13 min 32 s', '4.3 s', '2 h 2 min')
    """
    number = finite(seconds)
    if number is None or number < 0:
        return DASH
    if number < 9.95:
        return f"{number:.1f} s"
    total = round(number)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60} s"
    minutes = round(number / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def span(values: Iterable[Any]) -> str:
    """Return the range of some counts; one number where they agree.

    >>> span([12, 14, 12]), span([7, 7]), span([])
    ('12 to 14', '7', '–')
    """
    numbers = [number for number in map(finite, values) if number is not None]
    if not numbers:
        return DASH
    low, high = whole(min(numbers)), whole(max(numbers))
    return low if low == high else f"{low} to {high}"


def plural(count: int, noun: str) -> str:
    """Return the count and its noun.

    >>> plural(1, "seed"), plural(1200, "epoch")
    ('1 seed', '1,200 epochs')
    """
    return f"{whole(count)} {noun}{'' if count == 1 else 's'}"
