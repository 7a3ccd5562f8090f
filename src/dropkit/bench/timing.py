"""Times of several ways to do one thing, taken in turn, so that a slow moment of the machine meets all of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Call = Callable[[], object]

SAMPLE = 2e-3  # seconds that one sample lasts at least: what is shorter is called several times
FEWEST, MOST = 5, 101  # rounds


@dataclass(frozen=True)
class Timing:
    """Seconds a call, one sample a round.

    >>> Timing([1.0, 2.0, 3.0, 4.0, 9.0]).median
    3.0
    """

    seconds: list[float]

    @property
    def median(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The lower and the upper quartile."""
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return low, high

    def ratio(self, base: "Timing") -> float:
        """Return the median over the rounds of this time divided by another's of the same round.

        >>> Timing([2.0, 4.0, 60.0]).ratio(Timing([1.0, 2.0, 20.0]))
        2.0
        """
        return statistics.median(a / b for a, b in zip(self.seconds, base.seconds, strict=True))


def in_turn(calls: Mapping[str, Call], seconds: float, device: str = "cpu") -> dict[str, Timing]:
    """Time each call once a round.

    Args:
        calls: what to time, by name; each is called before the first round, which compiles and allocates.
        seconds: how long all rounds together should take; there are from 5 to 101 of them.
        device: where the calls compute; what runs beside the host is waited for.
    """
    repetitions = {name: _repetitions(call, device) for name, call in calls.items()}
    round_seconds = sum(count * each for count, each in repetitions.values())
    rounds = min(MOST, max(FEWEST, int(seconds / round_seconds)))
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            count = repetitions[name][0]
            samples[name].append(_elapsed(call, count, device) / count)
    return {name: Timing(values) for name, values in samples.items()}


def _repetitions(call: Call, device: str) -> tuple[int, float]:
    """Return how often a sample has to call, and how long a call takes, about."""
    for _ in range(2):
        _elapsed(call, 1, device)
    each = max(_elapsed(call, 3, device) / 3, 1e-7)
    return max(1, int(SAMPLE / each)), each


def _elapsed(call: Call, count: int, device: str) -> float:
    _wait(device)
    began = time.perf_counter()
    for _ in range(count):
        call()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: str) -> None:
    if device != "cpu":
        torch.accelerator.synchronize(device)
