"""Successive halving: who goes on, and until when."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropkit.studies.halving import best_third, generations, planned_epochs, rungs


@given(st.integers(1, 500))
def test_rungs_are_a_sixth_and_a_half_and_before_the_end(epochs):
    found = rungs(epochs)
    assert list(found) == sorted(set(found))
    assert all(1 <= rung < epochs for rung in found)
    if epochs >= 3:
        assert found == (math.ceil(epochs / 6), math.ceil(epochs / 2))


@given(st.integers(1, 300))
def test_generations_share_out_every_trial_evenly(count):
    parts = generations(count)
    assert [place for part in parts for place in part] == list(range(count))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    if count >= 11:
        assert 10 <= min(sizes) <= max(sizes) <= 20


@given(st.lists(st.one_of(st.floats(0, 10), st.just(math.inf)), min_size=1, max_size=20))
def test_a_third_goes_on_and_it_is_the_best(scores):
    kept = best_third(dict(enumerate(scores)))
    finite = [score for score in scores if math.isfinite(score)]
    assert len(kept) == min(len(finite), max(1, round(len(scores) / 3)))
    assert sorted(scores[key] for key in kept) == sorted(finite)[: len(kept)]
    assert kept == sorted(kept)


def test_of_equal_ones_the_earlier_goes_on():
    assert best_third({5: 0.5, 3: 0.5, 9: 0.5}) == [3]


@pytest.mark.parametrize(("count", "epochs"), [(28, 40), (10, 7), (5, 1), (100, 200)])
def test_planned_epochs_are_those_of_the_rule_played_through(count, epochs):
    chance, total = random.Random(0), 0
    for part in generations(count):
        alive, done = list(part), 0
        for rung in rungs(epochs):
            total += len(alive) * (rung - done)
            alive, done = best_third({key: chance.random() for key in alive}), rung
        total += len(alive) * (epochs - done)
    assert planned_epochs(count, epochs) == total
    by_workers = [planned_epochs(count, epochs, workers) for workers in (1, 2, 4, 1000)]
    assert by_workers == sorted(by_workers, reverse=True)
    assert (
        by_workers[-1] == len(generations(count)) * epochs
    )  # with a worker each, a generation takes a training's time
