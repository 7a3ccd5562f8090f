"""Short studies of the digits."""

import pytest

from dropkit.runs.config import TrainConfig
from dropkit.studies.arms import arm_config
from dropkit.studies.compare import compare


@pytest.fixture(scope="session")
def configs():
    """Make a short training for each policy."""

    def make(*policies, **changes):
        given = {"data": "digits", "model": "mlp", "epochs": 3, "precision": "float32", "threads": 1}
        return [arm_config(TrainConfig(**{**given, **changes}), policy) for policy in policies]

    return make


@pytest.fixture(scope="session")
def study_of(configs):
    """Make a short study of these policies in a folder."""

    def make(out, *policies, seeds=3, metric="error", folds=None, sweep=None, **changes):
        options = {"seeds": seeds, "metric": metric, "folds": folds, "sweep": sweep}
        return compare(configs(*policies, **changes), **options, workers=1, out=out, progress=False)

    return make
