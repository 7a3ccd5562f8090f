"""First-layer filters as pictures."""

from types import ModuleType
from typing import Any

import pytest

from dropkit.report.details import read_details
from dropkit.report.filters import filters_block
from dropkit.report.panels import Block


def block(synthetic_details: ModuleType, **change: Any) -> Block | None:
    made = synthetic_details.details(("none", "fc=0.5"), ["a", "b"], 2)
    for row in made["policies"]:
        row["filters"].update(change)
    return filters_block(read_details({"details": made}))  # type: ignore[arg-type]


def test_the_title_says_layer_and_shape(synthetic_details: ModuleType) -> None:
    made = block(synthetic_details)
    assert made is not None
    assert made.title == "First-layer filters: conv1 (32 filters, 3 × 3 pixels, 1 channel)"


def test_each_policy_has_its_picture_enlarged_by_a_whole_number(synthetic_details: ModuleType) -> None:
    made = block(synthetic_details, shape=[64, 3, 3, 5], seed=7)
    assert made is not None
    assert "(64 filters, 3 × 5 pixels, 3 channels)" in made.title
    none, half = made.panes[0].images
    assert (none.title, half.title) == ("none", "fc=0.5")
    assert none.image.uri != half.image.uri
    assert none.width == 10 * none.image.width == 310
    assert none.note == "seed 7, 32 of 64 filters"


@pytest.mark.parametrize("image", [None, "", "data:image/svg+xml;base64,AAAA"])
def test_without_a_picture_there_is_no_block(synthetic_details: ModuleType, image: Any) -> None:
    assert block(synthetic_details, image=image) is None


def test_a_network_without_filters_leaves_its_place_to_the_others(synthetic_details: ModuleType) -> None:
    made = synthetic_details.details(("none", "fc=0.5"), ["a", "b"], 2)
    made["policies"][0]["filters"] = None
    found = filters_block(read_details({"details": made}))  # type: ignore[arg-type]
    assert found is not None
    assert [image.title for image in found.panes[0].images] == ["fc=0.5"]
