"""The dropout that acts when a network trains as it stands, and how messages name it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn

from dropkit.models import operations as ops
from dropkit.models.check.evidence import Evidence, number
from dropkit.models.check.sources import shown
from dropkit.models.own import rate_attribute
from dropkit.models.trace import Operation, set_modes


def dropouts(evidence: Evidence) -> list[Operation]:
    """Return all dropout operations of the live trace, in order; none where it cannot run in training mode."""
    return [] if evidence.live is None else [op for op in evidence.live.operations if ops.is_dropout(op)]


def layer_of(evidence: Evidence, operation: Operation) -> nn.Module | None:
    """Return the layer with a rate in which an operation happened; None for functional forms and all else."""
    module = evidence.modules[operation.module]
    return None if rate_attribute(module) is None else module


def rate_of(evidence: Evidence, operation: Operation) -> float:
    """Return the rate of an operation that drops."""
    layer = layer_of(evidence, operation)
    if layer is None:
        return number(ops.argument(operation, 1, "p", 0.5)) or 0.0
    rate = getattr(layer, rate_attribute(layer) or "p")
    return number(rate.detach() if isinstance(rate, Tensor) else rate) or 0.0


def acts(evidence: Evidence, operation: Operation) -> bool:
    """Whether an operation drops in training, in the modes that the network has been given.

    Who has a part of a network in eval mode while the rest trains means it; a network that is in eval mode as a whole
    will be set to training mode.
    """
    if rate_of(evidence, operation) <= 0:
        return False
    training = ops.argument(operation, 2, "train", ops.argument(operation, 2, "training", True))
    if layer_of(evidence, operation) is None and not training:
        return False
    return not evidence.model.training or evidence.modules[operation.module].training


def acting(evidence: Evidence) -> list[Operation]:
    """Return the dropout operations that drop in training, in order."""
    return [op for op in dropouts(evidence) if acts(evidence, op)]


def acting_within(evidence: Evidence) -> list[Operation]:
    """Return what `acting` does, and the operations of layers that do more than drop, as DropConnect does."""
    if evidence.live is None:
        return []
    drops = [op for op in evidence.live.operations if ops.is_dropout(op) or layer_of(evidence, op) is not None]
    return [op for op in drops if acts(evidence, op)]


def is_inplace(evidence: Evidence, operation: Operation) -> bool:
    """Whether a dropout operation writes its result into its input."""
    layer = layer_of(evidence, operation)
    if layer is not None:
        return bool(getattr(layer, "inplace", False))
    return bool(ops.argument(operation, 3, "inplace", False)) or operation.name.endswith("_")


def kind_of(evidence: Evidence, operation: Operation) -> str:
    """Return the class of a layer that drops, or the function's name."""
    layer = layer_of(evidence, operation)
    return operation.name if layer is None else type(layer).__name__


def location(evidence: Evidence, operation: Operation) -> str:
    """Return where an operation that drops stands: the layer's path, or file and line of the call."""
    if layer_of(evidence, operation) is not None or not operation.source:
        return evidence.place(operation.module)
    return shown(operation.source)


def described(evidence: Evidence, operation: Operation) -> str:
    """Return kind, rate and place: `Dropout 0.5 (fc.1)`."""
    place = Path(location(evidence, operation)).name  # of a file, the name will do
    return f"{kind_of(evidence, operation)} {rate_of(evidence, operation):g} ({place})"


@contextmanager
def as_trained(evidence: Evidence) -> Iterator[None]:
    """Put the network in the modes in which it is going to be trained, for the block."""
    with evidence.put_back():
        if not evidence.model.training:
            set_modes(evidence.model, True, dropout=True, batch_norm=True)
        yield
