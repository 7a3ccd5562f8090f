"""Kinds of dropout that do not fit what they act on."""

import re
from collections.abc import Callable, Iterator

from torch import nn

from dropkit.layers import alpha, channels
from dropkit.models import operations as ops
from dropkit.models.check.evidence import Evidence, Rule
from dropkit.models.check.finding import Finding
from dropkit.models.check.functional import functional_dropouts
from dropkit.models.check.sources import shown
from dropkit.models.trace import Operation, Value

_CHANNEL_LAYERS: dict[type[nn.Module], int] = {
    nn.Dropout1d: 1,
    nn.Dropout2d: 2,
    nn.Dropout3d: 3,
    channels.Dropout1d: 1,
    channels.Dropout2d: 2,
    channels.Dropout3d: 3,
}
_ALPHA = (nn.AlphaDropout, alpha.AlphaDropout)
_FEATURE_ALPHA = (nn.FeatureAlphaDropout, alpha.FeatureAlphaDropout)
_SELU_ALPHA = 1.6732632423543772
_REORDERING = ("permute", "transpose", "swapaxes", "movedim", "flatten", "reshape", "view", "squeeze", "unsqueeze")


def rank_against_kind(evidence: Evidence) -> Iterator[Finding]:
    """DK015: the layer reads the dimensions of its input otherwise than they are meant."""
    for op in _acting(evidence):
        spatial = _spatial(evidence, op)
        feature_alpha = _is_kind(evidence, op, _FEATURE_ALPHA, "feature_alpha_dropout")
        judged = None
        if spatial in (1, 3):
            judged = _judge_unbatched(evidence, op, spatial)
        elif spatial == 2:
            judged = _judge_2d(evidence, op)
        elif feature_alpha:
            judged = _judge_feature_alpha(evidence, op)
        if judged is not None:
            severity, effect, cure = judged
            shape = list(evidence.training.shapes[op.reads[0]])
            observed = f"{_kind(evidence, op)} acts on a tensor {shape}: {effect}"
            yield Finding("DK015", severity, _place(op), observed, cure)


Judgement = tuple[str, str, str] | None  # severity, what is dropped, cure


def _judge_unbatched(evidence: Evidence, op: Operation, spatial: int) -> Judgement:
    """Judge Dropout1d and Dropout3d, which read one rank less (Dropout3d: every other rank) as one sample.

    An example that is one sample is what torch documents, so dimension 0 has to be seen to be samples.
    """
    rank = len(evidence.training.shapes[op.reads[0]])
    if rank == spatial + 2 or not _is_batch(evidence, op.reads[0]):
        return None
    effect = "it takes dimension 0, the samples, for channels and drops whole samples"
    return "error", effect, f"Use {_fitting(rank)}"


def _judge_2d(evidence: Evidence, op: Operation) -> Judgement:
    """Judge Dropout2d, which masks dimensions 0 and 1 whatever the rank is."""
    value = op.reads[0]
    rank = len(evidence.training.shapes[value])
    if rank == 4:
        return None
    if rank == 2:
        return "warning", "it drops single units, as Dropout does", "Use Dropout: torch is going to refuse this input"
    if rank > 4:
        return "warning", "it drops whole channels, as Dropout3d does", "Use Dropout3d: torch is going to refuse this"
    if _touches_unbatched_convolution(evidence, op, 2):
        return "error", "it reads (C, H, W) as (N, C, L) and drops rows of pixels, not channels", "Give it a batch"
    if _has_features_last(evidence, value):
        effect = "it reads (N, L, C) as (N, C, L) and drops whole positions, all their features"
        return "error", effect, "Use Dropout, or move the features to dimension 1 and use Dropout1d"
    return (
        "warning",
        "it drops the rows of dimension 1, as Dropout1d does",
        "If that is meant, use Dropout1d, else Dropout",
    )


def _judge_feature_alpha(evidence: Evidence, op: Operation) -> Judgement:
    """Judge FeatureAlphaDropout, which masks dimensions 0 and 1 even of the unbatched input that torch documents."""
    rank = len(evidence.training.shapes[op.reads[0]])
    if op.layer and not getattr(evidence.modules[op.module], "batched", True):
        return None  # dropkit's, told that it gets single samples
    if rank == 2:
        return "warning", "it drops single units, as AlphaDropout does", "Use AlphaDropout"
    if rank in (3, 4) and _touches_unbatched_convolution(evidence, op, rank - 1):
        effect = "of a single sample it masks pairs of channel and row, not channels"
        return "error", effect, "Give it a batch (x.unsqueeze(0)), or use dropkit's with batched=False"
    return None


def _fitting(rank: int) -> str:
    return {2: "Dropout", 3: "Dropout1d", 4: "Dropout2d"}.get(rank, "Dropout")


def _is_batch(evidence: Evidence, value: Value) -> bool:
    """Whether dimension 0 of a value is samples: twice as many in the example make twice as many there."""
    twice = evidence.doubled
    return twice is not None and twice.shapes[value][0] == 2 * evidence.training.shapes[value][0]


def _touches_unbatched_convolution(evidence: Evidence, op: Operation, spatial: int) -> bool:
    """Whether the convolution before or after has as many spatial dimensions as would leave none for samples."""
    made, read = evidence.stages.made, evidence.stages.read
    before = _nearest(op.reads[0], lambda v: [made[v]] if v in made else [], lambda other: other.reads)
    after = _nearest(op.writes[0], lambda v: read.get(v, []), lambda other: other.writes)
    found = [re.search(r"(\d)d", other.name) for other in (*before, *after) if ops.is_convolution(other)]
    return any(match is not None and int(match[1]) == spatial for match in found)


def _nearest(
    value: Value, operations: Callable[[Value], list[Operation]], onward: Callable[[Operation], tuple[Value, ...]]
) -> list[Operation]:
    """Return the nearest weight layers in one direction."""
    found, waiting, seen = [], [value], {value}
    while waiting:
        for op in operations(waiting.pop()):
            if ops.has_weights(op):
                found.append(op)
                continue
            fresh = [other for other in onward(op) if other not in seen]
            seen.update(fresh)
            waiting += fresh
    return found


def _has_features_last(evidence: Evidence, value: Value) -> bool:
    """Whether a fully connected layer or a layer-norm made a value whose dimensions nothing has moved since."""
    while (op := evidence.stages.made.get(value)) is not None and ops.plain(op.name) not in _REORDERING:
        if op.name in ("linear", "layer_norm"):
            return True
        if ops.has_weights(op):
            return False
        value = op.reads[0]
    return False


def alpha_without_selu(evidence: Evidence) -> Iterator[Finding]:
    """DK016: the activation before alpha dropout is not SELU."""
    for op in _acting(evidence):
        if not _is_kind(evidence, op, (*_ALPHA, *_FEATURE_ALPHA), "alpha_dropout"):
            continue
        before = _nearest_activations(evidence, op.reads[0])
        if before and not any(map(_is_selu, before)):
            name = ops.plain(before[0].name)
            observed = (
                f"{_kind(evidence, op)} comes after {name}: it sets units to SELU's lowest value, -1.758, not to 0"
            )
            cure = f"Use {_without_alpha(evidence, op)}, or SELU as the activation"
            yield Finding("DK016", "warning", _place(op), observed, cure)


def _nearest_activations(evidence: Evidence, value: Value) -> list[Operation]:
    """Return the last activation on each way that leads to a value."""
    found, waiting, seen = [], [value], {value}
    while waiting:
        op = evidence.stages.made.get(waiting.pop())
        if op is None:
            continue
        if ops.is_activation(op):
            found.append(op)
            continue
        fresh = [source for source in op.reads if source not in seen]
        seen.update(fresh)
        waiting += fresh
    return found


def _is_selu(op: Operation) -> bool:
    """Whether it is SELU, perhaps written by hand as a scaled ELU."""
    if ops.plain(op.name) == "elu":
        return bool(abs(float(ops.argument(op, 1, "alpha", 1.0)) - _SELU_ALPHA) < 1e-2)
    return ops.plain(op.name) == "selu"


def _without_alpha(evidence: Evidence, op: Operation) -> str:
    rank = len(evidence.training.shapes[op.reads[0]])
    channels_too = _is_kind(evidence, op, _FEATURE_ALPHA, "feature_alpha_dropout")
    return f"Dropout{rank - 2}d" if channels_too and rank in (3, 4, 5) else "Dropout"


def ignored_inplace(evidence: Evidence) -> Iterator[Finding]:
    """DK017: torch.nn's alpha dropout is told to work in place, which it does not."""
    for path, module in evidence.modules.items():
        if isinstance(module, nn.AlphaDropout | nn.FeatureAlphaDropout) and module.inplace:
            observed = f"torch.nn.{type(module).__name__} ignores inplace=True: it returns a new tensor"
            cure = f"Take inplace away, or use dropkit.{type(module).__name__}, which saves the memory"
            yield Finding("DK017", "note", evidence.place(path), observed, cure)


def _acting(evidence: Evidence) -> list[Operation]:
    """Return the dropout in the training trace whose rate is not 0."""
    functional = {d.operation.begin for d in functional_dropouts(evidence.training) if d.acts}
    return [
        op
        for op in evidence.training.operations
        if op.begin in functional or (op.layer and evidence.rates.get(op.module, 0.0) > 0)
    ]


def _spatial(evidence: Evidence, op: Operation) -> int | None:
    """Return how many spatial dimensions a channel dropout is made for; None for other kinds."""
    if op.layer:
        module = evidence.modules[op.module]
        return next((count for kind, count in _CHANNEL_LAYERS.items() if isinstance(module, kind)), None)
    match = re.fullmatch(r"dropout(\d)d", op.name)
    return None if match is None else int(match[1])


def _is_kind(evidence: Evidence, op: Operation, layers: tuple[type[nn.Module], ...], function: str) -> bool:
    return isinstance(evidence.modules[op.module], layers) if op.layer else ops.plain(op.name).endswith(function)


def _kind(evidence: Evidence, op: Operation) -> str:
    return type(evidence.modules[op.module]).__name__ if op.layer else op.name


def _place(op: Operation) -> str:
    return op.module if op.layer else shown(op.source)


RULES: tuple[Rule, ...] = (rank_against_kind, alpha_without_selu, ignored_inplace)
