"""Running a network while single dropout calls are switched off, kept out of place, or answered with NaN."""

import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dropkit.models.check.sources import calling_line
from dropkit.models.own import is_dropout
from dropkit.models.trace import Recorder, operation_name, tensors_in

Act = Literal["as it is", "off", "out of place", "nan"]


class Directed(Recorder):
    """Records a run in which each dropout call acts as it is told to.

    Args:
        model: the network.
        decide: tells how the n-th dropout call acts, counted from 0 as the dropout operations of a trace are.
    """

    def __init__(self, model: nn.Module, decide: Callable[[int], Act]) -> None:
        super().__init__(model)
        self.result: Any = None
        self._decide = decide
        self._count = 0
        self._held: list[tuple[nn.Module, dict[str, Any]]] = []
        self._answers: list[weakref.ref[Tensor]] = []

    def run(self, example_input: Any) -> None:
        """Run the network on the example, into which a layer in place may write."""
        try:
            super().run(example_input)
        finally:
            while self._held:
                self._restore()

    def kept_answers(self) -> bool:
        """Whether something still holds a tensor that was given in place of a dropout's result."""
        self._kept.clear()
        return any(answer() is not None for answer in self._answers)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if self._inside_dropout or "dropout" not in operation_name(func) or not self._knows(args, kwargs):
            return super().__torch_function__(func, types, args, kwargs)
        act = self._next()
        if act == "off":
            args, kwargs = switched_off(args, kwargs)
        if act == "out of place" and kwargs.get("inplace"):
            kwargs["inplace"] = False
        result = super().__torch_function__(func, types, args, kwargs)
        self.trace.operations[-1] = replace(self.trace.operations[-1], source=calling_line())
        return self._answer(result) if act == "nan" else result

    def _enter(self, module: nn.Module, args: Any) -> None:
        super()._enter(module, args)
        if is_dropout(module) and id(module) in self._paths and self._open[-1].reads is not None:
            act = self._next() if self._inside_dropout == 1 else "as it is"
            self._held.append((module, {"training": module.training, "act": act}))
            if act == "off":
                module.training = False
            if act == "out of place" and getattr(module, "inplace", False):
                self._held[-1][1]["inplace"] = True
                module.inplace = False  # type: ignore[assignment]

    def _leave(self, module: nn.Module, args: Any, result: Any) -> Any:
        act = "as it is"
        if self._held and self._held[-1][0] is module:
            act = self._restore()
        answer = self._answer(result) if act == "nan" else result
        super()._leave(module, args, answer)
        if self._paths.get(id(module)) == "":
            self.result = answer
        return answer

    def _restore(self) -> str:
        module, former = self._held.pop()
        act: str = former.pop("act")
        for name, value in former.items():
            setattr(module, name, value)
        return act

    def _next(self) -> Act:
        self._count += 1
        return self._decide(self._count - 1)

    def _knows(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        return any(self._number(tensor) is not None for tensor in tensors_in((args, kwargs)))

    def _answer(self, result: Any) -> Any:
        if not isinstance(result, Tensor) or not result.is_floating_point():
            return result
        with torch._C.DisableTorchFunction():
            answer = torch.full_like(result, torch.nan)
        self._answers.append(weakref.ref(answer))
        self._new(answer)
        return answer


def switched_off(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a functional dropout with its training argument, wherever it stands, False."""
    if len(args) > 2:
        return (*args[:2], False, *args[3:]), kwargs
    name = "train" if "train" in kwargs else "training"
    return args, {**kwargs, name: False}


class FunctionalOff(TorchFunctionMode):
    """Makes every functional dropout the identity."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if "dropout" in operation_name(func):
            args, kwargs = switched_off(args, kwargs)
        return func(*args, **kwargs)
