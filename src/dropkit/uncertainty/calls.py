"""Dropout that a network's own code calls in training mode: functional, within attention, or of dropkit.functional."""

import inspect
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import FrameType

from torch import Tensor, nn

from dropkit import masks
from dropkit.errors import DropkitError
from dropkit.models import operations as ops
from dropkit.models.functional_calls import rate_of_call
from dropkit.models.trace import TORCH, Operation, Trace, trace
from dropkit.uncertainty.frozen import frozen_paths

ATTENTION = ("multi_head_attention_forward", "scaled_dot_product_attention")
_MASKS = Path(masks.__file__).parent
# A function's name behind a module's, or imported, but not a layer's behind self.
_CALLS = re.compile(r"(?<!self)\.\w*dropout|import[^\n]*\bdropout|scaled_dot_product_attention")
_KNOWN = ("torch.", "dropkit.layers.")  # their dropout is seen without reading their code


@dataclass(frozen=True)
class Calls:
    """What drops in training mode and is no layer.

    Attributes:
        functional: how often each place (file and line) calls functional dropout.
        attention: paths of the modules that drop within attention.
        own: paths of the modules that call functions of dropkit.functional.
    """

    functional: Counter[str] = field(default_factory=Counter)
    attention: tuple[str, ...] = ()
    own: tuple[str, ...] = ()


def training_calls(model: nn.Module, x: Tensor) -> Calls:
    """Return what drops in training mode and is no layer; nothing where the network does not run in that mode.

    Args:
        model: the network, which runs once on one picture, its layers' dropout off.
        x: a batch of its input.
    """
    try:
        operations = trace_small(model, x, training=True).operations
    except DropkitError:
        return Calls()
    frozen = frozen_paths(model)
    dropping = [op for op in operations if not op.layer and op.module not in frozen and _is_on(op)]
    plain = [op for op in dropping if op.name not in ATTENTION and not _is_own(op)]
    return Calls(
        Counter(op.source or op.module for op in plain),
        tuple(dict.fromkeys(op.module for op in dropping if op.name in ATTENTION)),
        tuple(dict.fromkeys(op.module for op in dropping if _is_own(op))),
    )


def trace_small(model: nn.Module, x: Tensor, *, training: bool) -> Trace:
    """Return what happens on one picture of a batch; on all, where the network takes batches of one size alone.

    Of no pictures little would happen: then it is a picture of zeros.

    Args:
        model: the network.
        x: a batch of its input.
        training: the mode.
    """
    one = x[:1] if len(x) else x.new_zeros(1, *x.shape[1:])
    try:
        return trace(model, one, training=training)
    except DropkitError:
        if len(x) <= 1:
            raise
        return trace(model, x, training=training)


def may_call_dropout(model: nn.Module) -> bool:
    """Whether the source of a network's classes gives reason to run it in training mode, to see what it calls."""
    return any(_may_call(name) for name in {type(module).__module__ for module in model.modules()})


@cache
def _may_call(module: str) -> bool:
    if module.startswith(_KNOWN):
        return False
    try:
        return _CALLS.search(inspect.getsource(sys.modules[module])) is not None
    except (KeyError, OSError, TypeError):  # it was typed in, and there is no source to read
        return True


def drops_between_layers(module: nn.Module) -> bool:
    """Whether a module has recurrent layers with dropout between them."""
    return isinstance(module, nn.RNNBase) and module.dropout > 0 and module.num_layers > 1


def caller(frame: FrameType | None) -> str:
    """Return file and line of the innermost code around a frame that is none of torch's own, as an Operation has it."""
    while frame is not None and frame.f_code.co_filename.startswith(TORCH):
        frame = frame.f_back
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _is_on(op: Operation) -> bool:
    if _is_own(op):
        return True
    if not rate_of_call(op):
        return False
    if op.name == "scaled_dot_product_attention":
        return True
    place = 13 if op.name in ATTENTION else 2
    return bool(op.kwargs.get("train", ops.argument(op, place, "training", True)))


def _is_own(op: Operation) -> bool:
    return Path(op.source.rpartition(":")[0]).parent == _MASKS
