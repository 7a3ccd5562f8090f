"""The dropout that functions do in a trace, not layers: at which rate, and whether it acts."""

from collections.abc import Iterator
from dataclasses import dataclass

from dropkit.models.check.evidence import number
from dropkit.models.operations import argument
from dropkit.models.trace import Operation, Trace

# Of functions that do more than drop: the places of their rate and of their training argument.
_ATTENTION = {"scaled_dot_product_attention": (4, None), "multi_head_attention_forward": (10, 13)}


@dataclass(frozen=True)
class FunctionalDropout:
    """One call of a function that drops.

    Attributes:
        operation: the call.
        rate: its rate; None where it is not known.
        acts: whether it drops.
    """

    operation: Operation
    rate: float | None
    acts: bool

    @property
    def name(self) -> str:
        """The function's name."""
        return self.operation.name

    @property
    def drops(self) -> str:
        """What it drops."""
        return "attention weights" if self.name in _ATTENTION else "units"


def functional_dropouts(trace: Trace) -> Iterator[FunctionalDropout]:
    """Yield the functional dropout of a trace, in order."""
    for operation in trace.operations:
        if operation.name in _ATTENTION:
            yield _attention(operation)
        elif "dropout" in operation.name and not operation.layer:
            yield _plain(operation)


def _plain(operation: Operation) -> FunctionalDropout:
    rate = _rate(operation, 1, "p", 0.5)
    training = argument(operation, 2, "train", argument(operation, 2, "training", True))
    return FunctionalDropout(operation, rate, bool(training) and rate != 0)


def _attention(operation: Operation) -> FunctionalDropout:
    place, training = _ATTENTION[operation.name]
    rate = _rate(operation, place, "dropout_p", 0.0)
    on = True if training is None else bool(argument(operation, training, "training", True))
    return FunctionalDropout(operation, rate, on and rate != 0)


def _rate(operation: Operation, position: int, name: str, default: float) -> float | None:
    """Return a rate; None for a tensor, which the trace does not keep."""
    given = argument(operation, position, name, default)
    return None if given is None else number(given)
