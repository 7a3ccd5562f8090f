"""Recipes: names that are told apart, trainings that rows share, marks, and a share of a recipe."""

import pytest

from dropkit.errors import DropkitError
from dropkit.runs.config import TrainConfig
from dropkit.studies.recipes.recipe import (
    Claim,
    Mark,
    Measure,
    Recipe,
    Row,
    Sizes,
    at_most,
    falling,
    near_paper,
    no_worse,
    percent,
)


def config(dropout, **changes):
    return TrainConfig(**{"data": "mnist", "model": "mlp", "epochs": 10, "dropout": dropout, **changes})


def make(*rows, **changes):
    given = {"paper": "p", "table": "table-1", "budget": "quick", "title": "t", "where": "w", "rows": rows}
    given |= {"pictures": {"mnist": Sizes(2000, 1000)}, "claims": (), "why": "w", "differences": ()}
    return Recipe(**{**given, **changes})


ROWS = (
    Row(name="a b", config=config("none")),
    Row(name="c", config=config("fc=0.5")),
    Row(name="c2", config=config("fc=0.5"), measure=Measure("average", 2)),
)


def test_rows_that_are_trained_alike_share_a_training_named_after_the_first():
    assert list(make(*ROWS).trainings()) == ["a-b", "c"]
    assert make(*ROWS).trainings()["c"] == config("fc=0.5")


def test_the_seed_and_the_folder_of_a_row_do_not_count():
    rows = (ROWS[1], Row(name="d", config=config("fc=0.5", seed=5, out="x"), measure=Measure("zeros")))
    assert list(make(*rows).trainings()) == ["c"]


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        ((ROWS[0], ROWS[0]), {}, "two rows of table-1 have one name: a b, a b"),
        ((ROWS[0], Row(name="a?b", config=config("fc=0.1"))), {}, "two rows of table-1 have one name"),
        (ROWS, {"claims": (Claim("c", "cc"),)}, "unknown row of table-1 'cc': allowed are a b, c, c2"),
        (ROWS, {"marks": (no_worse("x", "c"),)}, "unknown row of table-1 'x'"),
    ],
)
def test_names_are_checked(rows, changes, message):
    with pytest.raises(DropkitError, match=message.replace("?", ".")):
        make(*rows, **changes)


def test_only_what_can_be_measured():
    with pytest.raises(DropkitError, match="unknown measure 'eror'.*Did you mean 'error'"):
        Measure("eror")
    for kind, draws in (("average", 0), ("error", 2)):
        with pytest.raises(DropkitError, match="an average has 1 or more, others none"):
            Measure(kind, draws)


def test_a_share_of_a_recipe_has_as_many_of_its_pictures_and_epochs():
    scaled = make(*ROWS).scaled(0.25)
    assert scaled.pictures == {"mnist": Sizes(500, 250)}
    assert {row.config.epochs for row in scaled.rows} == {3}
    assert {row.config.max_epochs for row in scaled.rows} == {3}
    assert make(*ROWS).scaled(0.001).pictures == {"mnist": Sizes(200, 200)}
    assert make(*ROWS).scaled(0.001).rows[0].config.epochs == 1


def reached(mark: Mark, **means):
    return mark.reached(means)


def test_marks_are_about_the_means():
    assert reached(at_most("a", 1.05), a=0.0105)
    assert not reached(at_most("a", 1.05), a=0.01051)
    assert reached(no_worse("a", "b"), a=0.1, b=0.1)
    assert not reached(no_worse("a", "b"), a=0.11, b=0.1)
    assert reached(falling("a", "b", "c"), a=3, b=2, c=1)
    assert not reached(falling("a", "b", "c"), a=3, b=2, c=2)
    assert falling("a", "b").sentence == "in the paper's order: a > b"
    rows = tuple(Row(name=name, config=config("none"), paper=percent(value)) for name, value in (("a", 1), ("b", 2)))
    near = near_paper((*rows, Row(name="c", config=config("none"))), 0.15)
    assert near.rows == ("a", "b")
    assert reached(near, a=0.0115, b=0.001)
    assert not reached(near, a=0.0116, b=0.001)
