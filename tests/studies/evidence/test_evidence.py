"""All evidence of one run: measured on its own test pictures, the same each time, wrong seeds refused."""

import pytest

import dropkit
from dropkit.errors import DropkitError
from dropkit.studies.evidence.evidence import NOTHING, measure, require_seed


@pytest.fixture
def run(short):
    def make(dropout, **changes):
        config = short(max_train=100, epochs=3, dropout=dropout, out=short().out + dropout, **changes)
        return dropkit.train(config, progress=False)

    return make


def test_of_a_run_with_dropout(run):
    trained = run("fc=0.5")
    found = measure(trained, progress=False)
    assert found["error"] == pytest.approx(trained.summary["test"]["error"])
    assert found["gap"] == trained.summary["gap"]
    assert found["pictures"] == found["of"] == trained.summary["data"]["test"]
    assert found["drops"] is True
    layer, other = found["layers"]
    assert (layer["name"], layer["rate"]) == ("fc[0]", 0.5)
    assert (other["name"], other["rate"]) == ("fc[1]", 0.5)
    assert layer["silenced"]["cost"] == pytest.approx(layer["silenced"]["error"] - found["error"])
    assert 0 < layer["activity"]["zero"] < 1
    assert found["disagreement"]["one"] > 0
    assert found["no_disagreement"] == ""
    assert found == measure(trained, progress=False)
    assert found != measure(trained, seed=1, progress=False)


def test_of_a_run_without(run):
    found = measure(run("none"), progress=False)
    assert found["drops"] is False
    assert found["disagreement"] is None
    assert found["no_disagreement"] == NOTHING
    assert found["layers"][0]["rate"] == 0


@pytest.mark.parametrize("seed", [-1, 2**64, 0.5, "0", None, True])
def test_what_is_no_seed(seed):
    with pytest.raises(DropkitError, match=r"the seed must be a whole number from 0 to 2\*\*64 - 1"):
        require_seed(seed)


def test_seeds():
    require_seed(0)
    require_seed(2**64 - 1)
