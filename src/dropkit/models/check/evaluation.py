"""Dropout that acts in eval mode, where it must not."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dropkit.models.check.evidence import Evidence, Rule, number
from dropkit.models.check.finding import Finding
from dropkit.models.check.functional import FunctionalDropout, functional_dropouts
from dropkit.models.check.modes import left_on
from dropkit.models.check.passes import Stranger
from dropkit.models.check.sources import calling_line, leaves_out, shown
from dropkit.models.check.untouched import generators
from dropkit.models.trace import call

ROUNDING = 1e-4  # of the largest output: what the order of additions may change


def functional_that_stays_on(evidence: Evidence) -> Iterator[Finding]:
    """DK001: functional dropout that acts in eval mode."""
    strangers = {source for _, source in evidence.evaluation.strangers}  # their functions are DK002's
    for dropout in functional_dropouts(evidence.evaluation):
        if dropout.acts and dropout.operation.source not in strangers:
            yield _stays_on(dropout)
    for source in _own_functions(evidence):
        yield _own_stays_on(source)


def _stays_on(dropout: FunctionalDropout) -> Finding:
    source, name = dropout.operation.source, dropout.name
    rate = "" if dropout.rate is None else f" {dropout.rate:.3g} of the"
    observed = f"{name} drops{rate} {dropout.drops} in eval mode too"
    if name == "scaled_dot_product_attention":
        cure = "It knows no mode: pass dropout_p=p if self.training else 0.0"
    elif leaves_out(source, name, 13 if name == "multi_head_attention_forward" else 2, ("training", "train")):
        observed += ": training is left out, and its default is True"
        cure = "Pass training=self.training"
    else:
        cure = "Its training argument is true in eval mode: pass self.training"
    return Finding("DK001", "error", shown(source), observed, cure)


def _own_functions(evidence: Evidence) -> list[str]:
    """Return the lines that call dropkit's functional dropout and have it on; a trace sees no more than their masks."""
    names = ("draw", "drop")
    inner = {op.source for op in evidence.evaluation.operations if op.name.startswith(names) and not op.layer}
    if not any("dropkit" in source for source in inner):
        return []
    strangers = {stranger.source for stranger in evidence.evaluated[0].strangers}
    return [line for line, name in _drawing_lines(evidence) if name == "draw" and line not in strangers]


def _own_stays_on(source: str) -> Finding:
    observed, cure = "dropkit.functional drops units in eval mode too", "Pass training=self.training"
    return Finding("DK001", "error", shown(source), observed, cure)


def layer_out_of_reach(evidence: Evidence) -> Iterator[Finding]:
    """DK002: a dropout layer that ran and is registered nowhere in the network."""
    dropping = {s.source: s for s in evidence.evaluated[0].strangers if s.training and number(s.rate) != 0}
    for stranger in dropping.values():
        observed = f"the {stranger.kind} here{_rate(stranger)} drops in eval mode too"
        yield _out_of_reach(stranger, observed)
    for stranger in evidence.trained.strangers:
        resting = not stranger.training and number(stranger.rate) != 0
        if resting and stranger.source not in dropping:
            yield _out_of_reach(stranger, f"the {stranger.kind} here{_rate(stranger)} drops nothing in training mode")


def _rate(stranger: Stranger) -> str:
    rate = number(stranger.rate)
    return "" if rate is None else f" (p = {rate:.3g})"


def _out_of_reach(stranger: Stranger, observed: str) -> Finding:
    observed += ": it is built in forward or kept in a plain list or dict, where train() and eval() do not reach it"
    cure = "Build it once, in __init__, as an attribute of the module or in an nn.ModuleList or nn.ModuleDict"
    return Finding("DK002", "error", shown(stranger.source), observed, cure)


def evaluations_differ(evidence: Evidence) -> Iterator[Finding]:
    """DK003: two passes in eval mode differ, and no other rule says why."""
    first, second = (done.outputs for done in evidence.evaluated)
    difference = largest_difference(first, second)
    explained = (functional_that_stays_on, layer_out_of_reach, left_on)
    if not difference or any(list(rule(evidence)) for rule in explained):
        return
    again = largest_difference(first, evidence.run_pass(training=False, seed=1).outputs)
    size = max((tensor.abs().max().item() for tensor in first if tensor.numel()), default=0.0)
    if again and difference <= ROUNDING * size:
        return  # kernels that add in another order each time
    observed = f"two evaluations of the same input differ by up to {difference:.3g} (outputs are up to {size:.3g})"
    lines = list(dict.fromkeys(line for line, _ in _drawing_lines(evidence)))
    if lines:
        observed, cure = f"{observed}: random numbers are drawn here", "Draw them only if self.training"
    elif again:
        cure = "No seed of torch, numpy or Python makes them equal: look for state that forward changes"
        observed += ", with equal seeds too"
    else:
        cure = "Look for random numbers that forward draws outside torch, and draw them only if self.training"
    for where in map(shown, lines) if lines else [evidence.place("")]:
        yield Finding("DK003", "error", where, observed, cure)


def largest_difference(one: list[Tensor], other: list[Tensor]) -> float:
    """Return the largest absolute difference of two results; infinity where their shapes differ."""
    if [tensor.shape for tensor in one] != [tensor.shape for tensor in other]:
        return float("inf")
    largest = 0.0
    for a, b in zip(one, other, strict=True):
        unequal = (a != b) & ~((a != a) & (b != b))
        if unequal.any():
            # An infinity or NaN on one side alone is a difference beyond all figures.
            gap = (a[unequal].to(torch.complex128) - b[unequal].to(torch.complex128)).abs()
            largest = max(largest, gap.nan_to_num(float("inf")).max().item())
    return largest


def _drawing_lines(evidence: Evidence) -> list[tuple[str, str]]:
    """Return (line, name of the operation) of what draws from torch's generators in eval mode."""
    drawing = _Drawing(evidence.model)
    with evidence.put_back(), torch.no_grad(), drawing:
        evidence.model.eval()
        call(evidence.model, evidence.example())
    return drawing.found


class _Drawing(TorchFunctionMode):
    """Notes the operations at which torch's generators advance."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._generators = generators(model)
        self.found: list[tuple[str, str]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        before = [generator.get_state() for generator in self._generators]
        result = func(*args, **(kwargs or {}))
        after = [generator.get_state() for generator in self._generators]
        if not all(map(torch.equal, before, after)):
            self.found.append((calling_line(), getattr(func, "__name__", "")))
        return result


RULES: tuple[Rule, ...] = (functional_that_stays_on, layer_out_of_reach, evaluations_differ)
