"""Planted networks: what they do on their pictures is known beforehand."""

from types import SimpleNamespace

import pytest
import torch

from dropkit.models.sites import Site
from dropkit.studies.evidence.layers import Layer


class PlantedPictures:
    """Stands for TestPictures: inputs that are ready for the network, and labels."""

    def __init__(self, x, labels, size=7):
        self.x, self.labels, self.size, self.of = x, labels, size, len(x)

    def __len__(self):
        return len(self.x)

    def batches(self, network, most=None):
        size = min(self.size, most or self.size)
        for start in range(0, len(self.x), size):
            place = slice(start, min(start + size, len(self.x)))
            yield place, self.x[place]

    def example(self, network):
        return self.x[:2]


@pytest.fixture
def planted():
    """Make a network that is ready, and pictures for it, which come in batches of a size."""

    def make(model, x, labels=None, *, classes=2, size=7):
        names = [str(number) for number in range(classes)]
        network = SimpleNamespace(model=model.eval(), device=torch.device("cpu"), class_names=names)
        labels = torch.zeros(len(x), dtype=torch.int64) if labels is None else labels
        return network, PlantedPictures(x, labels, size)

    return make


@pytest.fixture
def layer_at():
    """Make a layer at a module's output, or its input."""

    def make(path, role="fc", **where):
        return Layer(Site(role, 0, path, **where))

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

    def make(policy="none", *, gap=0.5, layers=None, drops=None, error=0.1, one=0.2, average=0.12, decay=0.0):
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
