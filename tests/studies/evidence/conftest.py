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
