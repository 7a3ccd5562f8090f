"""What a reproduction says: that a row agrees only where its interval allows it, and what became of a claim."""

import pytest

from dropkit.studies.reproduction_words import claim_sentence, our_figure, paper_figure, row_sentence

ROW = {"name": "L2", "unit": "fraction", "n": 3, "diverged": 0, "mean": 0.02, "low": 0.015, "high": 0.025}
ROW |= {"paper": 0.0162, "paper_spread": None, "about": False, "agrees": True}
CLAIM = {"lower": "A", "higher": "B", "difference": -0.01, "low": -0.02, "high": -0.001}
CLAIM |= {"unit": "fraction", "measure": "test error"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "L2: 2.00% ±0.50 (n = 3) agrees with the paper's 1.62%: the interval contains it."),
        ({"agrees": False}, "L2: 2.00% ±0.50 (n = 3) is 0.38 points above the paper's 1.62%, why."),
        ({"agrees": False, "mean": 0.01, "high": 0.012}, "L2: 1.00% ±0.20 (n = 3) is 0.62 points below the paper's "),
        (
            {"agrees": None, "n": 1, "low": None, "high": None},
            "L2: 2.00% (n = 1) beside the paper's 1.62%: one training has no interval, so nothing can be said.",
        ),
        ({"paper": None, "agrees": None}, "L2: 2.00% ±0.50 (n = 3); the paper gives no figure."),
        (
            {"diverged": 1, "n": 2},
            "L2: 2.00% ±0.50 (n = 2; 1 training diverged and is left out) agrees with the paper's 1.62%",
        ),
        ({"mean": None, "n": 0, "diverged": 3}, "L2: no training finished; 3 trainings diverged and are left out."),
        (
            {"unit": "activation", "mean": 1.5, "low": 1.4, "high": 1.6, "paper": 2.0, "about": True, "agrees": False},
            "L2: 1.50 ±0.10 (n = 3) is 0.50 below the paper's about 2.00, why.",
        ),
    ],
)
def test_a_row_beside_the_papers(changes, sentence):
    assert row_sentence({**ROW, **changes}, "why").startswith(sentence)


def test_figures():
    assert our_figure({**ROW, "mean": None}) == "-"
    assert our_figure({**ROW, "low": None}) == "2.00%"
    assert paper_figure({**ROW, "paper": None}) == "-"
    assert paper_figure({**ROW, "paper_spread": 0.0004}) == "1.62% ±0.04"


@pytest.mark.parametrize(
    ("kind", "changes", "sentence"),
    [
        ("shown", {}, "Shown: A has a lower test error than B, by 1.00 points (95% interval 0.10 to 2.00)."),
        (
            "opposite",
            {"difference": 0.01, "low": 0.001, "high": 0.02},
            "The opposite of the paper: A has a higher test error than B, by 1.00 points (95% interval 0.10 to 2.00).",
        ),
        (
            "not shown",
            {"high": 0.005},
            "Not shown: that A has a lower test error than B, as in the paper; the difference is -1.00 points "
            "(95% interval -2.00 to 0.50).",
        ),
        (
            "alike",
            {"high": 0.005},
            "As in the paper, no difference in test error between A and B is shown: the difference is -1.00 points",
        ),
        ("differs", {}, "Unlike the paper, A and B differ in test error: the difference is -1.00 points"),
        ("unknown", {}, "A against B: nothing can be said with fewer than two seeds that finished in both."),
        (
            "shown",
            {"unit": "activation", "measure": "mean activation", "difference": -1.0, "low": -1.5, "high": -0.5},
            "Shown: A has a lower mean activation than B, by 1.00 (95% interval 0.50 to 1.50).",
        ),
    ],
)
def test_a_claim(kind, changes, sentence):
    assert claim_sentence({**CLAIM, **changes, "kind": kind}, 1).startswith(sentence)


def test_several_comparisons_are_allowed_for():
    assert "0.10 to 2.00, allowing for 3 comparisons" in claim_sentence({**CLAIM, "kind": "shown"}, 3)
