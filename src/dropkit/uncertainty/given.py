"""Probabilities, logits, labels and scores as they are given, checked and in float64."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dropkit.errors import DropkitError

Array = NDArray[np.float64]
Whole = NDArray[np.int64]

_SUM = 1e-2  # how far from 1 a sum may lie: bfloat16 rounds that much


def probabilities_and_labels(probabilities: Any, labels: Any) -> tuple[Array, Whole]:
    """Return probabilities [N, K] and labels [N] as arrays.

    Raises:
        DropkitError: if shapes do not fit, a row is no distribution, or a label is no class.
    """
    p = _numbers(probabilities, "probabilities")
    if p.ndim != 2 or p.shape[0] < 1 or p.shape[1] < 2:
        raise DropkitError(f"probabilities of shape {list(p.shape)}: give [N, K], N >= 1 pictures by K >= 2 classes")
    wrong = (p < 0).any(axis=1) | ~(np.abs(p.sum(axis=1) - 1) <= _SUM)
    if wrong.any():
        row = int(wrong.argmax())
        raise DropkitError(
            f"row {row} of the probabilities, with sum {p[row].sum():.4g} and smallest value {p[row].min():.4g}, is no "
            "distribution: each row has to be 0 or more and sum to 1. Logits go through softmax first"
        )
    return p, labels_below(labels, *p.shape)


def draws_and_labels(logits: Any, labels: Any) -> tuple[Array, Whole]:
    """Return logits [n, N, K] and labels [N] as arrays; logits [N, K] are one draw.

    Raises:
        DropkitError: if shapes do not fit, a logit is not finite, or a label is no class.
    """
    z = draws(logits)
    return z, labels_below(labels, *z.shape[1:])


def draws(logits: Any) -> Array:
    """Return logits [n, N, K]; logits [N, K] are one draw.

    Raises:
        DropkitError: if the shape is another one, or a logit is not finite.
    """
    z = _numbers(logits, "logits")
    if z.ndim not in (2, 3) or 0 in z.shape or z.shape[-1] < 2:
        raise DropkitError(
            f"logits of shape {list(z.shape)}: give [N, K], or [n, N, K] for n draws, with N >= 1 pictures and K >= 2 "
            "classes"
        )
    if not np.isfinite(z).all():
        raise DropkitError("the logits hold NaN or infinity: the network that gave them has diverged")
    return z if z.ndim == 3 else z[None]


def scores(values: Any, name: str, size: int | None = None) -> Array:
    """Return scores [N] as an array.

    Raises:
        DropkitError: if they are not one finite number for each of `size` pictures.
    """
    found = _numbers(values, name)
    if found.ndim != 1 or not found.size or size not in (None, len(found)) or not np.isfinite(found).all():
        count = "at least one" if size is None else str(size)
        raise DropkitError(f"{name} of shape {list(found.shape)}: give [N] finite numbers, one a picture ({count})")
    return found


def labels_below(labels: Any, n: int, classes: int) -> Whole:
    """Return labels [n] as an array.

    Raises:
        DropkitError: if they are not n integers from 0 to classes - 1.
    """
    y = np.asarray(_on_host(labels))
    if y.shape != (n,) or not np.issubdtype(y.dtype, np.integer):
        raise DropkitError(f"labels of shape {list(y.shape)} and type {y.dtype}: give {n} integers, one a picture")
    if y.min() < 0 or y.max() >= classes:
        raise DropkitError(f"labels from {y.min()} to {y.max()}: allowed are 0 to {classes - 1}; count classes from 0")
    return y.astype(np.int64)


def _numbers(values: Any, name: str) -> Array:
    try:
        return np.asarray(_on_host(values), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DropkitError(f"{name} of type {type(values).__name__} are no array of numbers: {error}") from None


def _on_host(values: Any) -> Any:
    """Return what NumPy can read: a tensor may have a gradient, a device, or a type that NumPy lacks."""
    if not hasattr(values, "detach"):
        return values
    tensor = values.detach().cpu()
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()
