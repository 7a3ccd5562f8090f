"""What drops in training mode: the layers that are called there, and what a network's own code calls."""

import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dropkit import masks
from dropkit.errors import DropkitError
from dropkit.models.conversion import converted
from dropkit.models.own import is_dropout, rate_attribute
from dropkit.models.trace import TORCH, Trace, set_modes, trace, uncompiled, undisturbed
from dropkit.uncertainty.frozen import frozen_paths
from dropkit.uncertainty.functions import ATTENTION, KEYED, RANDOM, attention_rate

_MASKS = str(Path(masks.__file__).parent) + os.sep


@dataclass
class Calls:
    """What a network calls in training mode. A place is a file and a line.

    Attributes:
        layers: paths of the modules.
        functional: how often each place calls functional dropout that drops.
        idle: (place, which of its calls) of functional dropout that is told not to drop there, either.
        strange: places that drop by functions whose masks cannot be keyed.
        attention: paths of the modules that drop within attention.
        own: paths of the modules that call functions of dropkit.functional.
        random: places of the network's code that draw random numbers otherwise.
    """

    layers: set[str] = field(default_factory=set)
    functional: Counter[str] = field(default_factory=Counter)
    idle: set[tuple[str, int]] = field(default_factory=set)
    strange: set[str] = field(default_factory=set)
    attention: set[str] = field(default_factory=set)
    own: set[str] = field(default_factory=set)
    random: set[str] = field(default_factory=set)


def training_calls(model: nn.Module, x: Tensor) -> Calls:
    """Return what a network calls in training mode; nothing where it does not run in that mode.

    Args:
        model: the network, which runs once, on one picture; on all, where it takes batches of one size alone.
        x: a batch of its input.
    """
    one = _one(x)
    for example in (one, x) if len(x) > 1 else (one,):
        try:
            return _heard(model, example)
        except Exception:  # whatever the network's code raises
            continue
    return Calls()


def trace_small(model: nn.Module, x: Tensor) -> Trace:
    """Return what happens in eval mode on one picture of a batch; on all, where the network takes one size alone.

    Args:
        model: the network.
        x: a batch of its input.
    """
    try:
        return trace(model, _one(x), training=False)
    except DropkitError:
        if len(x) <= 1:
            raise
        return trace(model, x, training=False)


def drops_between_layers(module: nn.Module) -> bool:
    """Whether a module has recurrent layers with dropout between them."""
    return isinstance(module, nn.RNNBase) and module.dropout > 0 and module.num_layers > 1


def caller(frame: FrameType | None) -> str:
    """Return file and line of the innermost code around a frame that is none of torch's own."""
    while frame is not None and frame.f_code.co_filename.startswith(TORCH):
        frame = frame.f_back
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _one(x: Tensor) -> Tensor:
    """Return one picture of a batch; of no pictures little would happen: then it is a picture of zeros."""
    return x[:1] if len(x) else x.new_zeros(1, *x.shape[1:])


def _heard(model: nn.Module, x: Tensor) -> Calls:
    """Run a network in training mode, batch-norm aside, and return what it called."""
    with undisturbed(model), uncompiled(), torch.no_grad():
        set_modes(model, True, dropout=True)  # a network's code may ask a dropout layer for its mode
        for module in model.modules():
            if rate_attribute(module) is not None and not is_dropout(module):
                module.training = False
        listener = _Listener(model)
        with listener:
            model(x.clone())  # which it may write into
    return listener.calls


class _Listener(TorchFunctionMode):
    """Writes down what a network calls. Its hooks go when the network's modules are put back."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.calls = Calls()
        self._frozen = frozen_paths(model)
        self._open = [""]
        self._replaced = 0  # open layers that a layer of dropkit's stands for while the network is sampled
        self._dropping = 0  # open dropout layers
        self._numbers: Counter[str] = Counter()
        for path, module in model.named_modules():
            self._follow(path, is_dropout(module), converted(module) is not None, module)

    def _follow(self, path: str, drops: bool, replaced: bool, module: nn.Module) -> None:
        def enter(*given: Any) -> None:
            self.calls.layers.add(path)
            self._open.append(path)
            self._dropping += drops
            self._replaced += replaced

        def leave(*given: Any) -> None:
            self._open.pop()
            self._dropping -= drops
            self._replaced -= replaced

        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave, always_call=True)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._open[-1] not in self._frozen and not self._replaced:
            self._note(func, caller(sys._getframe(1)), args, kwargs or {})
        return func(*args, **(kwargs or {}))

    def _note(self, func: Callable[..., Any], place: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if func in KEYED:  # also within a layer, where it is keyed in its turn
            self._note_keyed(func, place, args, kwargs)
        elif self._dropping:
            return
        elif func in ATTENTION:
            if attention_rate(func, args, kwargs):
                self.calls.attention.add(self._open[-1])
        elif place.startswith(_MASKS):
            self.calls.own.add(self._open[-1])
        elif func is torch.native_dropout:
            if args[1:2] != (0,) and kwargs.get("train", args[2] if len(args) > 2 else True) is not False:
                self.calls.strange.add(place)
        elif func in RANDOM:
            self.calls.random.add(place)

    def _note_keyed(self, func: Callable[..., Any], place: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        number, keyed = self._numbers[place], KEYED[func]
        self._numbers[place] += 1
        if not keyed.drops(args, kwargs):
            self.calls.idle.add((place, number))
        elif keyed.rate(args, kwargs) > 0 and not self._dropping:
            self.calls.functional[place] += 1
