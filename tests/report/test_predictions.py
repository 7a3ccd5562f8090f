"""The gallery of predictions: cards from the record, names that stay text, a small file without plotly."""

import re
from types import ModuleType
from typing import Any

import pytest

from dropkit.report.page import render
from dropkit.report.predictions import predictions_view

EVIL = "</script><img src=x onerror=alert(1)>\"'\n\u202e"


@pytest.fixture
def record(synthetic_details: ModuleType) -> dict[str, Any]:
    made: dict[str, Any] = synthetic_details.predictions(["cat", "dog"])
    return made


def body(page: str) -> str:
    return page[page.index("<body>") : page.index('id="figures"')]


def test_many_pictures_are_two_galleries_and_the_page_says_so(record: dict[str, Any]) -> None:
    view = predictions_view(record)
    assert [(gallery.id, len(gallery.cards)) for gallery in view["galleries"]] == [("surest", 5), ("unsure", 7)]
    assert view["cut"].startswith("Shown are the 5 surest and the 7 least sure of 1,000 pictures;")
    assert view["errors"] == "2 files could not be read as pictures."
    assert view["most"] == "0.69"


@pytest.mark.parametrize(("seed", "said"), [(7, "7"), (0, "0"), (None, None)])
def test_the_masks_seed_is_said_where_there_are_masks(
    record: dict[str, Any], seed: int | None, said: str | None
) -> None:
    record["seed"] = seed
    assert dict(dict(predictions_view(record)["groups"])["Pictures"]).get("seed of the masks") == said


def test_few_pictures_are_one_gallery(synthetic_details: ModuleType) -> None:
    view = predictions_view(synthetic_details.predictions(["cat", "dog"], surest=5, unsure=0))
    assert [(gallery.id, len(gallery.cards)) for gallery in view["galleries"]] == [("all", 5)]
    assert view["cut"] == ""
    assert view["answer"] == "5 pictures, from the surest to the least sure"


def test_a_card_says_probability_interval_and_measures(record: dict[str, Any]) -> None:
    row = record["surest"][0]
    row |= {"probability": 0.83, "interval": [0.605, 0.98], "entropy": 0.51, "mutual_information": 0.126, "std": 0.1}
    card = predictions_view(record)["galleries"][0].cards[0]
    assert (card.probability, card.between) == ("83.0\u00a0%", "60.5 to 98.0\u00a0%")
    assert (card.mark, card.span) == (83.0, (60.5, 37.5))
    assert card.figures == "entropy\u00a00.51, m.\u00a0i.\u00a00.13, std\u00a00.10"
    assert card.described == "probability 83.0\u00a0%, interval 60.5 to 98.0\u00a0%"


@pytest.mark.parametrize(
    ("probability", "said"), [(1.0, "100.0\u00a0%"), (0.99999, "> 99.9\u00a0%"), (0.5, "50.0\u00a0%")]
)
def test_no_card_claims_a_certainty_that_is_not_there(record: dict[str, Any], probability: float, said: str) -> None:
    record["surest"][0]["probability"] = probability
    assert predictions_view(record)["galleries"][0].cards[0].probability == said


def test_a_single_pass_has_no_interval(record: dict[str, Any]) -> None:
    record["samples"] = 0
    for row in record["surest"] + record["unsure"]:
        for name in ("interval", "std", "mutual_information"):
            del row[name]
    card = predictions_view(record)["galleries"][0].cards[0]
    assert (card.between, card.span, card.figures) == ("", None, "entropy\u00a00.00")
    page = body(render(record))
    assert "in a single pass without dropout" in page
    assert "thinned networks" not in page
    assert "None" not in page


def test_hostile_names_stay_text(record: dict[str, Any]) -> None:
    record["classes"] = {EVIL: 3}
    record["network"]["policy"] = record["network"]["data"] = record["network"]["run"] = EVIL
    for row in record["surest"]:
        row["picture"] = row["class"] = EVIL
    record["unsure"][0]["image"] = "javascript:alert(1)"
    page = render(record)
    assert "<img src=x" not in page
    assert "javascript:" not in page
    assert "\u202e" not in page
    assert len(re.findall("<img ", page)) == 11
    assert page.count("</script>") == 2  # the figures', of which there are none, and the page's own


def test_without_figures_there_is_no_plotly(record: dict[str, Any]) -> None:
    page = render(record)
    assert "Plotly, Inc." not in page
    assert len(page) < 100_000
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1].count("sha256-") == 1


def test_nothing_readable_is_said(record: dict[str, Any]) -> None:
    page = body(render({**record, "read": 0, "classes": {}, "surest": [], "unsure": []}))
    assert "No picture could be read." in page
