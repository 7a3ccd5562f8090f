"""What becomes of a dropout's result, and what stands before it."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dropkit.models import operations as ops
from dropkit.models.check.acting import acting, acts, described, dropouts, is_inplace, kind_of, location, rate_of
from dropkit.models.check.directed import Act, Directed
from dropkit.models.check.evidence import Evidence
from dropkit.models.check.finding import Finding
from dropkit.models.check.untouched import seed_generators
from dropkit.models.own import is_dropout, rate_attribute
from dropkit.models.trace import Operation, Value, set_modes, tensors_in

_LISTS = (nn.ModuleList, nn.ModuleDict)  # they hold modules and are never called themselves
_SQUASHING = ("softmax", "log_softmax", "sigmoid")
_ATTENTION = ("scaled_dot_product_attention", "multi_head_attention_forward")


def dropout_on_logits(evidence: Evidence) -> Iterator[Finding]:
    """DK021: dropout between the last weights and the output: no later layer can make up for what is missing."""
    live = {op.begin for op in acting(evidence)}
    if not live:
        return
    seen: set[int] = set()
    for output in evidence.live_stages.trace.outputs:
        weights, passed = _last_weights(evidence, output)
        for op in passed if weights is not None else []:
            if op.begin not in live or op.begin in seen or _is_read_by_weights(evidence, op):
                continue
            seen.add(op.begin)
            last = f" ({weights.module})" if weights is not None and weights.module else ""
            yield Finding(
                "DK021",
                "error",
                location(evidence, op),
                f"{described(evidence, op)} acts on the network's output, after its last weights{last}: in training it "
                f"sets {rate_of(evidence, op):.0%} of the logits to 0, whatever the network computes",
                "Move it before the last layer: it then drops what that layer reads (the site `head` or `fc`)",
            )


def _last_weights(evidence: Evidence, output: Value) -> tuple[Operation | None, list[Operation]]:
    """Return the layer that makes the logits, and the dropout after it; None where the output is none of a classifier.

    An activation or a norm on the way means features: a backbone may well end with dropout.
    """
    stages = evidence.live_stages
    passed: list[Operation] = []
    if len(stages.trace.shapes[output]) != 2:
        return None, []
    value = output
    while (op := stages.made.get(value)) is not None:
        if ops.has_weights(op):
            return op, passed
        if ops.is_dropout(op):
            passed.append(op)
        elif not (ops.is_view(op) or ops.plain(op.name) in _SQUASHING):
            break
        value = op.reads[0]
    return None, []


def _is_read_by_weights(evidence: Evidence, operation: Operation) -> bool:
    return any(ops.has_weights(op) for value in operation.writes for op in evidence.live_stages.after(value))


def unused_result(evidence: Evidence) -> Iterator[Finding]:
    """DK022: dropout is called, and the network goes on with the undropped input."""
    for number, op in enumerate(dropouts(evidence)):
        if not acts(evidence, op) or is_inplace(evidence, op) or _is_read(evidence, op):
            continue
        if _matters(evidence, number):
            continue
        yield Finding(
            "DK022",
            "error",
            location(evidence, op),
            f"{described(evidence, op)} is called and its result is never used: the output is the same whatever it "
            "returns, so nothing is dropped",
            "Use what it returns: x = self.dropout(x)",
        )


def _is_read(evidence: Evidence, operation: Operation) -> bool:
    stages = evidence.live_stages
    return any(value in stages.read or value in stages.trace.outputs for value in operation.writes)


def _matters(evidence: Evidence, number: int) -> bool:
    """Whether the output is another one, or something keeps the result, when a dropout call returns NaN instead.

    What reads a value without torch's knowledge (a script, an extension) is not in the trace.
    """
    try:
        (whole, _), (changed, kept) = (_answered(evidence, answered) for answered in (-1, number))
    except Exception:  # a network may refuse NaN: then it reads the result
        return True
    if len(whole) != len(changed) or not whole:
        return True
    return kept or not all(map(torch.equal, whole, changed))


def _answered(evidence: Evidence, answered: int) -> tuple[list[Tensor], bool]:
    """Return the outputs when one dropout call returns NaN, and whether the NaN are still held somewhere."""

    def decide(number: int) -> Act:
        return "nan" if number == answered else "as it is"

    run = Directed(evidence.model, decide)
    with evidence.put_back(), torch.no_grad():
        set_modes(evidence.model, True, dropout=True)
        seed_generators(evidence.model, 22)
        run.run(evidence.example())
        return tensors_in(run.result), run.kept_answers()


def never_called(evidence: Evidence) -> Iterator[Finding]:
    """DK023: a dropout layer is part of the network and its forward never comes to it."""
    found: dict[str, list[str]] = {}
    for path in _idle(evidence):
        found.setdefault(_slot(evidence, path), []).append(path)
    for paths in found.values():
        layer = evidence.modules[paths[0]]
        others = f" (so are {len(paths) - 1} more in modules of the same class)" if len(paths) > 1 else ""
        yield Finding(
            "DK023",
            "warning",
            paths[0],
            f"{type(layer).__name__} {_rate(layer):g} is declared and was not called once in a training pass{others}: "
            "nothing is dropped there",
            "Call it in forward, where its values are needed, or delete it",
        )


def _idle(evidence: Evidence) -> list[str]:
    """Return the paths of the dropout layers that are not called although they seem to be meant to."""
    if evidence.live is None:
        return []
    called = {call.path for call in evidence.live.calls}
    # A block may call its layer in some places and not in others, as where it has no residual connection.
    used = {_slot(evidence, path) for path in called if is_dropout(evidence.modules[path])}
    idle = [
        path
        for path, layer in evidence.modules.items()
        if is_dropout(layer) and path not in called and _rate(layer) > 0 and _slot(evidence, path) not in used
    ]
    idle = [path for path in idle if _is_expected(evidence, path, called) and not _is_rate_holder(evidence, path)]
    evaluated = {call.path for call in evidence.evaluation.calls} if idle else set()
    return [path for path in idle if path not in evaluated]


def _slot(evidence: Evidence, path: str) -> str:
    """Return the class and the attribute that hold a layer; of lists and sequences, the layer's own path."""
    holder, _, name = path.rpartition(".")
    kind = type(evidence.modules[holder])
    return path if kind.__module__.startswith("torch.nn.") else f"{kind.__module__}.{kind.__qualname__}.{name}"


def _rate(module: nn.Module) -> float:
    rate = getattr(module, rate_attribute(module) or "p")
    return float(rate) if isinstance(rate, int | float) else 0.0


def _is_expected(evidence: Evidence, path: str, called: set[str]) -> bool:
    """Whether the part that holds a layer ran: a part that did not (another task's head) is left out as a whole."""
    holder = path.rpartition(".")[0]
    while holder and isinstance(evidence.modules[holder], _LISTS):
        holder = holder.rpartition(".")[0]
    return not holder or any(path == holder or path.startswith(f"{holder}.") for path in called)


def _is_rate_holder(evidence: Evidence, path: str) -> bool:
    """Whether a functional form beside a layer drops at its rate, as attention does: it may well be read from it."""
    holder, rate = path.rpartition(".")[0], _rate(evidence.modules[path])
    for op in evidence.live.operations if evidence.live is not None else []:
        if op.module != holder or op.layer:
            continue
        if ops.is_dropout(op) and ops.argument(op, 1, "p", 0.5) == rate:
            return True
        if op.name in _ATTENTION and rate in (*op.args, *op.kwargs.values()):
            return True
    return False


def frozen_backbone(evidence: Evidence) -> Iterator[Finding]:
    """DK024: dropout within a part that does not learn: it adds noise to the features, and there is nothing to gain."""
    if not any(parameter.requires_grad for parameter in evidence.model.parameters()):
        return
    inside = [op for op in acting(evidence) if _is_within_frozen(evidence, op)]
    if not inside:
        return
    others = f" and {len(inside) - 1} more" if len(inside) > 1 else ""
    yield Finding(
        "DK024",
        "warning",
        location(evidence, inside[0]),
        f"{described(evidence, inside[0])}{others} acts between weights that are all frozen (requires_grad is False), "
        "while others learn: the features are noisy and nothing there can adapt to the noise",
        "Put the frozen part in eval mode after each model.train() (model.backbone.eval())",
    )


def _is_within_frozen(evidence: Evidence, operation: Operation) -> bool:
    stages = evidence.live_stages
    before = [stages.made[v] for v in (operation.reads[0], *stages.before(operation.reads[0])) if v in stages.made]
    if not any(map(ops.has_weights, before)) or not all(_is_frozen(evidence, op) for op in before):
        return False
    readers = _readers(evidence, operation)
    return bool(readers) and all(_is_frozen(evidence, op) for op in readers)


def _readers(evidence: Evidence, operation: Operation) -> list[Operation]:
    """Return the next layers with weights."""
    stages, found, waiting, seen = evidence.live_stages, [], list(operation.writes), set()
    for value in waiting:
        for op in stages.read.get(value, []):
            if op.begin in seen:
                continue
            seen.add(op.begin)
            if ops.has_weights(op):
                found.append(op)
            else:
                waiting += op.writes
    return found


def _is_frozen(evidence: Evidence, operation: Operation) -> bool:
    module = evidence.modules.get(operation.module)
    return module is None or not any(parameter.requires_grad for parameter in module.parameters(recurse=False))


def twice_in_a_row(evidence: Evidence) -> Iterator[Finding]:
    """DK025: dropout acts directly on the result of dropout of the same kind."""
    live = {op.begin for op in acting(evidence)}
    for second in acting(evidence):
        first = _before(evidence, second)
        if first is None or first.begin not in live or _family(evidence, first) != _family(evidence, second):
            continue
        rates = [rate_of(evidence, op) for op in (first, second)]
        effective = 1 - (1 - rates[0]) * (1 - rates[1])
        yield Finding(
            "DK025",
            "note",
            location(evidence, second),
            f"{described(evidence, second)} acts directly on the result of {described(evidence, first)}: together they "
            f"drop at the rate {effective:.4g}",
            "Keep one of the two, at the rate that is meant",
        )


def _before(evidence: Evidence, operation: Operation) -> Operation | None:
    """Return the dropout whose result a dropout reads, rearranged at most."""
    stages = evidence.live_stages
    op = stages.made.get(operation.reads[0])
    while op is not None and ops.is_view(op):
        op = stages.made.get(op.reads[0])
    return op if op is not None and ops.is_dropout(op) else None


def _family(evidence: Evidence, operation: Operation) -> str:
    return kind_of(evidence, operation).lower().replace("_", "")


RULES = (dropout_on_logits, unused_result, never_called, frozen_backbone, twice_in_a_row)
