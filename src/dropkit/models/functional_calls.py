"""Functional dropout in a network's own code: where it is called, at which rate, and what holds the rate."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from dropkit import masks
from dropkit.errors import DropkitError
from dropkit.models import operations as ops
from dropkit.models.own import rate_attribute
from dropkit.models.trace import Operation, trace

_MASKS = Path(masks.__file__).parent
_ATTENTION = {"multi_head_attention_forward": 10, "scaled_dot_product_attention": 4}  # where dropout_p stands


@dataclass(frozen=True)
class FunctionalDropout:
    """A call such as F.dropout(x, p, self.training) in a module's forward.

    Attributes:
        module: path of the module in whose forward it is called.
        name: the function's name.
        rate: its rate.
        source: file and line of the call.
        attribute: (path of a module, attribute) that holds the rate; None where it is written in the code.
    """

    module: str
    name: str
    rate: float
    source: str
    attribute: tuple[str, str] | None = None


def functional_dropout(model: nn.Module, example_input: Any) -> list[FunctionalDropout]:
    """Return the functional dropout that a network runs in training mode, in execution order.

    What holds a rate is found by trying: every attribute that has the rate gets one of its own, the network runs again,
    and the rates that are seen then tell which call reads which attribute. The network is the same afterwards.

    Raises:
        DropkitError: if the network calls functions of dropkit.functional, or as `trace`.
    """
    found = _calls(model, example_input)
    candidates = _candidates(model, found)
    if not candidates:
        return found
    holders = _holders(model, example_input, found, candidates)
    return [replace(call, attribute=holder) for call, holder in zip(found, holders, strict=True)]


def rate_of_call(operation: Operation) -> float | None:
    """Return the rate of a functional dropout, the one within attention included; None for other operations."""
    if operation.layer:
        return None
    if operation.name in _ATTENTION:
        rate = ops.argument(operation, _ATTENTION[operation.name], "dropout_p", 0.0)
    elif ops.is_dropout(operation):
        rate = ops.argument(operation, 1, "p", 0.5)
    else:
        return None
    return float(rate) if isinstance(rate, int | float) else None


def _calls(model: nn.Module, example_input: Any) -> list[FunctionalDropout]:
    operations = trace(model, example_input).operations
    for op in operations:
        # Layers are off meanwhile. The rate is in the function's words for it, which no attribute tells.
        if Path(op.source.rpartition(":")[0]).parent == _MASKS and not op.layer:
            raise DropkitError(
                f"the forward of {op.module or 'the network'} ({type(model.get_submodule(op.module)).__name__}) calls "
                "a function of dropkit.functional, whose rate cannot be set from outside: use dropkit's layer there, "
                "or torch.nn.functional's dropout"
            )
    rated = [(op, rate_of_call(op)) for op in operations]
    return [FunctionalDropout(op.module, op.name, rate, op.source) for op, rate in rated if rate is not None]


def _candidates(model: nn.Module, calls: list[FunctionalDropout]) -> list[tuple[str, str]]:
    """Return the attributes that may hold a rate: numbers equal to it, in or near the calling module."""
    found: dict[tuple[str, str], None] = {}
    for call in calls:
        for path in _near(model, call.module):
            module = model.get_submodule(path)
            own = rate_attribute(module)
            # Of a dropout layer the rate alone: it may be computed from others, which have to go with it.
            held = vars(module) if own is None else {own: getattr(module, own)}
            for name, value in held.items():
                if _may_be(name, value, call.rate):
                    found[path, name] = None
    return list(found)


def _may_be(name: str, value: Any, rate: float) -> bool:
    """Whether an attribute may hold a rate. Integers are mostly something else."""
    if type(value) is int:
        return value == rate and (name == "p" or "drop" in name or "rate" in name)
    return type(value) is float and value == rate


def _near(model: nn.Module, path: str) -> Iterator[str]:
    """Yield the path of a module, those of the modules around it, and those of its children."""
    yield from _around(path)
    start = f"{path}." if path else ""
    for name, _ in model.get_submodule(path).named_children():
        yield start + name


def _around(path: str) -> Iterator[str]:
    """Yield a module's path and those of the modules around it."""
    while path:
        yield path
        path = path.rpartition(".")[0]
    yield ""


def _holders(
    model: nn.Module, example_input: Any, calls: list[FunctionalDropout], candidates: list[tuple[str, str]]
) -> list[tuple[str, str] | None]:
    marks = dict(zip(_marks(len(candidates), {call.rate for call in calls}), candidates, strict=True))
    before = {place: getattr(model.get_submodule(place[0]), place[1]) for place in candidates}
    try:
        for mark, (path, name) in marks.items():
            setattr(model.get_submodule(path), name, mark)
        seen = _calls(model, example_input)
    except Exception:  # an attribute that is something else may break the network: then each is tried by itself
        seen = []
    finally:
        for (path, name), value in before.items():
            setattr(model.get_submodule(path), name, value)
    if len(seen) == len(calls):
        return [marks.get(call.rate) for call in seen]
    if len(candidates) == 1:
        return [None] * len(calls)
    alone = [_holders(model, example_input, calls, [candidate]) for candidate in candidates]
    return [next((holder for holder in holders if holder is not None), None) for holders in zip(*alone, strict=True)]


def _marks(count: int, taken: set[float]) -> list[float]:
    """Return rates that nothing else has: neither a call, nor what is computed from one of them, such as 1 - p."""
    marks = (0.3 + 0.1 * (number * 0.6180339887 % 1) for number in range(1, count + len(taken) + 1))
    return [mark for mark in marks if mark not in taken][:count]
