"""Dropout upstream of batch-norm: in training it adds to the variance that the norm divides by in evaluation, too."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dropkit.layers.base import DropLayer
from dropkit.layers.paths import Residual
from dropkit.models import operations as ops
from dropkit.models.check.acting import acting_within, as_trained, described
from dropkit.models.check.directed import FunctionalOff
from dropkit.models.check.evidence import Evidence, copied
from dropkit.models.check.finding import Finding
from dropkit.models.check.untouched import seed_generators
from dropkit.models.own import is_dropout
from dropkit.models.trace import Operation, Value, call, tensors_in

THRESHOLD = 0.10  # of the evaluated standard deviation
_PASSES = 3  # each must exceed the threshold: what one draw of masks shows by chance, three do not
_PATHS = ("StochasticDepth", "DropPath")  # torchvision's, timm's and dropkit's
_FEWEST, _MOST, _UNITS = 32, 256, 2**18  # samples at least and at most, and the input's units that decide between


@dataclass(frozen=True)
class _Pair:
    """A batch-norm, the nearest dropout upstream, and the standard deviation that the norm has in evaluation."""

    norm: str
    dropout: Operation
    deviation: float


def dropout_before_norm(evidence: Evidence) -> Iterator[Finding]:
    """DK020: the standard deviation after a batch-norm is another one in evaluation than in training.

    With dropout on, a norm's input has the standard deviation s, which the norm divides by and keeps as its running
    estimate; in evaluation the input has s' and the norm's output s' / s instead of 1 (Li et al., "Understanding the
    disharmony between dropout and batch normalization by variance shift", CVPR 2019). Both are measured.

    Stochastic depth does not count and is off meanwhile: networks with batch-norm are meant to have it (Huang et al.,
    ECCV 2016), and with random weights, where a branch gives all samples about the same, its effect is overstated.
    """
    nearest = _nearest(evidence)
    data = _data(evidence.example()) if nearest else None
    if data is None:
        return
    found: dict[int, list[_Pair]] = {}
    for norm, deviation in _deviations(evidence, list(nearest), data).items():
        found.setdefault(nearest[norm].begin, []).append(_Pair(norm, nearest[norm], deviation))
    for pairs in found.values():
        worst = max(pairs, key=lambda pair: abs(pair.deviation - 1))
        others = f" (and {len(pairs) - 1} more batch-norms behind it are over the limit)" if len(pairs) > 1 else ""
        yield Finding(
            "DK020",
            "warning",
            worst.norm,
            f"{described(evidence, worst.dropout)} acts upstream of this batch-norm, whose output has in evaluation "
            f"{worst.deviation:.2f} times the standard deviation that it has in training; up to {THRESHOLD:.0%} off is "
            f"tolerated{others}",
            "Drop after the last batch-norm instead (the sites `head` and `fc`), or lower the rate",
        )


def _nearest(evidence: Evidence) -> dict[str, Operation]:
    """Return the nearest acting dropout upstream of each batch-norm that has one."""
    live = {op.begin for op in acting_within(evidence) if not _drops_paths(evidence.modules[op.module])}
    if not live:
        return {}
    norms = [op for op in evidence.live_stages.trace.operations if ops.is_batch_norm(op) and _learns(evidence, op)]
    found = {op.module: _search(evidence.live_stages.made, op.reads[0], live) for op in norms}
    return {path: op for path, op in found.items() if op is not None}


def _learns(evidence: Evidence, operation: Operation) -> bool:
    """Whether a batch-norm's statistics follow the batches in training and are used in evaluation."""
    norm = evidence.modules[operation.module]
    if not isinstance(norm, _BatchNorm) or norm.running_mean is None:
        return False
    return norm.training or not evidence.model.training


def _search(made: Mapping[Value, Operation], value: Value, live: set[int]) -> Operation | None:
    """Go upstream, the nearest operations first."""
    waiting, seen = [value], {value}
    for current in waiting:
        op = made.get(current)
        if op is None:
            continue
        if op.begin in live:
            return op
        fresh = [source for source in dict.fromkeys(op.reads) if source not in seen]
        seen.update(fresh)
        waiting += fresh
    return None


def _data(example: Any) -> Any | None:
    """Return enough data for an estimate: the example, or noise of its shape; None where neither will do."""
    parts = tensors_in(example)
    if not parts or any(part.dim() < 2 for part in parts):
        return None
    samples = {part.shape[0] for part in parts}
    if min(samples) >= _FEWEST and all(_varies(part) for part in parts):
        return example
    if len(samples) > 1 or not all(part.is_floating_point() for part in parts):
        return None
    units = sum(part[0].numel() for part in parts)
    n = min(max(_UNITS // max(units, 1), _FEWEST), _MOST)
    generator = torch.Generator().manual_seed(20)
    return _replaced(example, lambda part: torch.randn(n, *part.shape[1:], generator=generator).to(part))


def _varies(part: Tensor) -> bool:
    return not part.is_floating_point() or bool(part.std() > 0)


def _replaced(example: Any, make: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(example, Tensor):
        return make(example)
    if isinstance(example, Mapping):
        return {name: _replaced(part, make) for name, part in example.items()}
    return tuple(_replaced(part, make) for part in example) if isinstance(example, tuple | list) else example


def _deviations(evidence: Evidence, norms: list[str], data: Any) -> dict[str, float]:
    """Return the evaluated standard deviation of each batch-norm where it is off by more than the threshold."""
    try:
        without = _variances(evidence, norms, data, None)
        passes = [_ratios(without, _variances(evidence, norms, data, seed)) for seed in range(_PASSES)]
    except Exception:  # a network may refuse the noise, or training mode altogether: nothing can be measured
        return {}
    found = {}
    for norm in norms:
        ratios = [ratios[norm] for ratios in passes if norm in ratios]
        if len(ratios) == _PASSES and all(abs(ratio - 1) > THRESHOLD for ratio in ratios):
            found[norm] = sum(ratios) / _PASSES
    return found


def _variances(evidence: Evidence, norms: list[str], data: Any, seed: int | None) -> dict[str, Tensor]:
    """Return the variance of each norm's input, by channel, in a training step; without a seed, with dropout off."""
    found: dict[str, Tensor] = {}
    hooks = []
    try:
        for path in norms:
            hooks.append(evidence.modules[path].register_forward_pre_hook(_measure(path, found)))
        with as_trained(evidence), torch.no_grad():
            seed_generators(evidence.model, seed or 0)
            _switch_off(evidence.model, everything=seed is None)
            if seed is None:
                with FunctionalOff():
                    call(evidence.model, copied(data))
            else:
                call(evidence.model, copied(data))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _measure(path: str, found: dict[str, Tensor]) -> Callable[[nn.Module, Any], None]:
    def hook(module: nn.Module, args: Any) -> None:
        x = args[0].detach().float()
        variance = x.transpose(0, 1).flatten(1).var(1, correction=0)
        found[path] = found[path] + variance if path in found else variance

    return hook


def _switch_off(model: nn.Module, *, everything: bool) -> None:
    """Switch the dropout layers off; not everything: those of stochastic depth alone."""
    for module in model.modules():
        drops = is_dropout(module) or isinstance(module, DropLayer)
        if drops and (everything or _drops_paths(module)):
            module.training = False


def _drops_paths(module: nn.Module) -> bool:
    return isinstance(module, Residual) or type(module).__name__ in _PATHS


def _ratios(without: dict[str, Tensor], acting: dict[str, Tensor]) -> dict[str, float]:
    """Return the median over channels of the standard deviations' ratio."""
    found = {}
    for path, variance in acting.items():
        least = 1e-6 * variance.max()
        moves = (variance > least) & (without[path] > least)
        if moves.any():
            found[path] = (without[path][moves] / variance[moves]).sqrt().median().item()
    return found


RULES = (dropout_before_norm,)
