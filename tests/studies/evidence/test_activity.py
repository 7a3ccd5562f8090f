"""How active units are: known numbers, and the rows of a run."""

import json

import numpy as np
import pytest

from dropkit.runs.training import train
from dropkit.studies.evidence.activity import BINS, activity, activity_of_run
from dropkit.studies.evidence.recording import Observations


def observed(values):
    values = np.asarray(values, dtype=np.float64)
    return Observations(values.reshape(len(values), 1, -1), values.shape[-1])


def test_shares_and_means_are_those_of_the_activations():
    found = activity(observed([[0, 0.001, 5], [0, 10, 3]]))
    assert found["zero"] == 2 / 6
    assert found["small"] == 3 / 6  # below 1% of the largest one, which is 10
    assert found["mean"] == pytest.approx(18.001 / 6)
    assert found["unit_means"] == pytest.approx([0, 5.0005, 4])
    assert found["rectified"]
    assert len(found["edges"]) == BINS + 1
    assert sum(found["activations"]) == pytest.approx(1)
    assert found["activations"][0] == 3 / 6  # 0 to 10 in 40 bins


def test_a_lone_large_activation_does_not_stretch_the_histogram():
    values = np.random.default_rng(0).random((10007, 1))
    values[17] = 1e6
    found = activity(observed(values))
    assert 0.99 < found["edges"][-1] < 1
    assert sum(found["activations"]) == pytest.approx(1)
    assert found["activations"][20] == pytest.approx(1 / BINS, abs=5 * (1 / BINS / 10007) ** 0.5)


def test_negative_activations_are_said_and_silent_layers_have_a_histogram():
    found = activity(observed(np.random.default_rng(0).normal(size=(101, 3))))
    assert not found["rectified"]
    assert found["edges"][0] < -1
    silent = activity(observed(np.zeros((5, 2))))
    assert (silent["zero"], silent["small"], silent["activations"][0]) == (1, 1, 1)
    assert silent["edges"][0] < silent["edges"][-1]
    flat = activity(observed(np.full((5, 2), -3.0)))
    assert sum(flat["activations"]) == pytest.approx(1)


def test_each_hidden_layer_of_a_run_has_a_row(short):
    run = train(short(epochs=1, max_train=211, dropout="fc=0.5"), progress=False, page=False)
    rows = activity_of_run(run)
    assert [(row["layer"], row["role"], row["units"]) for row in rows] == [
        ("hidden.dropout1", "fc", 512),
        ("hidden.dropout2", "fc", 512),
    ]
    for row in rows:
        assert len(row["unit_means"]) == 512
        assert np.mean(row["unit_means"]) == pytest.approx(row["mean"])
    assert rows == activity_of_run(run)
    json.dumps(rows, allow_nan=False)
