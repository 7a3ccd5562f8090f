"""Layers in the wrong mode: train() and eval() that do not reach them, or were not called."""

from collections.abc import Iterator

from torch import nn

from dropkit.models.check.evidence import Evidence, Rule
from dropkit.models.check.finding import Finding
from dropkit.models.check.functional import functional_dropouts
from dropkit.models.check.passes import Pass


def left_on(evidence: Evidence) -> Iterator[Finding]:
    """DK004: after model.eval() a dropout layer is in training mode."""
    done = evidence.evaluated[0]
    for path in _dropping_modules(evidence):
        if done.told[path] or done.seen.get(path):
            yield _unreached(evidence, path, done, wanted=False)


def left_off(evidence: Evidence) -> Iterator[Finding]:
    """DK004: after model.train() a dropout layer is in eval mode, and it is in no part that is frozen."""
    done = evidence.trained
    for path in _dropping_modules(evidence):
        off = not done.told[path] or done.seen.get(path) is False
        if off and not _is_frozen(evidence, path, done.told):
            yield _unreached(evidence, path, done, wanted=True)


def _dropping_modules(evidence: Evidence) -> list[str]:
    """Return the paths of the dropout layers, and of the modules that use functional dropout as their mode says."""
    layers = [path for path, rate in evidence.rates.items() if rate > 0]
    on = {(d.operation.module, d.operation.source) for d in functional_dropouts(evidence.training) if d.acts}
    always = {(d.operation.module, d.operation.source) for d in functional_dropouts(evidence.evaluation) if d.acts}
    return list(dict.fromkeys([*layers, *sorted(path for path, _ in on - always if path in evidence.modules)]))


def _unreached(evidence: Evidence, path: str, done: Pass, *, wanted: bool) -> Finding:
    mode, other = ("train", "eval") if wanted else ("eval", "training")
    effect = "drops nothing in training" if wanted else "drops in evaluation"
    if done.told[path] == wanted:
        observed = f"after model.{mode}() forward puts it back in {other} mode: it {effect}"
        cure = "Take train() and eval() out of forward: who calls the network says which mode it is in"
    else:
        observed = f"model.{mode}() leaves it in {other} mode: it {effect}"
        cure = _cure_of_override(evidence, path)
    return Finding("DK004", "error", evidence.place(path), observed, cure)


def _cure_of_override(evidence: Evidence, path: str) -> str:
    steps = path.split(".")
    above = ["", *(".".join(steps[: i + 1]) for i in range(len(steps)))] if path else [""]
    for host in (evidence.modules[name] for name in above if name in evidence.modules):
        for name in ("train", "eval"):
            if getattr(type(host), name) is not getattr(nn.Module, name):
                given = "mode" if name == "train" else ""
                own = f"{type(host).__name__}.{name}"
                return f"Let {own} call super().{name}({given}) and leave its layers as that sets them"
    return "Find what sets its training attribute, and leave that to train() and eval()"


def _is_frozen(evidence: Evidence, path: str, training: dict[str, bool]) -> bool:
    """Whether a module is in a part of the network that is in eval mode and has parameters, none of them trainable."""
    steps = path.split(".")
    for i in range(1, len(steps) + 1):
        above = ".".join(steps[:i])
        parameters = list(evidence.modules[above].parameters()) if above in evidence.modules else []
        if parameters and not training[above] and not any(parameter.requires_grad for parameter in parameters):
            return True
    return False


def modes_are_mixed(evidence: Evidence) -> Iterator[Finding]:
    """DK005: when check is called, dropout layers are in another mode than the network; or all are in eval mode."""
    now = {path: module.training for path, module in evidence.modules.items()}
    layers = [path for path, rate in evidence.rates.items() if rate > 0]
    training, place = evidence.model.training, evidence.place("")
    others = [path for path in layers if now[path] != training and not (training and _is_frozen(evidence, path, now))]
    told = (evidence.trained if training else evidence.evaluated[0]).told if others else {}
    for path in others:
        if told[path] != training:
            continue  # no call would set it right: DK004
        if training:
            observed = "the network is in training mode and this layer in eval mode: it drops nothing"
            cure = "Call model.train() after each evaluation, before training goes on"
        else:
            observed = "the network is in eval mode and this layer in training mode: it drops"
            cure = "Call model.eval() before evaluating; if it is to drop there (Monte-Carlo dropout), all is well"
        yield Finding("DK005", "warning", path, observed, cure)
    if not training and not others and (layers or _acts_by_functions(evidence)):
        observed = "the whole network is in eval mode: its dropout is off"
        yield Finding("DK005", "note", place, observed, "Call model.train() before training it")


def no_grad_for_eval(evidence: Evidence) -> Iterator[Finding]:
    """DK006: gradients are off while the network trains and its dropout acts."""
    if evidence.gradients_on or not evidence.model.training:
        return
    layers = [path for path, rate in evidence.rates.items() if rate > 0 and evidence.modules[path].training]
    if not layers and not _acts_by_functions(evidence):
        return
    count = f"{len(layers)} dropout layer{'s' * (len(layers) > 1)}" if layers else "its functional dropout"
    observed = f"gradients are off (no_grad or inference_mode) while it is in training mode, where {count} will act"
    cure = "Call model.eval() before evaluating: no_grad turns no dropout off"
    yield Finding("DK006", "warning", evidence.place(""), observed, cure)


def _acts_by_functions(evidence: Evidence) -> bool:
    return any(dropout.acts for dropout in functional_dropouts(evidence.training))


RULES: tuple[Rule, ...] = (left_on, left_off, modes_are_mixed, no_grad_for_eval)
