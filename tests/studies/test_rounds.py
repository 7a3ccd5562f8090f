"""Rounds: seeds, or folds of repetitions; no two alike."""

import pytest

from dropkit.runs.config import TrainConfig
from dropkit.studies.rounds import describe_rounds, rounds

CONFIG = TrainConfig(data="digits", split_seed=7)


def test_without_folds_a_round_is_a_seed():
    trainings = [turn.training(CONFIG) for turn in rounds(3, 2, None)]
    assert [(c.seed, c.split_seed, c.fold) for c in trainings] == [(3, 7, None), (4, 7, None)]
    assert [turn.name for turn in rounds(3, 2, None)] == ["seed3", "seed4"]


def test_each_repetition_divides_anew_and_each_fold_has_its_own_seed():
    turns = rounds(0, 2, 3)
    trainings = [turn.training(CONFIG) for turn in turns]
    assert [(c.split_seed, c.fold) for c in trainings] == [(s, f"{k}/3") for s in (7, 8) for k in (1, 2, 3)]
    assert [c.seed for c in trainings] == [0, 1, 2, 3, 4, 5]
    assert len({turn.name for turn in turns}) == len({turn.words for turn in turns}) == 6
    assert turns[4].name == "repetition1-fold2"


def test_repetitions_that_follow_take_nothing_from_those_before():
    before, after = rounds(0, 2, 3), rounds(2, 2, 3)
    for field in ("seed", "repetition"):
        assert not {getattr(t, field) for t in before} & {getattr(t, field) for t in after}


@pytest.mark.parametrize(
    ("count", "folds", "words"),
    [(1, None, "1 seed"), (5, None, "5 seeds"), (1, 5, "5 folds"), (2, 5, "2 repetitions of 5 folds")],
)
def test_rounds_in_words(count, folds, words):
    assert describe_rounds(count, folds) == words
