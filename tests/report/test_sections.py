"""Which sections a page has, and in which order."""

import re
from types import ModuleType
from typing import Any

import pytest

from dropkit.report.page import render
from dropkit.report.sections import detail_blocks

FROM_DETAILS = ["recall", "calibration", "confusion", "filters", "mistakes", "changes"]


def sections(page: str) -> list[str]:
    return re.findall(r'<section id="([a-z]+)"', page)


def test_a_full_study_has_every_section_in_order(synthetic: ModuleType, synthetic_details: ModuleType) -> None:
    record = synthetic.sweep()
    names = tuple(policy["name"] for policy in record["policies"])
    record["details"] = synthetic_details.details(names, ["cat", "dog", "owl"], 3)
    page = render(record)
    assert sections(page) == [
        *("results", "policies", "differences", "learning", "gap", "rates"),
        *FROM_DETAILS,
        "runs",
    ]
    assert page.index("<h1>") < page.index('<section id="results"')


def test_a_full_run_has_those_that_need_no_comparison(full_run: dict[str, Any]) -> None:
    assert sections(render(full_run)) == ["results", "learning", "gap", *FROM_DETAILS[:-1]]


def test_every_section_has_a_meaning_a_count_and_a_place_in_the_contents(full_study: dict[str, Any]) -> None:
    page = render(full_study)
    for name in sections(page):
        if name not in ("policies", "runs", "recommendation"):
            assert f'href="#{name}"' in page
    for block in detail_blocks(full_study):
        words = " ".join([*block.notes, *(panel.caption for panel in block.all_panels())])
        assert block.meaning
        assert "n = " in words


@pytest.mark.parametrize("part", ["confusion", "recall", "calibration", "filters", "support"])
@pytest.mark.parametrize("missing", ["absent", None])
def test_a_part_that_no_policy_has_leaves_its_section_out(full_study: dict[str, Any], part: str, missing: None) -> None:
    for row in full_study["details"]["policies"]:
        row[part] = None
        if missing == "absent":
            del row[part]
    found = [block.id for block in detail_blocks(full_study)]
    assert found == [name for name in FROM_DETAILS if name != part]


def test_without_pictures_their_sections_are_left_out(full_study: dict[str, Any]) -> None:
    full_study["details"]["pictures"] = None
    assert [block.id for block in detail_blocks(full_study)] == FROM_DETAILS[:4]


def test_only_classes_give_no_sections(full_study: dict[str, Any]) -> None:
    full_study["details"]["policies"] = [{"name": "none"}]
    full_study["details"]["pictures"] = {}
    assert detail_blocks(full_study) == []
    assert "None" not in re.sub(r"<script.*?</script>", "", render(full_study), flags=re.DOTALL)


def test_every_id_of_a_page_is_its_own(full_study: dict[str, Any]) -> None:
    page = re.sub(r"<script.*?</script>", "", render(full_study), flags=re.DOTALL)
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    referred = re.findall(r'(?:aria-controls|aria-labelledby)="([^"]*)"', page) + re.findall(r'href="#([^"]+)"', page)
    assert set(referred) <= set(ids)
