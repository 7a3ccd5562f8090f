"""What several rooms' tests share: real data where it is at hand, and short trainings."""

import importlib.util
import signal
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from dropkit.models import zoo
from dropkit.runs.config import TrainConfig

# The same examples in every run: a failure in CI is one that can be repeated.
settings.register_profile("dropkit", derandomize=True, deadline=None)
settings.load_profile("dropkit")

# A shell lets what it starts in the background ignore Ctrl-C, and every process that is started from there inherits it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# What a test draws without a seed of its own is the same alone, in its file, and in whichever process it runs.
def pytest_collectstart():
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    torch.manual_seed(0)


SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def fashion_mnist() -> str:
    """Path of Fashion-MNIST; the test is skipped where the file is not at hand."""
    path = SHARED / "fashion_mnist.npz"
    if not path.is_file():
        pytest.skip("Fashion-MNIST is not at hand (../shared/data/fashion_mnist.npz)")
    return str(path)


@pytest.fixture(scope="session")
def libraries():
    """Let timm and torchvision import; the test is skipped where they cannot."""
    beside = SHARED.parent / "torchvision_cpu.py"  # lets torchvision import beside a torch that is for the CPU alone
    try:
        if beside.is_file():
            spec = importlib.util.spec_from_file_location("torchvision_cpu", beside)
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module  # it holds the operators' library
            spec.loader.exec_module(module)
        import timm
        import torchvision
    except Exception as error:
        pytest.skip(f"timm and torchvision cannot be imported here: {error}")
    return timm, torchvision


@pytest.fixture
def published(libraries, monkeypatch):
    """Give every network of timm and torchvision random weights in the place of its published ones; count them."""
    asked = []

    def pretrained_weights(name):
        asked.append(name)
        with torch.random.fork_rng():
            torch.manual_seed(17)
            return zoo.untrained(name), zoo.preprocessing(name)

    monkeypatch.setattr(zoo, "pretrained_weights", pretrained_weights)
    return asked


@pytest.fixture
def plain_sigterm():
    """Let SIGTERM do what it does in a process of its own: libraries that other tests call may have handlers."""
    former = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, former)


@pytest.fixture
def short(tmp_path):
    """Make configs of short trainings on the digits, each in a folder of its own unless told otherwise."""

    def make(**changes) -> TrainConfig:
        given = {"data": "digits", "model": "mlp", "epochs": 2, "threads": 1, "out": str(tmp_path / "run")}
        return TrainConfig(**{**given, **changes})

    return make


@pytest.fixture
def evidence_of():
    """Make what `measure` returns of a run, with the numbers that are given."""

    def layer(name="fc[0]", *, rate=0.0, rectified=True, excess=0.1, cost=0.05, zero=0.4, mean=1.0):
        return {
            "layer": f"at.{name}",
            "name": name,
            "role": "fc",
            "rate": rate,
            "units": 5,
            "measured": 5,
            "places": 1,
            "observations": 11,
            "correlation": {"mean": excess + 0.05, "chance": 0.05, "excess": excess, "varying": 4, "constant": 1},
            "silenced": {"halves": 2, "errors": [0.1, 0.2], "error": 0.15, "sd": 0.07, "cost": cost},
            "activity": {
                "mean": mean,
                "zero": zero,
                "small": zero,
                "rectified": rectified,
                "edges": [0.0, 1.0, 2.0],
                "activations": [0.75, 0.25],
                "unit_means": [0.0, 0.5, 1.0, 1.5, 2.0],
            },
        }

    def make(
        policy="none", *, gap=0.5, layers=None, drops=None, error=0.1, one=0.2, average=0.12, decay=0.0, best_epoch=7
    ):
        layers = [layer()] if layers is None else layers
        drops = policy != "none" if drops is None else drops
        thinned = {"minority": 0.1, "pairwise": 0.15, "one": one, "average": average, "draws": 20}
        return {
            "policy": policy,
            "run_seed": 0,
            "weight_decay": decay,
            "pretrained": False,
            "test_error": error,
            "gap": gap,
            "best_epoch": best_epoch,
            "train_loss": 0.1,
            "val_loss": 0.1 + gap,
            "pictures": 11,
            "of": 13,
            "error": error,
            "drops": drops,
            "layers": layers,
            "left_out": [],
            "disagreement": thinned if drops else None,
            "no_disagreement": "" if drops else "it was trained without dropout",
            "norms": {
                "layers": [{"layer": "fc1", "units": 5, "quantiles": [1.0, 2.0, 3.0, 4.0, 5.0], "norm": 7.0}],
                "total": 7.0,
            },
            "notes": [],
        }

    make.layer = layer
    return make
