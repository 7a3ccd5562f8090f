"""Schedules: the rate of dropout as a function of how far a training has come."""

import math
import warnings
from dataclasses import dataclass
from typing import TypeGuard

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from dropkit.errors import DropkitError
from dropkit.layers.base import DropLayer
from dropkit.layers.learned import ConcreteDropout

_GRAMMAR = "constant, linear, linear:UNTIL, early, early:UNTIL, late:START, curriculum or curriculum:GAMMA"


@dataclass(frozen=True)
class Schedule:
    """Base of the schedules: `schedule(p, progress)` is the rate that a layer of base rate p has at that progress.

    Progress is the share of the training's steps that have been made, 0 to 1. A subclass says which share of the base
    rate holds then.

    Raises:
        DropkitError: progress is not a number from 0 to 1.
    """

    def __call__(self, p: float, progress: float) -> float:
        """Return the rate."""
        if not 0 <= progress <= 1:
            raise DropkitError(f"progress is the share of a training that is done, from 0 to 1, but got {progress!r}")
        return p * self.share(progress)

    def share(self, progress: float) -> float:
        """Return which share of the base rate, 0 to 1, holds at that progress."""
        raise NotImplementedError

    def _require(self, field: str, allowed: str, *, most: float, most_allowed: bool = True) -> None:
        """Refuse a field that is not a number above 0 and up to `most`."""
        value = getattr(self, field)
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not 0 < value <= most or (value == most and not most_allowed):
            raise DropkitError(f"schedule {type(self).__name__.lower()}: {field} must be {allowed}, but got {value!r}")


@dataclass(frozen=True)
class Constant(Schedule):
    """The base rate all the time.

    >>> Constant()(0.5, progress=0.9)
    0.5
    """

    def share(self, progress: float) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True)
class Linear(Schedule):
    """From 0 to the base rate in a straight line, and from there on the base rate.

    Args:
        until: the share of the training after which the base rate is reached, greater than 0 and at most 1.

    Raises:
        DropkitError: `until` is out of range.

    >>> Linear()(0.5, progress=0.5), Linear(until=0.25)(0.5, progress=0.5)
    (0.25, 0.5)
    """

    until: float = 1.0

    def __post_init__(self) -> None:
        """Check the field."""
        self._require("until", "a share of the training, greater than 0 and at most 1", most=1)

    def share(self, progress: float) -> float:
        """Return the height of the ramp."""
        return min(progress / self.until, 1.0)


@dataclass(frozen=True)
class Early(Schedule):
    """From the base rate to 0 in a straight line, and from there on no dropout: against underfitting.

    Early dropout with the linearly decreasing rate (Liu et al., Dropout Reduces Underfitting, ICML 2023). At the first
    step the whole base rate holds, from the cutoff on exactly 0.

    Args:
        until: the cutoff, the share of the training after which nothing is dropped: greater than 0 and at most 1.

    Raises:
        DropkitError: `until` is out of range.

    >>> [Early(until=0.5)(0.4, progress) for progress in (0, 0.25, 0.5, 0.9)]
    [0.4, 0.2, 0.0, 0.0]
    """

    until: float = 0.3

    def __post_init__(self) -> None:
        """Check the field."""
        self._require("until", "a share of the training, greater than 0 and at most 1", most=1)

    def share(self, progress: float) -> float:
        """Return what is left of the base rate."""
        return max(1 - progress / self.until, 0.0)


@dataclass(frozen=True)
class Late(Schedule):
    """No dropout at first, and then the base rate: against overfitting (late dropout of Liu et al., ICML 2023).

    Args:
        start: the share of the training after which units are dropped, greater than 0 and less than 1.

    Raises:
        DropkitError: `start` is out of range.

    >>> [Late(0.5)(0.4, progress) for progress in (0, 0.49, 0.5, 1)]
    [0.0, 0.0, 0.4, 0.4]
    """

    start: float

    def __post_init__(self) -> None:
        """Check the field."""
        self._require("start", "a share of the training, greater than 0 and less than 1", most=1, most_allowed=False)

    def share(self, progress: float) -> float:
        """Return 0 before the start and 1 from it on."""
        return 1.0 if progress >= self.start else 0.0


@dataclass(frozen=True)
class Curriculum(Schedule):
    """Easy at first, then harder: the keep fraction falls from 1 to q = 1 - p as (1 - q) exp(-gamma t) + q.

    Curriculum dropout (Morerio et al., ICCV 2017). There t is the step, and gamma times the number of steps is about
    10; here t is the progress, so that gamma is that product. The base rate itself is approached and not reached: at
    the end of the training 1 - exp(-gamma) of it holds.

    Args:
        gamma: how fast, a finite number greater than 0.

    Raises:
        DropkitError: `gamma` is out of range.

    >>> [round(Curriculum()(0.5, progress), 4) for progress in (0, 0.1, 1)]
    [0.0, 0.3161, 0.5]
    """

    gamma: float = 10.0

    def __post_init__(self) -> None:
        """Check the field."""
        self._require("gamma", "a finite number greater than 0", most=math.inf)

    def share(self, progress: float) -> float:
        """Return 1 - exp(-gamma t): of p = 1 - q it leaves the rate 1 - keep(t)."""
        return -math.expm1(-self.gamma * progress)


_PLAIN: dict[str, Schedule] = {
    "constant": Constant(),
    "linear": Linear(),
    "early": Early(),
    "curriculum": Curriculum(),
}
_WITH_NUMBER: dict[str, type[Linear | Early | Late | Curriculum]] = {
    "linear": Linear,
    "early": Early,
    "late": Late,
    "curriculum": Curriculum,
}


def parse(text: str) -> Schedule:
    """Return the schedule that a text names, as `--schedule` takes it.

    Args:
        text: constant, linear, linear:UNTIL, early, early:UNTIL, late:START, curriculum or curriculum:GAMMA.

    Raises:
        DropkitError: it is none of these, or its number is out of range.

    >>> parse("early:0.3"), parse("linear")
    (Early(until=0.3), Linear(until=1.0))
    """
    if isinstance(text, str) and text in _PLAIN:
        return _PLAIN[text]
    name, _, number = str(text).partition(":")
    try:
        return _WITH_NUMBER[name](float(number))
    except (KeyError, ValueError):
        raise DropkitError(f"schedule must be {_GRAMMAR}, but got {text!r}") from None


class Scheduled:
    """A model whose dropout follows a schedule: `apply(progress)`, before a training step, sets the rates.

    The base rates are those that the model's dropkit layers have when this object is made. It is the only one to
    remember them: a state_dict holds no rate, and the rate of a step depends on nothing but the step. So a training
    that goes on makes the model and this object anew, and has the rates that it would have had.

    Compiled code takes rates as data and is not compiled again when they change. Only a rate of exactly 0 and one of 1
    are other code (the identity and zeros): at most one more compilation each.

    Layers that learn their rates (`ConcreteDropout`) are left alone, and so are torch.nn's own, of which it warns.

    Args:
        model: any module, wrapped or not. One without dropkit layers is left alone.
        schedule: which share of its base rate a layer has when.

    >>> from dropkit.layers.units import Dropout
    >>> model = nn.Sequential(nn.Linear(3, 5), Dropout(0.4))
    >>> scheduled = Scheduled(model, Early(until=0.5))
    >>> for step in range(3):
    ...     scheduled.apply(step / 4)
    ...     print(model[1].p)
    0.4
    0.2
    0.0
    >>> scheduled.restore()
    >>> model[1].p
    0.4
    """

    def __init__(self, model: nn.Module, schedule: Schedule) -> None:
        self.schedule = schedule
        self._base = [(layer, layer.p) for layer in model.modules() if _follows(layer)]
        _warn_of_others(model)

    def apply(self, progress: float) -> None:
        """Give every layer the rate of that progress, 0 to 1: the steps made before this one, divided by all steps.

        Raises:
            DropkitError: progress is not a number from 0 to 1.
        """
        for layer, p in self._base:
            _set(layer, self.schedule(p, progress))

    def restore(self) -> None:
        """Give every layer its base rate, as after the training for masks at prediction time."""
        for layer, p in self._base:
            _set(layer, p)


def _follows(module: nn.Module) -> TypeGuard[DropLayer]:
    return isinstance(module, DropLayer) and not isinstance(module, ConcreteDropout)


def _set(layer: DropLayer, p: float) -> None:
    if layer.p != p:  # a new rate makes a new tensor: the steps of a constant stretch need none
        layer.p = p


def _warn_of_others(model: nn.Module) -> None:
    """Warn of dropout layers that keep their rate: the schedule would go unnoticed by them."""
    for path, module in model.named_modules():
        if isinstance(module, _DropoutNd):
            warnings.warn(
                f"the schedule does not reach the torch.nn.{type(module).__name__} at {path!r}: "
                "use dropkit's layer there",
                stacklevel=3,  # Scheduled, the caller
            )
