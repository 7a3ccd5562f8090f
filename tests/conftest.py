"""What several rooms' tests share: real data where it is at hand, and short trainings."""

from pathlib import Path

import pytest
from hypothesis import settings

from dropkit.runs.config import TrainConfig

# The same examples in every run: a failure in CI is one that can be repeated.
settings.register_profile("dropkit", derandomize=True, deadline=None)
settings.load_profile("dropkit")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def fashion_mnist() -> str:
    """Path of Fashion-MNIST; the test is skipped where the file is not at hand."""
    path = SHARED / "fashion_mnist.npz"
    if not path.is_file():
        pytest.skip("Fashion-MNIST is not at hand (../shared/data/fashion_mnist.npz)")
    return str(path)


@pytest.fixture
def short(tmp_path):
    """Make configs of short trainings on the digits, each in a folder of its own unless told otherwise."""

    def make(**changes) -> TrainConfig:
        given = {"data": "digits", "model": "mlp", "epochs": 2, "threads": 1, "out": str(tmp_path / "run")}
        return TrainConfig(**{**given, **changes})

    return make
