"""Other libraries' layers that do not do what their rate says: measured, each alone."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dropkit.layers.blocks import DropBlock2d, DropBlock3d
from dropkit.models import operations as ops
from dropkit.models.check.acting import acts, kind_of, location, rate_of
from dropkit.models.check.evidence import Evidence, Rule
from dropkit.models.check.finding import Finding
from dropkit.models.check.untouched import generators_kept, seed_generators
from dropkit.models.conversion import converted
from dropkit.models.trace import Operation, Recorder, set_modes, uncompiled

RATE_OFF = 0.1  # of the rate asked for
SCALE_OFF = 0.001
_ERRORS = 4  # standard errors that a rate must be off by as well
_UNITS, _FEWEST_MAPS, _FEWEST_BLOCKS = 2**21, 16, 100  # measured at once; fewer maps or blocks say too little
_VALUES = 2**18  # one draw of them knows a mean scale to a few millionths
_DROPOUTS: dict[type[nn.Module] | str, Callable[..., Tensor]] = {
    nn.Dropout: F.dropout,
    nn.Dropout1d: F.dropout1d,
    nn.Dropout2d: F.dropout2d,
    nn.Dropout3d: F.dropout3d,
    "dropout": F.dropout,
    "dropout1d": F.dropout1d,
    "dropout2d": F.dropout2d,
    "dropout3d": F.dropout3d,
}
_AXES = {F.dropout1d: 1, F.dropout2d: 2, F.dropout3d: 3}


def block_rate(evidence: Evidence) -> Iterator[Finding]:
    """DK018: another library's DropBlock drops more or less than it is asked for.

    Its rate of block seeds comes from the paper's first-order formula (Ghiasi et al., NeurIPS 2018, sec. 3.1), in which
    blocks do not overlap and none reaches over the edge. Layers whose options ask for something else are left out.
    """
    measured: dict[Any, tuple[float, float] | None] = {}  # networks have many alike, and each takes a while
    for op in evidence.training.operations:
        layer = evidence.modules[op.module]
        own = converted(layer) if "DropBlock" in type(layer).__name__ and acts(evidence, op) else None
        sides = evidence.training.shapes[op.reads[0]][2:]
        if not isinstance(own, DropBlock2d | DropBlock3d) or not 0 < own.p < 1:
            continue
        key = (type(layer), own.p, own.block_size, sides)
        if key not in measured:
            measured[key] = _realised(evidence, layer, own, sides)
        found = measured[key]
        if found is not None and _is_off(own.p, *found):
            yield _block_finding(op, layer, own, sides, found[0])


def _realised(
    evidence: Evidence, layer: nn.Module, own: DropBlock2d | DropBlock3d, sides: tuple[int, ...]
) -> tuple[float, float] | None:
    """Return the fraction that a layer drops and its standard error; None where maps or blocks are too few.

    Blocks make the units of a map alike, so the error comes from the spread over maps. One channel will do: the others
    have either the same blocks or blocks of their own.
    """
    maps = _UNITS // max(math.prod(sides), 1)
    block = math.prod(min(int(own.block_size), side) for side in sides)  # type: ignore[arg-type]
    if maps < _FEWEST_MAPS or own.p * maps * math.prod(sides) < _FEWEST_BLOCKS * block:
        return None
    alone = copy.copy(layer)
    alone.training = True
    with generators_kept(evidence.model), torch.no_grad():
        seed_generators(evidence.model, 0)
        result = alone.forward(torch.ones(maps, 1, *sides, dtype=torch.float32, device="cpu"))
    dropped = (result == 0).flatten(1).double().mean(1)
    return dropped.mean().item(), dropped.std().item() / maps**0.5


def _is_off(p: float, rate: float, error: float) -> bool:
    return abs(rate - p) > max(RATE_OFF * p, _ERRORS * error)


def _block_finding(
    op: Operation, layer: nn.Module, own: DropBlock2d | DropBlock3d, sides: tuple[int, ...], rate: float
) -> Finding:
    library, kind = type(layer).__module__.partition(".")[0], type(layer).__name__
    maps = "x".join(map(str, sides))
    observed = (
        f"{library}'s {kind} is asked to drop {own.p:.3g} of the units and drops {rate:.3g}, with blocks of "
        f"{own.block_size} on maps of {maps}"
    )
    cure = f"Use dropkit.{type(own).__name__}, whose rate is exact for all maps and blocks: dropkit.convert(model)"
    return Finding("DK018", "warning", op.module, observed, cure)


def biased_scale(evidence: Evidence) -> Iterator[Finding]:
    """DK019: torch's dropout rounds 1 / (1 - p) to bfloat16 before it multiplies by it.

    float16 is rounded four times as finely or better, which leaves less than the limit.
    """
    suspects = [op for op in evidence.training.operations if acts(evidence, op) and _may_be_biased(evidence, op)]
    if not suspects:
        return
    devices = _bfloat16_inputs(evidence)
    for op in suspects:
        if op.begin not in devices:
            continue
        p, dropout = rate_of(evidence, op), _dropout(evidence, op)
        bias = _scale_bias(evidence, dropout, p, devices[op.begin]) if dropout else 0.0
        if abs(bias) > SCALE_OFF:
            yield _scale_finding(evidence, op, p, bias)


def _scale_finding(evidence: Evidence, op: Operation, p: float, bias: float) -> Finding:
    kind = kind_of(evidence, op)
    observed = (
        f"{kind} of bfloat16 values at p = {p:.3g} multiplies what it keeps by a rounded 1 / (1 - p): on average it is "
        f"{bias:+.2%} off what evaluation gives"
    )
    own, how = (kind, ": dropkit.convert(model)") if op.layer else (f"functional.{ops.plain(kind)}", "")
    cure = f"Use dropkit.{own}, which rounds the product alone{how}"
    return Finding("DK019", "note", location(evidence, op), observed, cure)


def _dropout(evidence: Evidence, op: Operation) -> Callable[..., Tensor] | None:
    """Return the function of torch's that an operation amounts to; None for other kinds and for subclasses."""
    return _DROPOUTS.get(type(evidence.modules[op.module]) if op.layer else ops.plain(op.name))


def _may_be_biased(evidence: Evidence, op: Operation) -> bool:
    """Whether an operation's scale is rounded far enough, should its input be bfloat16."""
    p = rate_of(evidence, op)
    if _dropout(evidence, op) is None or not 0 < p < 1:
        return False
    return abs(torch.tensor(1 / (1 - p), dtype=torch.bfloat16).item() * (1 - p) - 1) > SCALE_OFF


def _bfloat16_inputs(evidence: Evidence) -> dict[int, torch.device]:
    """Return, for each operation of the training trace that reads bfloat16, where: by when it happened."""
    run = _Typed(evidence.model)
    try:
        with evidence.put_back(), uncompiled(), torch.no_grad():
            set_modes(evidence.model, evidence.training.training)
            run.run(evidence.example())
    except Exception:  # a network's code may raise anything, also the second time
        return {}
    same = [op.name for op in run.trace.operations] == [op.name for op in evidence.training.operations]
    read = {op.begin: run.types[op.reads[0]] for op in run.trace.operations} if same else {}
    return {begin: device for begin, (dtype, device) in read.items() if dtype == torch.bfloat16}


class _Typed(Recorder):
    """Records the type and the device of each value as well."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.types: list[tuple[torch.dtype, torch.device]] = []

    def _new(self, tensor: Tensor) -> int:
        with torch._C.DisableTorchFunction():
            self.types.append((tensor.dtype, tensor.device))
        return super()._new(tensor)


def _scale_bias(evidence: Evidence, dropout: Callable[..., Tensor], p: float, device: torch.device) -> float:
    """Return by how much the mean of what is kept is off its mean before, over 1 - p.

    Of values as they come: of ones every implementation has to round the product.
    """
    x = torch.randn(512, _VALUES // 512, generator=torch.Generator().manual_seed(0), dtype=torch.float32, device="cpu")
    x = x.abs().to(device, torch.bfloat16).reshape(*x.shape, *(1,) * _AXES.get(dropout, 0))
    with generators_kept(evidence.model), torch.no_grad():
        seed_generators(evidence.model, 0)
        result = dropout(x, p, True)
    kept = result != 0
    return float((1 - p) * result[kept].double().sum() / x[kept].double().sum()) - 1


RULES: tuple[Rule, ...] = (block_rate, biased_scale)
