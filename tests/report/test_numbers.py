"""Numbers as the page writes them."""

import math

import pytest

from dropkit.report import numbers

NO_NUMBERS = [None, math.nan, math.inf, -math.inf, "0.3", True, [], {}]


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_what_is_no_finite_number_is_a_dash(value: object) -> None:
    assert numbers.finite(value) is None
    written = [
        numbers.percent(value),
        numbers.decimals(value),
        numbers.whole(value),
        numbers.p_value(value),
        numbers.duration(value),
        numbers.difference(value, "error"),
        numbers.quantity(value, "nll"),
        numbers.span([value]),
    ]
    assert written == ["–"] * 8
    assert numbers.interval(value, 0.5, "error") == numbers.interval(0.5, value, "nll") == ""


@pytest.mark.parametrize(
    ("metric", "value", "text", "change"),
    [
        ("error", 0.12345, "12.35\xa0%", "+12.35\xa0pp"),
        ("nll", 0.12345, "0.123", "+0.123\xa0nats"),
        ("gap", -0.5, "−0.500", "−0.500\xa0nats"),
    ],
)
def test_a_metric_keeps_its_unit(metric: str, value: float, text: str, change: str) -> None:
    assert numbers.quantity(value, metric) == text
    assert numbers.difference(value, metric) == change


def test_the_calibration_error_is_a_plain_fraction() -> None:
    assert numbers.quantity(0.02, "ece") == "0.020"
    assert numbers.interval(0.01, 0.034, "ece") == "0.010 to 0.034"


def test_a_difference_that_rounds_to_zero_has_no_sign() -> None:
    assert numbers.difference(-0.00001, "error") == "0.00\xa0pp"
    assert numbers.difference(0.00001, "error") == "0.00\xa0pp"


def test_interval_in_percentage_points_with_signs() -> None:
    assert numbers.interval(-0.0123, 0.004, "error", sign=True) == "−1.23 to +0.40"
    assert numbers.interval(0.5, 0.75, "nll") == "0.500 to 0.750"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.7, "1 min 0 s"),
        (3599.8, "1 h 0 min"),
        (86340, "23 h 59 min"),
    ],
)
def test_durations_carry_over(seconds: float, text: str) -> None:
    assert numbers.duration(seconds) == text


def test_p_values_are_never_zero() -> None:
    assert numbers.p_value(0.0) == "< 0.001"
    assert numbers.p_value(0.001) == "0.001"


def test_plural() -> None:
    assert [numbers.plural(n, "run") for n in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]
