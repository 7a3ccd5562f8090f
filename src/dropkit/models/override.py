"""Other rates for functional dropout whose own rate no attribute holds: the call is met while its module runs."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

_RATES = "_dropkit_override"  # {rate in the code: the rate in its place} for the functional dropout in a module
_ACTIVE = "_dropkit_active_override"
_FIRST = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)
_OPERATORS = (torch.dropout, torch.alpha_dropout, torch.feature_dropout, torch.feature_alpha_dropout)
# Where a function takes its rate, what it calls it, and what that is if nothing is given.
_PLACES: dict[Any, tuple[int, str, float]] = {
    **dict.fromkeys((*_FIRST, *_OPERATORS), (1, "p", 0.5)),
    F.scaled_dot_product_attention: (4, "dropout_p", 0.0),
    F.multi_head_attention_forward: (10, "dropout_p", 0.0),
}


def override(module: nn.Module, seen: float, rate: float) -> None:
    """Give the functional dropout in a module's forward that drops at the rate `seen` another rate.

    Other rates stay as they are, such as the 0 that code gives to attention in eval mode. Functional dropout at the
    same rate in modules that this one calls is met as well.
    """
    if _RATES not in module.__dict__:
        module.register_forward_pre_hook(_begin)
        module.register_forward_hook(_end, always_call=True)
    before: dict[float, float] = module.__dict__.get(_RATES, {})
    known = {written: rate for written, now in before.items() if now == seen}
    module.__dict__[_RATES] = {**before, **(known or {seen: rate})}


def stop_overriding(module: nn.Module) -> None:
    """Let functional dropout have its own rates again."""
    if module.__dict__.pop(_RATES, None) is None:
        return
    for hooks, function in ((module._forward_pre_hooks, _begin), (module._forward_hooks, _end)):
        for number in [number for number, hook in hooks.items() if hook is function]:
            del hooks[number]
            module._forward_hooks_always_called.pop(number, None)


def overridden(model: nn.Module) -> Iterator[tuple[str, nn.Module, dict[float, float]]]:
    """Yield (path, module, {rate in the code: rate now}) for every module whose functional dropout has other rates."""
    for path, module in model.named_modules():
        if _RATES in module.__dict__:
            yield path, module, module.__dict__[_RATES]


class _OtherRates(TorchFunctionMode):
    """While it is active, functional dropout has other rates."""

    def __init__(self, rates: dict[float, float]) -> None:
        super().__init__()
        self.rates = rates

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _PLACES:
            position, name, default = _PLACES[func]
            if len(args) > position:
                given = args[position]
                args = (*args[:position], self.rates.get(given, given), *args[position + 1 :])
            else:
                given = kwargs.get(name, default)
                kwargs[name] = self.rates.get(given, given)
        return func(*args, **kwargs)


def _begin(module: nn.Module, args: Any) -> None:
    mode = _OtherRates(module.__dict__[_RATES])
    # With what is active already, where a module calls itself. The compiler follows this: no list, no del.
    module.__dict__[_ACTIVE] = (mode, module.__dict__.get(_ACTIVE))
    mode.__enter__()


def _end(module: nn.Module, args: Any, output: Any) -> None:
    active = module.__dict__.pop(_ACTIVE, None)
    if active is not None:
        mode, outer = active
        if outer is not None:
            module.__dict__[_ACTIVE] = outer
        mode.__exit__(None, None, None)
