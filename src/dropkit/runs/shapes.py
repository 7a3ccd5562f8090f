"""What records have to hold, so that one that was cut or edited is told from a whole one before it is relied on."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dropkit.errors import DropkitError

Shape = Any
"""A type, a tuple of types and values that are allowed, [SHAPE] for a list of such, or a dict of what is required."""

NUMBER = (int, float)
FIGURES = dict.fromkeys(("error", "nll", "ece", "n"), NUMBER)  # the first version knew no others
LOSSES = {"loss": NUMBER, "error": NUMBER}
SUMMARY: Mapping[str, Shape] = {
    "status": ("finished", "diverged"),
    "reason": (str, None),
    "epochs": int,
    "best_epoch": (int, None),
    "steps": int,
    "seconds": NUMBER,
    "parameters": int,
    "data": {
        "name": str,
        "pictures": int,
        "classes": int,
        "class_names": [str],
        "train": int,
        "val": int,
        "test": int,
        "shape": [int],
        "mean": [NUMBER],
        "std": [NUMBER],
    },
    "train": (LOSSES, None),
    "val": (LOSSES, None),
    "test": (FIGURES, None),
    "gap": (int, float, None),
}
EPOCH: Mapping[str, Shape] = {
    "epoch": int,
    "step": int,
    **dict.fromkeys(("train_loss", "train_error", "val_loss", "val_error", "seconds"), NUMBER),
}


def misfit(value: Any, shape: Shape, name: str = "it") -> str | None:
    """Return what is wrong with a record, or None.

    >>> misfit({"epochs": 3}, {"epochs": int}), misfit({"epochs": "3"}, {"epochs": int}), misfit({}, {"epochs": int})
    (None, "epochs is '3'", 'epochs is missing')
    >>> misfit([1, None], [NUMBER], "mean")
    'mean[1] is None'
    """
    if isinstance(shape, Mapping):
        if not isinstance(value, dict):
            return f"{name} is {value!r:.60}"
        parts = ((key, inner, value.get(key, ...)) for key, inner in shape.items())
        found = (f"{key} is missing" if part is ... else misfit(part, inner, key) for key, inner, part in parts)
        return next((words for words in found if words), None)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{name} is {value!r:.60}"
        found = (misfit(part, shape[0], f"{name}[{place}]") for place, part in enumerate(value))
        return next((words for words in found if words), None)
    allowed = shape if isinstance(shape, tuple) else (shape,)
    return None if any(_fits(value, one) for one in allowed) else f"{name} is {value!r:.60}"


def _fits(value: Any, allowed: Shape) -> bool:
    if isinstance(allowed, type):
        return isinstance(value, allowed) and not isinstance(value, bool)
    if isinstance(allowed, Mapping | list):
        return misfit(value, allowed) is None
    return bool(value == allowed)


def require(value: Any, shape: Shape, path: Path, also: Callable[[Any], str | None] = lambda value: None) -> None:
    """Refuse a record that is not as it was written.

    Args:
        value: what the file holds.
        shape: what it has to be.
        path: of the file.
        also: says what else is wrong.

    Raises:
        DropkitError: naming the file and the part.
    """
    wrong = misfit(value, shape) or also(value)
    if wrong:
        raise DropkitError(f"{path} is damaged ({wrong}): restore it, or delete its folder and run the command again")


@contextmanager
def shown_as_damage(folder: Path) -> Iterator[None]:
    """Say of a record of which less is known than of a summary that it is damaged, where it cannot be shown.

    Raises:
        DropkitError: naming the folder.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, ZeroDivisionError) as damage:
        raise DropkitError(
            f"the records in {str(folder)!r} cannot be shown ({type(damage).__name__}: {damage}): they are damaged, or "
            f"another version of dropkit wrote them. Restore them, or run the command again in a new folder"
        ) from damage
