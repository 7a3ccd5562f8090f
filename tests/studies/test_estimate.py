"""Estimates: budgets of time, and seeds that fit into them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropkit.errors import DropkitError
from dropkit.runs.batches import Batches
from dropkit.runs.config import TrainConfig
from dropkit.runs.training import load_data
from dropkit.studies import estimate as module
from dropkit.studies.estimate import estimate, expected_epochs, parse_budget, seeds_within


@pytest.mark.parametrize(
    ("text", "seconds"), [("20m", 1200), ("1h30m", 5400), ("90s", 90), ("1.5H", 5400), (" 2m ", 120)]
)
def test_budgets_are_read(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "20", "m", "20 minutes", "-5m", "0m", "5m3", "1d", "nan"])
def test_other_budgets_are_refused(text):
    with pytest.raises(DropkitError, match="such as 20m, 1h30m or 90s, but got"):
        parse_budget(text)


@given(st.floats(1, 1e6), st.floats(0.1, 1e5))
def test_seeds_fit_into_the_budget_but_never_below_three(budget, cost):
    seeds = seeds_within(budget, cost, low=3, high=30)
    assert 3 <= seeds <= 30
    assert seeds == 3 or seeds * cost <= budget
    assert seeds == 30 or (seeds + 1) * cost > budget * (1 - 1e-12)


def test_expected_epochs():
    assert expected_epochs(TrainConfig(data="x", epochs=7), steps=3) == 7
    assert expected_epochs(TrainConfig(data="x"), steps=399) == 20
    assert expected_epochs(TrainConfig(data="x"), steps=16) == 63
    assert expected_epochs(TrainConfig(data="x"), steps=1) == 200


def test_an_estimate_times_real_steps(short):
    config = short(model="mlp", epochs=5)
    one = estimate(config, load_data(config), threads=1)
    assert one.epochs == 5
    assert one.seconds > 0


def test_an_estimate_counts_steps_evaluations_checkpoints_and_the_test(short, monkeypatch):
    timed = iter([9.0, 2.0, 0.5, 0.25])  # warm-up, 20 steps, an evaluation of the validation pictures, a checkpoint
    monkeypatch.setattr(module, "_timed", lambda work: next(timed))
    config = short(epochs=5)
    data = load_data(config)
    steps, val, test = 10, len(data[1].val), len(data[1].test)
    expected = 5 * (steps * 0.1 + 2 * 0.5 + 0.25) + 0.5 * test / val
    assert estimate(config, data, threads=1).seconds == pytest.approx(expected)


def test_the_steps_read_as_training_does_so_that_augmentation_is_counted(short, monkeypatch):
    read, epochs = Batches.read_to_train, []

    def counted(self, indices, epoch):
        epochs.append(epoch)
        return read(self, indices, epoch)

    monkeypatch.setattr(Batches, "read_to_train", counted)
    config = short(model="mlp", epochs=5)
    estimate(config, load_data(config), threads=1)
    assert epochs == [0] * (module.WARM_UP_STEPS + module.TIMED_STEPS)
