"""Pictures of mistakes and of changed answers."""

from types import ModuleType
from typing import Any

import pytest

from dropkit.report.details import Details, read_details
from dropkit.report.gallery import changes_block, mistakes_block
from dropkit.report.palette import colour
from dropkit.report.panels import Answer

CLASSES = ["cat", "dog", "owl"]


def details(synthetic_details: ModuleType, names: tuple[str, ...] = ("none", "fc=0.5"), **pictures: Any) -> Details:
    made = synthetic_details.details(names, CLASSES, 5)
    made["pictures"].update(pictures)
    found = read_details({"policies": [{"name": name} for name in names], "details": made})
    assert found is not None
    return found


def row(synthetic_details: ModuleType, **more: Any) -> dict[str, Any]:
    return {"id": "a/1.png", "image": synthetic_details.png((5, 7), "a"), "true": 1, **more}


def test_a_mistake_shows_truth_answer_and_confidence(synthetic_details: ModuleType) -> None:
    wrong = row(synthetic_details, predicted=2, confidence=0.876)
    made = mistakes_block(details(synthetic_details, mistakes=[wrong], counts={"mistakes": 31}))
    assert made is not None
    shot = made.panes[0].shots[0]
    assert (shot.id, shot.truth, shot.image.uri) == ("a/1.png", "dog", wrong["image"])
    assert list(shot.answers) == [Answer("owl", "88\u00a0%", right=False)]
    assert shot.alt == "Picture a/1.png: dog, taken for owl (88\u00a0%)"
    assert made.notes == [
        "The 1 most confident of 31 mistakes on n = 97 test pictures, fc=0.5, mean probabilities over 5 runs. "
        "The percent is the confidence in the answer."
    ]


@pytest.mark.parametrize(
    ("confidence", "text"),
    [
        (0.5, "50\u00a0%"),
        (0.9949, "99\u00a0%"),
        (0.9951, "99.51\u00a0%"),
        (0.99995, "> 99.99\u00a0%"),
        (1.0, "> 99.99\u00a0%"),
    ],
)
def test_confidence_is_never_written_as_certainty(synthetic_details: ModuleType, confidence: float, text: str) -> None:
    wrong = row(synthetic_details, predicted=2, confidence=confidence)
    made = mistakes_block(details(synthetic_details, mistakes=[wrong]))
    assert made is not None
    assert made.panes[0].shots[0].answers[0].confidence == text


def test_a_changed_answer_shows_both_answers_in_their_policies_colours(synthetic_details: ModuleType) -> None:
    before, after = {"predicted": 0, "confidence": 0.625}, {"predicted": 1, "confidence": 0.75}
    fixed = row(synthetic_details, before=before, after=after)
    broken = row(synthetic_details, before=after, after=before)
    counts = {"fixed": 17, "broken": 3}
    made = changes_block(details(synthetic_details, fixed=[fixed], broken=[broken], counts=counts))
    assert made is not None
    assert [pane.tab for pane in made.panes] == ["Put right: 17", "Made wrong: 3"]
    assert list(made.panes[0].shots[0].answers) == [
        Answer("cat", "62\u00a0%", right=False, colour=colour(0)),
        Answer("dog", "75\u00a0%", right=True, colour=colour(1)),
    ]
    assert [answer.right for answer in made.panes[1].shots[0].answers] == [True, False]
    assert made.finding == "Going from none to fc=0.5 puts 17 pictures right and makes 3 wrong."
    assert made.notes[0].startswith("n = 97 test pictures, mean probabilities over 5 runs;")


def test_a_single_run_has_mistakes_and_no_changes(synthetic_details: ModuleType) -> None:
    found = details(synthetic_details, names=("fc=0.5",), runs=1)
    made = mistakes_block(found)
    assert made is not None
    assert "fc=0.5, one run." in made.notes[0]
    assert changes_block(found) is None


def test_a_side_without_pictures_has_no_tab(synthetic_details: ModuleType) -> None:
    made = changes_block(details(synthetic_details, broken=[], counts={"fixed": 11, "broken": 0}))
    assert made is not None
    assert [pane.id for pane in made.panes] == ["fixed"]
    assert "makes 0 wrong" in made.finding


def test_what_is_no_picture_is_left_out(synthetic_details: ModuleType) -> None:
    bad = row(synthetic_details, predicted=2, confidence=0.9) | {"image": "https://example.org/a.png"}
    assert mistakes_block(details(synthetic_details, mistakes=[bad])) is None
    assert changes_block(details(synthetic_details, fixed=[], broken=[])) is None


def test_a_limit_is_named_only_where_pictures_are_left_out(synthetic_details: ModuleType) -> None:
    answer = {"predicted": 1, "confidence": 0.9}
    shown = [row(synthetic_details, before=answer, after=answer)] * 2
    whole = changes_block(details(synthetic_details, fixed=shown, broken=shown[:1], counts={"fixed": 2, "broken": 1}))
    assert whole is not None
    assert "all are shown" in whole.notes[0]
    cut = changes_block(details(synthetic_details, fixed=shown, broken=shown[:1], counts={"fixed": 7, "broken": 1}))
    assert cut is not None
    assert "at most 2 are shown" in cut.notes[0]
