"""The gallery of predictions: order, words and numbers are the record's."""

from typing import Any

import pytest

from dropkit.report.page import render
from dropkit.report.predictions import predictions_view


def row(picture: str, probability: float, **more: Any) -> dict[str, Any]:
    return {"picture": picture, "class": "a", "probability": probability, "entropy": 0.5, "image": None, **more}


@pytest.fixture
def record() -> dict[str, Any]:
    sampled = {"interval": (0.5, 0.875), "mutual_information": 0.2, "std": 0.1}
    return {
        "kind": "predictions",
        "dropkit": "0.1.0",
        "network": {"data": "photos", "policy": "fc=0.5", "model": "cnn", "seed": 0, "run": "runs/a"},
        "samples": 20,
        "level": 0.95,
        "of_classes": 7,
        "read": 3,
        "errors": 2,
        "classes": {"a": 2, "<script>b": 1},
        "surest": [row("one.png", 0.9, **sampled), row("two.png", 0.8, **sampled)],
        "unsure": [row("<img src=x>.png", 0.4, **sampled)],
        "seconds": 1.0,
    }


def test_surest_and_least_sure_are_two_lists_and_told(record: dict[str, Any]) -> None:
    view = predictions_view(record)
    assert [gallery.id for gallery in view["galleries"]] == ["surest", "unsure"]
    assert [card.picture for card in view["galleries"][0].cards] == ["one.png", "two.png"]
    assert view["cut"].startswith("Shown are the 2 surest and the 1 least sure of 3 pictures")
    assert view["errors"] == "2 files could not be read as pictures."
    assert view["most"] == "1.95"  # ln 7
    record["unsure"] = []
    assert [gallery.id for gallery in predictions_view(record)["galleries"]] == ["all"]
    assert predictions_view(record)["cut"] == ""


def test_a_card_has_mark_and_band_where_the_numbers_are(record: dict[str, Any]) -> None:
    card = predictions_view(record)["galleries"][0].cards[0]
    assert card.mark == 90.0
    assert card.span == (50.0, 37.5)
    assert card.between == "50.0 to 87.5\u00a0%"
    single = predictions_view({**record, "surest": [row("one.png", 0.9)], "unsure": [], "samples": 0})
    assert single["galleries"][0].cards[0].span is None


def test_names_are_text_whatever_they_are(record: dict[str, Any]) -> None:
    page = render(record)
    assert "<img src=x>" not in page
    assert "<script>b" not in page
    assert "&lt;script&gt;b" in page
