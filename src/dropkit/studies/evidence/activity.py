"""How active a layer's units are: how often they are silent, how active on average, and how that is spread.

Srivastava et al., JMLR 15 (2014), section 7.2, figure 8: with dropout the activations of hidden units become sparse.
"""

from typing import Any

import numpy as np

from dropkit.runs.inference import ReadyNetwork
from dropkit.runs.run import Run
from dropkit.studies.evidence.layers import Layer, chosen_layers, hidden_layers
from dropkit.studies.evidence.pictures import TestPictures, load_pictures
from dropkit.studies.evidence.recording import Observations, observe

BINS = 40
SMALL = 0.01  # of the layer's largest activation
SHOWN = 0.999  # the histogram ends where this share of the activations does: one large number would flatten it


def activity(observed: Observations) -> dict[str, Any]:
    """Return how active a layer's units are, as plain JSON.

    `mean`; `zero`, the share of activations that are exactly 0, and `small`, of those nearer to 0 than 1% of the
    largest one; `rectified`, whether none is negative: elsewhere 0 has no meaning of its own; `edges` and
    `activations`, a histogram, whose first and last bin also count what lies beyond; `unit_means`, the mean of each
    unit.

    Args:
        observed: of the layer.

    >>> found = activity(Observations(np.array([[[0.0, 3.0]], [[0.0, 1.0]]]), units=2))
    >>> found["mean"], found["zero"], found["rectified"], found["unit_means"]
    (1.0, 0.5, True, [0.0, 2.0])
    """
    values = observed.values
    largest = float(np.abs(values).max())
    edges = _edges(values)
    counts = np.histogram(values.clip(edges[0], edges[-1]), edges)[0]
    return {
        "mean": float(values.mean()),
        "zero": float((values == 0).mean()),
        "small": float((np.abs(values) < SMALL * largest).mean()) if largest else 1.0,
        "rectified": bool(values.min() >= 0),
        "edges": edges.tolist(),
        "activations": (counts / values.size).tolist(),
        "unit_means": values.mean(axis=(0, 1)).tolist(),
    }


def _edges(values: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the histogram's edges, from 0 where nothing is negative."""
    low, high = np.quantile(values, [1 - SHOWN, SHOWN])
    low = 0.0 if values.min() >= 0 else float(low)
    high = float(high) if high > low else float(values.max())
    return np.linspace(low, high if high > low else low + 1.0, BINS + 1)


def described(layer: Layer, observed: Observations) -> dict[str, Any]:
    """Return which layer it is, and how much of it was seen."""
    values = observed.values
    return {
        "layer": layer.path,
        "name": layer.site.name,
        "role": layer.site.role,
        "rate": layer.rate,
        "units": observed.units,
        "measured": values.shape[2],
        "places": values.shape[1],
        "observations": values.shape[0] * values.shape[1],
    }


def activity_of_run(run: Run, *, seed: int = 0, device: str = "auto", progress: bool = False) -> list[dict[str, Any]]:
    """Return how active the units of each hidden layer of a run's network are, on its test pictures.

    Args:
        run: a finished run.
        seed: chooses pictures where there are more than 2,000, and places of maps where there are many.
        device: where the network computes.
        progress: show progress on standard error.

    Returns:
        A dict for each layer, in execution order, of plain JSON: `layer` (its path), `name` (as policies write it),
        `role`, `rate`, `units`, and what `activity` returns.

    Raises:
        DropkitError: if the run has no network, or its data are not what they were.

    >>> import tempfile
    >>> from dropkit.runs.config import TrainConfig
    >>> from dropkit.runs.training import train
    >>> config = TrainConfig(data="digits", model="mlp", dropout="fc=0.5", epochs=1, out=tempfile.mkdtemp())
    >>> for row in activity_of_run(train(config, progress=False)):
    ...     print(row["name"], row["layer"], row["units"], 0 < row["zero"] < 1)
    fc[0] hidden.dropout1 512 True
    fc[1] hidden.dropout2 512 True
    """
    network = ReadyNetwork(run, device)
    pictures = TestPictures(run, load_pictures(run, progress=progress), seed)
    layers = chosen_layers(hidden_layers(network.model, pictures.example(network)))
    seen = [(layer, observe(network, layer, pictures, seed=seed)) for layer in layers]
    return [described(layer, observed) | activity(observed) for layer, observed in seen]
