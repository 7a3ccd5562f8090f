"""A network and the generators of random numbers as they were, whatever happens in between."""

import random
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_PLAIN_TENSORS = (Tensor, nn.Parameter, nn.Buffer)  # subclasses have their own ways of copying and comparing


class Snapshot:
    """What a network holds now, to be put back: modes, hooks, attributes, parameters, buffers and gradients.

    Lists, dicts and sets among the attributes are put back too, but not what they hold.

    Args:
        model: the network.
    """

    def __init__(self, model: nn.Module) -> None:
        self._attributes = [(module, dict(module.__dict__)) for module in model.modules()]
        held = [value for _, attributes in self._attributes for value in attributes.values()]
        self._containers = [(value, list(_entries(value))) for value in held if _is_container(value)]
        tensors = [*model.parameters(), *model.buffers(), *(value for value in held if isinstance(value, Tensor))]
        kept = {id(tensor): tensor for tensor in tensors if type(tensor) in _PLAIN_TENSORS and not tensor.is_meta}
        self._values = [(tensor, tensor.detach().clone()) for tensor in kept.values()]
        self._gradients = [(parameter, parameter.grad) for parameter in model.parameters()]

    def clear_gradients(self) -> None:
        """Let the parameters have no gradients, so that none is added to those which will be put back."""
        for parameter, _ in self._gradients:
            parameter.grad = None

    def restore(self) -> None:
        """Put everything back that is different."""
        for module, attributes in self._attributes:
            if not _same(list(module.__dict__.items()), list(attributes.items())):
                module.__dict__.clear()
                module.__dict__.update(attributes)
        for container, entries in self._containers:
            if not _same(list(_entries(container)), entries):
                container.clear()
                _fill(container, entries)
        with torch.no_grad():
            for tensor, value in self._values:
                if tensor.shape != value.shape:
                    tensor.data = value.clone()
                elif not torch.equal(tensor, value):
                    tensor.copy_(value)
        for parameter, gradient in self._gradients:
            parameter.grad = gradient


def _is_container(value: Any) -> bool:
    return isinstance(value, dict | list | set | deque)


def _entries(container: Any) -> Any:
    return container.items() if isinstance(container, dict) else container


def _fill(container: Any, entries: list[Any]) -> None:
    if isinstance(container, dict | set):
        container.update(entries)
    else:
        container.extend(entries)


def _same(now: list[Any], before: list[Any]) -> bool:
    """Whether two lists hold the same objects, in pairs or alone; values are not compared, which may be costly."""
    return len(now) == len(before) and all(
        a is b or (isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b) == 2 and _same_pair(a, b))
        for a, b in zip(now, before, strict=True)
    )


def _same_pair(one: Any, other: Any) -> bool:
    return one[0] == other[0] and one[1] is other[1]


@contextmanager
def generators_kept(model: nn.Module) -> Iterator[None]:
    """Put back the state of torch's, numpy's and Python's generators after the block."""
    own, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002
    states = [(generator, generator.get_state()) for generator in generators(model)]
    try:
        yield
    finally:
        random.setstate(own)
        np.random.set_state(numbers)  # noqa: NPY002
        for generator, state in states:
            generator.set_state(state)


def seed_generators(model: nn.Module, seed: int) -> None:
    """Seed torch's generators on the model's devices, numpy's and Python's.

    Not torch.manual_seed: it reaches devices that the model is not on, whose state would then be another one.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    for generator in generators(model):
        generator.manual_seed(seed)


def generators(model: nn.Module) -> list[torch.Generator]:
    """Return torch's default generators of the processor and of the model's devices."""
    devices = {tensor.device for tensor in [*model.parameters(), *model.buffers()]}
    found = [torch.default_generator]
    found += [torch.cuda.default_generators[device.index] for device in devices if device.type == "cuda"]
    if any(device.type == "mps" for device in devices):
        found.append(torch.mps._get_default_mps_generator())
    return found
