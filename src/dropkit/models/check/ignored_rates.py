"""Rates that a module was given and that change nothing in it."""

import random
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from dropkit.models.check.evidence import Evidence, Rule
from dropkit.models.check.finding import Finding
from dropkit.models.check.functional import functional_dropouts
from dropkit.models.check.untouched import generators
from dropkit.models.own import rate_attribute
from dropkit.models.trace import call, set_modes

_KIND = r"drop(out|_?path|_?block|_?connect|_?head|_?attn|_?proj)?"
_NAME = re.compile(rf"_?((\w+_)?{_KIND}(_?(p|prob|probs|probability|rate|ratio))?|p_drop(out)?)")


def rate_changes_nothing(evidence: Evidence) -> Iterator[Finding]:
    """DK008: a module has an attribute such as drop_rate = 0.3, and nothing in it drops."""
    suspects = _suspects(evidence)
    idle = _draw_nothing(evidence, {path for path, _, _ in suspects}) if suspects else set()
    for path, name, rate in suspects:
        if path in idle and not _is_used_above(evidence, path, rate):
            observed = (
                f"{name} = {rate:.3g}, but nothing in this {type(evidence.modules[path]).__name__} drops in training"
            )
            cure = f"Let forward apply a dropout layer of that rate, or take {name} away"
            yield Finding("DK008", "warning", evidence.place(path), observed, cure)


def _suspects(evidence: Evidence) -> list[tuple[str, str, float]]:
    """Return (path, attribute, rate) of the modules with a rate and without a dropout layer that ran in them."""
    ran = {call.path for call in evidence.training.calls if evidence.rates.get(call.path, 0.0) > 0}
    found = []
    for path, module in evidence.modules.items():
        if rate_attribute(module) is not None or any(_is_within(layer, path) for layer in ran):
            continue
        found += [(path, name, value) for name, value in vars(module).items() if _is_rate(name, value)]
    return found


def _is_rate(name: str, value: Any) -> bool:
    return type(value) is float and 0 < value < 1 and _NAME.fullmatch(name) is not None


def _is_within(path: str, above: str) -> bool:
    return above == "" or path == above or path.startswith(f"{above}.")


def _is_used_above(evidence: Evidence, path: str, rate: float) -> bool:
    """Whether a module that holds this one drops by a function at just that rate."""
    rates = [
        dropout.rate
        for dropout in functional_dropouts(evidence.training)
        if dropout.acts and _is_within(path, dropout.operation.module)
    ]
    return any(used is None or abs(used - rate) < 1e-9 for used in rates)


def _draw_nothing(evidence: Evidence, paths: set[str]) -> set[str]:
    """Return those of the modules that ran in training mode and advanced no generator of random numbers."""
    states: dict[str, list[Any]] = {}
    ran: set[str] = set()
    drew: set[str] = set()

    def enter(path: str) -> None:
        states[path] = _states(evidence.model)

    def leave(path: str) -> None:
        ran.add(path)
        if not all(map(_equal, states.pop(path), _states(evidence.model))):
            drew.add(path)

    with evidence.put_back(), torch.no_grad(), ExitStack() as hooks:
        set_modes(evidence.model, True, dropout=True)
        for path in paths:
            module = evidence.modules[path]
            hooks.callback(module.register_forward_pre_hook(partial(_tell, enter, path)).remove)
            hooks.callback(module.register_forward_hook(partial(_tell, leave, path)).remove)
        try:
            call(evidence.model, evidence.example())
        except Exception:  # what did not run is not judged
            return set()
    return ran - drew


def _tell(what: Callable[[str], None], path: str, *args: Any) -> None:
    what(path)


def _states(model: nn.Module) -> list[Any]:
    numbers = np.random.get_state()  # noqa: NPY002
    return [*(generator.get_state() for generator in generators(model)), random.getstate(), numbers]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


RULES: tuple[Rule, ...] = (rate_changes_nothing,)
