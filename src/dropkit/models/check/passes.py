"""Runs of a network as its user runs it, after train() or eval(), and which mode each layer was really in."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import register_module_forward_pre_hook

from dropkit.models.check.sources import calling_line
from dropkit.models.check.untouched import seed_generators
from dropkit.models.own import is_dropout, rate_attribute
from dropkit.models.trace import call, tensors_in


@dataclass(frozen=True)
class Stranger:
    """A dropout layer that ran and is no part of the network.

    Attributes:
        kind: its class.
        rate: its rate, as it stands there.
        training: whether it was in training mode.
        source: file and line of the code that called it.
    """

    kind: str
    rate: Any
    training: bool
    source: str


@dataclass
class Pass:
    """One run.

    Attributes:
        told: the mode of each module after train() or eval(), by path.
        seen: the mode of each module that ran, when it last began, by path.
        strangers: the dropout layers that ran and are no part of the network.
        outputs: the tensors that the network returned.
        failure: what it raised instead.
    """

    told: dict[str, bool]
    seen: dict[str, bool] = field(default_factory=dict)
    strangers: list[Stranger] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    failure: Exception | None = None


def run_pass(model: nn.Module, example_input: Any, *, training: bool, seed: int) -> Pass:
    """Call train() or eval(), seed the generators, run the network without gradients. Nothing is put back.

    Batch-norms are in eval mode: a batch of one will do.
    """
    if training:
        model.train()
    else:
        model.eval()
    paths = {id(module): path for path, module in model.named_modules()}
    done = Pass({path: module.training for path, module in model.named_modules()})
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.training = False

    def enter(module: nn.Module, args: Any) -> None:
        path = paths.get(id(module))
        if path is not None:
            done.seen[path] = module.training
        elif is_dropout(module):
            rate = getattr(module, rate_attribute(module) or "p")
            done.strangers.append(Stranger(type(module).__name__, rate, module.training, calling_line()))

    hook = register_module_forward_pre_hook(enter)
    seed_generators(model, seed)
    try:
        with torch.no_grad():
            done.outputs = [tensor.detach().clone() for tensor in tensors_in(call(model, example_input))]
    except Exception as failure:  # a network's code may raise anything
        done.failure = failure
    finally:
        hook.remove()
    return done
