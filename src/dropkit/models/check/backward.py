"""What dropout does to the backward pass: results that were overwritten, numbers that are not finite."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dropkit.models.check.acting import acts, as_trained, described, dropouts, is_inplace, location
from dropkit.models.check.directed import Act, Directed
from dropkit.models.check.evidence import Evidence
from dropkit.models.check.finding import Finding
from dropkit.models.check.untouched import seed_generators
from dropkit.models.trace import tensors_in

_OVERWRITTEN = "modified by an inplace operation"
_SUSPECTS = 8  # how many layers are tried one at a time


@dataclass(frozen=True)
class _Pass:
    """How a forward and backward pass ended: what it raised, and whether output and gradients are finite."""

    error: str = ""
    finite: bool = True

    @property
    def overwritten(self) -> bool:
        return _OVERWRITTEN in self.error


def inplace_breaks_backward(evidence: Evidence) -> Iterator[Finding]:
    """DK030: dropout in place overwrites what the backward pass of the operation before it needs."""
    suspects = [
        number for number, op in enumerate(dropouts(evidence)) if acts(evidence, op) and is_inplace(evidence, op)
    ]
    learning = _learning(evidence)  # all: the gradient of a weight needs what its layer read
    if not suspects or not _train(evidence, _all_as_they_are, learning).overwritten:
        return
    if _train(evidence, _only_in_place(set()), learning).error:
        return
    for number in suspects:
        if not _train(evidence, _only_in_place({number}), learning).overwritten:
            continue
        op = dropouts(evidence)[number]
        yield Finding(
            "DK030",
            "error",
            location(evidence, op),
            f"{described(evidence, op)} works in place on a result that the backward pass needs, which raises "
            f'"{_OVERWRITTEN}"; out of place it runs',
            "Set inplace=False there",
        )


def not_finite(evidence: Evidence) -> Iterator[Finding]:
    """DK031: output or gradients are inf or NaN with dropout on, and finite with it off."""
    suspects = [number for number, op in enumerate(dropouts(evidence)) if acts(evidence, op)]
    if not suspects or not _breaks(evidence, set(suspects)):
        return
    without = _train(evidence, _only_on(set()), _few(evidence))
    if without.error or not without.finite:
        return
    alone = [number for number in suspects[:_SUSPECTS] if _breaks(evidence, {number})]
    for number in alone or suspects[:1]:
        op = dropouts(evidence)[number]
        yield Finding(
            "DK031",
            "error",
            location(evidence, op),
            f"with {described(evidence, op)} on, the output or a gradient is inf or NaN; with it off all are finite",
            "Look at what follows: a division by a norm, or a root, of values that can all be dropped needs a small "
            "constant; inf in a dropped place becomes NaN with torch.nn's layers, not with dropkit's",
        )


def _all_as_they_are(number: int) -> Act:
    return "as it is"


def _only_in_place(numbers: set[int]) -> Callable[[int], Act]:
    return lambda number: "as it is" if number in numbers else "out of place"


def _only_on(numbers: set[int]) -> Callable[[int], Act]:
    return lambda number: "as it is" if number in numbers else "off"


def _breaks(evidence: Evidence, numbers: set[int]) -> bool:
    """Whether the given dropouts alone give numbers that are not finite."""
    made = _train(evidence, _only_on(numbers), _few(evidence))
    return not (made.error or made.finite)


def _learning(evidence: Evidence) -> list[nn.Parameter]:
    return [parameter for parameter in evidence.model.parameters() if parameter.requires_grad]


def _few(evidence: Evidence) -> list[nn.Parameter]:
    """Return the biases and their like, if there are any: what is not finite arrives there too, at less cost."""
    return [parameter for parameter in _learning(evidence) if parameter.dim() < 2] or _learning(evidence)


def _train(evidence: Evidence, decide: Callable[[int], Act], parameters: list[nn.Parameter]) -> _Pass:
    """Run forward and backward as in training; batch-norms use their running statistics, so that one picture will do.

    Gradients are computed beside the parameters, whose own stay.
    """
    run = Directed(evidence.model, decide)
    try:
        with as_trained(evidence), torch.inference_mode(False), torch.enable_grad():
            for module in evidence.model.modules():
                if isinstance(module, _BatchNorm):
                    module.training = False
            seed_generators(evidence.model, 30)
            run.run(evidence.example())
            results = [result for result in tensors_in(run.result) if result.is_floating_point()]
            differentiable = [result.sum() for result in results if result.requires_grad]
            gradients = (
                torch.autograd.grad(sum(differentiable, torch.zeros(())), parameters, allow_unused=True)
                if differentiable and parameters
                else ()
            )
    except Exception as error:  # a network may raise anything; only one message is of interest here
        return _Pass(error=str(error) or type(error).__name__)
    return _Pass(finite=all(map(_is_finite, [*results, *(g for g in gradients if g is not None)])))


def _is_finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())


RULES = (inplace_breaks_backward, not_finite)
