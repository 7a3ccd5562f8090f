"""What a network's first layer looks for: its weights as one small picture."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from dropkit.data.png import data_uri
from dropkit.runs.run import Run

MOST_FILTERS = 64
MOST_WEIGHTS = 65_536  # of one input: random weights do not compress, and the page holds every policy's
COLUMNS = 8


def first_filters(run: Run) -> dict[str, Any] | None:
    """Return the first layer's filters as a grid of pictures, or None where they cannot be seen as such.

    The first convolution; without one the first fully connected layer, where it reads the pictures themselves. One
    pixel is one weight; filters lie a transparent pixel apart, at most 64 of them (fewer where they are large) in rows
    of 8. Grey is a weight of 0; each filter reaches black or white at its own largest weight.
    """
    try:
        layer, weight = _first_weight(run.model(), tuple(run.summary["data"]["shape"]))
    except Exception:  # any network may be trained, and one that cannot be shown must not end the study
        return None
    if weight is None:
        return None
    count = max(1, min(MOST_FILTERS, MOST_WEIGHTS // (weight.shape[2] * weight.shape[3])))
    shown = weight[:count].detach().double().numpy()
    return {
        "layer": layer,
        "shape": list(weight.shape),
        "shown": len(shown),
        "columns": min(COLUMNS, len(shown)),
        "seed": run.config.seed,
        "image": data_uri(grid(shown), most=None),
    }


def _first_weight(model: nn.Module, shape: tuple[int, ...]) -> tuple[str, Tensor | None]:
    """Return the path of the first layer and its weights [filters, C, H, W]; None where there is no such layer."""
    layers = list(model.named_modules())
    convolution = next(((name, layer) for name, layer in layers if isinstance(layer, nn.Conv2d)), None)
    if convolution is not None:
        return convolution[0], convolution[1].weight
    linear = next(((name, layer) for name, layer in layers if isinstance(layer, nn.Linear)), None)
    if linear is None or linear[1].in_features != np.prod(shape):
        return "", None
    return linear[0], linear[1].weight.unflatten(1, shape)


def grid(weights: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return filters [F, C, H, W] as one picture with alpha, uint8 [2 or 4, height, width].

    Three inputs are shown as colours, one as grey, any other number by their mean.

    Example:
        >>> grid(np.ones((9, 1, 3, 3))).shape
        (2, 7, 31)
    """
    if weights.shape[1] not in (1, 3):
        weights = weights.mean(axis=1, keepdims=True)
    count, channels, height, width = weights.shape
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    largest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    # 128 is a weight of zero: -1 to 1 becomes 1 to 255
    levels = np.rint(128 + 127 * weights / np.where(largest > 0, largest, 1.0)).astype(np.uint8)
    picture = np.zeros((channels + 1, rows * (height + 1) - 1, columns * (width + 1) - 1), dtype=np.uint8)
    for number, level in enumerate(levels):
        y, x = (number // columns) * (height + 1), (number % columns) * (width + 1)
        picture[:channels, y : y + height, x : x + width] = level
        picture[channels, y : y + height, x : x + width] = 255
    return picture
