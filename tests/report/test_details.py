"""Reading a record's details: what does not fit is left out, not drawn wrongly."""

from types import ModuleType
from typing import Any

import pytest

from dropkit.report.details import Details, read_details
from dropkit.report.palette import colour


def read(synthetic_details: ModuleType, names: tuple[str, ...], **record: Any) -> Details:
    details = read_details({"details": synthetic_details.details(names, ["a", "b", "c"], 2), **record})
    assert details is not None
    return details


@pytest.mark.parametrize("details", [None, {}, {"classes": []}, {"classes": ["a"]}, {"policies": [{"name": "a"}]}])
def test_a_record_without_details_has_none(details: Any) -> None:
    assert read_details({"details": details}) is None
    assert read_details({}) is None


def test_policies_have_the_colours_of_the_table(synthetic_details: ModuleType) -> None:
    found = read(synthetic_details, ("c", "a"), policies=[{"name": "a"}, {"name": "b"}, {"name": "c"}])
    assert [policy.colour for policy in found.policies] == [colour(2), colour(0)]


def test_all_are_shown_or_the_first_and_the_chosen(synthetic_details: ModuleType) -> None:
    found = read(synthetic_details, ("a", "b", "c"))
    found.pictures["policy"] = "b"  # type: ignore[index]
    assert [policy.name for policy in found.shown(3)] == ["a", "b", "c"]
    assert [policy.name for policy in found.shown(2)] == ["a", "b"]
    found.pictures["policy"] = "a"  # type: ignore[index]
    assert [policy.name for policy in found.shown(2)] == ["a"]


def test_without_a_chosen_policy_it_is_the_last(synthetic_details: ModuleType) -> None:
    details = synthetic_details.details(("a", "b"), ["a", "b"], 2)
    details["pictures"] = None
    found = read_details({"details": details})
    assert found is not None
    assert found.chosen.name == "b"


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("confusion", [[1, 2], [3, 4]]),
        ("confusion", [[1, 2, 3], [1, 2, 3], [1, 2]]),
        ("confusion", None),
        ("recall", [None, None]),
        ("support", [3]),
        ("calibration", {"edges": [0, 1], "count": [3], "confidence": [0.5], "accuracy": []}),
        ("calibration", {"edges": [0], "count": [3], "confidence": [0.5], "accuracy": [0.5]}),
    ],
)
def test_what_has_another_size_is_left_out(synthetic_details: ModuleType, part: str, value: Any) -> None:
    details = synthetic_details.details(("a",), ["a", "b", "c"], 2)
    assert getattr(read_details({"details": details}).policies[0], part)  # type: ignore[union-attr]
    details["policies"][0][part] = value
    assert getattr(read_details({"details": details}).policies[0], part) is None  # type: ignore[union-attr]


def test_a_class_beyond_the_names_is_its_number(synthetic_details: ModuleType) -> None:
    found = read(synthetic_details, ("a",))
    assert found.class_in_words(0) == "a"
    assert found.class_in_words(3) == "class 3"
    assert [found.class_name(index) for index in (0, 2, 3, -1, None)] == ["a", "c", "3", "-1", "None"]
