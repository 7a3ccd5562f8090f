"""The sections of a search on a study's page."""

import json
import re
from types import ModuleType
from typing import Any

import pytest

from dropkit.report.page import render
from dropkit.report.search import search_blocks

EVIL = "</script><img src=x onerror=alert(1)>\"'\n\u202e"
CHOSEN = "conv=channel:0.15,fc=0.45"


@pytest.fixture
def record(synthetic: ModuleType) -> dict[str, Any]:
    made: dict[str, Any] = synthetic.search()
    return made


def body(page: str) -> str:
    return page[page.index("<body>") : page.index('id="figures"')]


def words(page: str) -> str:
    """The page's text, spaces collapsed."""
    return re.sub(r"[ \n]+", " ", re.sub(r"<[^>]*>", " ", body(page)))


def ids(record: dict[str, Any]) -> list[str]:
    return [block.id for block in search_blocks(record)]


def poison(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: item if key in ("kind", "status", "metric") else poison(item) for key, item in value.items()}
    if isinstance(value, list):
        return [poison(item) for item in value]
    return value + EVIL if isinstance(value, str) else value


def test_a_search_comes_before_the_studys_other_sections(record: dict[str, Any]) -> None:
    assert ids(record) == ["search", "response", "importance", "use"]
    page = body(render(record))
    places = [page.index(f'<section id="{name}"') for name in ("results", *ids(record), "differences", "learning")]
    assert places == sorted(places)
    nav = page[page.index("<nav") : page.index("</nav>")]
    assert re.findall(r">([^<]+)</a>", nav)[:5] == ["Results", "Search", "Response", "Importance", "Use it"]


def test_a_study_without_a_search_has_none(study: dict[str, Any]) -> None:
    assert search_blocks(study) == []
    assert search_blocks({**study, "search": None}) == []
    assert 'id="use"' not in render(study)


def test_the_page_says_what_was_found_and_what_it_took(record: dict[str, Any]) -> None:
    text = words(render(record))
    for part in (
        "Of 30 policies tried on validation loss, conv=channel:0.15, fc=0.45 was best.",
        "n = 30 trials: 5 finished, 25 stopped early.",
        "58\u00a0% saved",
        "other trials that finished stopped early where trials are stopped",
        "Other choices: fc=0.45.",
        "the chosen rate trial that finished trial that was stopped early",
        "All trials as a table",
        "The lines as a table",
        "The shares as a table",
    ):
        assert part in text


def test_without_rungs_the_legend_names_none(record: dict[str, Any]) -> None:
    record["search"].update(rungs=[], response=[])
    text = words(render(record))
    assert "other trials that finished" in text
    assert "where trials are stopped" not in text


def test_commands_can_be_copied_as_they_are(record: dict[str, Any]) -> None:
    record["search"].update(train="dropkit train 'a b' <x>", python='import dropkit\nif a < b:\n    print("&")')
    page = body(render(record))
    use = page[page.index('<section id="use"') :]
    use = use[: use.index("</section>")]
    assert re.findall(r"<h3[^>]*>(.*?)</h3>", use) == ["On the command line", "In Python"]
    assert f"How to train with {CHOSEN}: best in the search, but not shown to help." in words(
        f'<body>{use}id="figures"'
    )
    shown = re.findall(r"<pre><code>(.*?)</code></pre>\s*<button type=\"button\" class=\"copy\"", use, re.DOTALL)
    assert shown == [
        "dropkit train &#39;a b&#39; &lt;x&gt;",
        "import dropkit\nif a &lt; b:\n    print(&#34;&amp;&#34;)",
    ]


def test_a_search_that_learned_little_shows_what_it_has(record: dict[str, Any]) -> None:
    record["search"].update(response=[], importance=[])
    assert ids(record) == ["search", "use"]
    record["search"].update(train="", python=None)
    assert ids(record) == ["search"]
    record["search"]["train"] = "dropkit train pets"
    assert words(render(record)).count("In Python") == 0


def test_a_diverged_trial_leaves_holes_not_nothing(record: dict[str, Any]) -> None:
    nothing = dict.fromkeys(("best_epoch", "val_loss", "val_error", "train_loss", "gap"))
    record["search"]["trials"][9].update(nothing, status="diverged", curve=[])
    record["search"]["trials"][11].update(nothing, status="diverged", curve=[2.0, float("nan")])
    page = render(record)
    assert "None" not in words(page)
    assert "nan" not in words(page).lower().split()
    figures = re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)
    assert figures is not None
    json.loads(figures[1], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_hostile_names_stay_text(record: dict[str, Any]) -> None:
    evil = poison(record)
    evil["search"]["space"]["sites"] = {EVIL: {"kinds": [EVIL], "most": 0.5}}
    for row, site in zip(evil["search"]["response"], ("conv", "fc"), strict=True):
        row["kind"], row["site"] = EVIL, site + EVIL
    for trial in evil["search"]["trials"]:
        trial["params"] |= {name + EVIL: rate for name, rate in trial["params"].items()}
        trial["status"] += EVIL
    page = render(evil)
    assert "<img src=x" not in page
    assert "\u202e" not in page
    assert page.count("</script>") == render(record).count("</script>")
    shown = body(page).replace("<wbr>", "")
    assert shown.count("&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;") > 100
    figures = json.loads(page.split('id="figures">')[1].split("</script>")[0])
    drawn = [figures[name] for name in figures if name.startswith(("search", "response", "importance"))]
    assert len(drawn) == 6
    assert "<img" not in json.dumps(drawn)
    assert "&lt;img" in json.dumps(drawn)


def test_rendering_changes_nothing_in_the_record(record: dict[str, Any], synthetic: ModuleType) -> None:
    render(record)
    assert record == synthetic.search()
