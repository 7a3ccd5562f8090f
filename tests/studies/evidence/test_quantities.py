"""The numbers that runs are compared by: found where they stand, kept within what they can be."""

import pytest

from dropkit.studies.evidence.quantities import OF_LAYER, OF_RUN


def test_each_is_found_where_it_stands(evidence_of):
    run = evidence_of("fc=0.5", gap=0.25, error=0.1, one=0.2, average=0.12)
    found = {name: quantity.find(run) for name, quantity in OF_RUN.items()}
    assert found == {
        "gap": 0.25,
        "error": 0.1,
        "test_error": 0.1,
        "minority": 0.1,
        "pairwise": 0.15,
        "one": 0.2,
        "average": 0.12,
        "gain": pytest.approx(-0.08),
        "stand_in": pytest.approx(0.02),
        "best_epoch": 7,
        "norm": 7.0,
    }
    layer = {name: quantity.find(run["layers"][0]) for name, quantity in OF_LAYER.items()}
    assert layer["excess"] == 0.1
    assert layer["cost"] == 0.05
    assert layer["constant"] == 1
    assert layer["zero"] == layer["small"] == 0.4


def test_what_a_run_has_not_is_none(evidence_of):
    run = evidence_of("none")
    assert [OF_RUN[name].find(run) for name in ("minority", "pairwise", "one", "average", "gain")] == [None] * 5
    layer = evidence_of.layer(rectified=False) | {"correlation": None, "silenced": None}
    assert [OF_LAYER[name].find(layer) for name in OF_LAYER] == [None] * len(OF_LAYER)


def test_an_interval_ends_where_the_number_does():
    assert OF_RUN["error"].possible(-0.1) == 0
    assert OF_RUN["error"].possible(1.3) == 1
    assert OF_RUN["error"].possible(0.3) == 0.3
    assert OF_RUN["norm"].possible(-2.0) == 0
    assert OF_RUN["norm"].possible(3.0) == 3
    assert OF_RUN["gain"].possible(-0.1) == -0.1
    assert OF_RUN["error"].possible(None) is None
