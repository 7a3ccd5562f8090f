"""The numbers that runs are compared by: where each stands in what `measure` returns, and its unit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Found = Mapping[str, Any]


@dataclass(frozen=True)
class Quantity:
    """A number of a run, or of one of its layers.

    Attributes:
        find: from a run's evidence, or a layer's, to the number; None where there is none.
        unit: `share` (from 0 to 1), `nats`, `ratio` (differences are relative ones), or empty.
        signed: whether it may be below 0.
    """

    find: Callable[[Found], float | None]
    unit: str = ""
    signed: bool = False

    def possible(self, bound: float | None) -> float | None:
        """Return an interval's end within what the number can be: Student's t knows no limits."""
        if bound is None or self.signed:
            return bound
        return min(max(bound, 0.0), 1.0) if self.unit == "share" else max(bound, 0.0)


def _inside(part: str, key: str) -> Callable[[Found], float | None]:
    return lambda found: None if found[part] is None else found[part][key]


def _rectified(key: str) -> Callable[[Found], float | None]:
    """Where activations are negative, too, neither a zero nor a mean says how active a unit is."""
    return lambda layer: layer["activity"][key] if layer["activity"]["rectified"] else None


def _gain(run: Found) -> float | None:
    thinned = run["disagreement"]
    return None if thinned is None else thinned["average"] - thinned["one"]


def _stand_in(run: Found) -> float | None:
    thinned = run["disagreement"]
    return None if thinned is None else thinned["average"] - run["error"]


OF_RUN: dict[str, Quantity] = {
    "gap": Quantity(lambda run: run["gap"], "nats", signed=True),
    "error": Quantity(lambda run: run["error"], "share"),
    "test_error": Quantity(lambda run: run["test_error"], "share"),
    "minority": Quantity(_inside("disagreement", "minority"), "share"),
    "pairwise": Quantity(_inside("disagreement", "pairwise"), "share"),
    "one": Quantity(_inside("disagreement", "one"), "share"),
    "average": Quantity(_inside("disagreement", "average"), "share"),
    "gain": Quantity(_gain, "share", signed=True),
    "stand_in": Quantity(_stand_in, "share", signed=True),
    "best_epoch": Quantity(lambda run: run["best_epoch"]),
    "norm": Quantity(lambda run: run["norms"]["total"]),
}

OF_LAYER: dict[str, Quantity] = {
    "correlation": Quantity(_inside("correlation", "mean")),
    "chance": Quantity(_inside("correlation", "chance")),
    "excess": Quantity(_inside("correlation", "excess"), signed=True),
    "constant": Quantity(_inside("correlation", "constant")),
    "silenced": Quantity(_inside("silenced", "error"), "share"),
    "sd": Quantity(_inside("silenced", "sd"), "share"),
    "cost": Quantity(_inside("silenced", "cost"), "share", signed=True),
    "zero": Quantity(_rectified("zero"), "share"),
    "small": Quantity(_rectified("small"), "share"),
    "mean": Quantity(_rectified("mean"), "ratio"),
}
