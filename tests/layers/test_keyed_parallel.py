"""Keyed masks under data parallelism: one, two and three processes train alike."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("parallel_training.py")


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    """Of each training by name: the losses of its steps, and each rank's mask."""
    command = [sys.executable, str(SCRIPT)]
    store = str(tmp_path_factory.mktemp("gloo") / "store")
    ranks = [subprocess.Popen([*command, str(rank), store], stdout=subprocess.PIPE, text=True) for rank in range(3)]
    found = [json.loads(rank.communicate(timeout=300)[0]) for rank in ranks]
    return {name: (found[0][name][0], [rank[name][1] for rank in found if name in rank]) for name in found[0]}


@pytest.mark.parametrize("world", ["2", "3"])
def test_processes_with_equal_slices_train_as_one(trainings, world):
    alone, (whole,) = trainings["1"]
    losses, masks = trainings[world]
    assert len(masks) == int(world)
    assert losses == pytest.approx(alone, abs=1e-6, rel=0)
    assert [unit for mask in masks for unit in mask] == whole
    assert abs(alone[0] - alone[-1]) > 0.01  # something was trained


def test_shared_masks_are_the_same_on_all_ranks(trainings):
    losses, (first, second) = trainings["shared"]
    assert first == second
    assert len(set(first)) == 2
    assert losses != pytest.approx(trainings["1"][0], abs=1e-6, rel=0)
