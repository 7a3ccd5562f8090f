"""Dropout of an activation by itself: into existing memory, into fresh memory, and with its backward pass."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dropkit.bench.saved import bytes_saved
from dropkit.bench.timing import Call
from dropkit.layers.relu import relu_dropout
from dropkit.layers.units import dropout
from dropkit.masks.inplace import drop_into
from dropkit.masks.ops import fresh_key
from dropkit.masks.rate import Rate
from dropkit.masks.words import rate_words

Function = Callable[[Tensor], Tensor]

INTO = "into existing memory"
FRESH = "into fresh memory"
BACKWARD = "forward and backward"
FUSED = "ReLU and dropout, forward and backward"
TASKS = (INTO, FRESH, BACKWARD, FUSED)
TORCH, COMPILED, DROPKIT, DROPKIT_COMPILED = "torch.nn", "torch.nn compiled", "dropkit", "dropkit compiled"


@dataclass(frozen=True)
class Case:
    """One task on one activation.

    Args:
        task: one of `TASKS`.
        units: how many numbers the activation has.
        dtype: their type.
        bytes: what has to be read and written at least, by name.
        base: the name of the call that marks the physical limit.
        calls: what is timed, by name.
        saved: bytes kept for backward, by name.
    """

    task: str
    units: int
    dtype: torch.dtype
    bytes: dict[str, int]
    base: str
    calls: dict[str, Call]
    saved: dict[str, int]


def mask_cases(
    sizes: tuple[int, ...], dtypes: tuple[torch.dtype, ...], p: float, device: str, *, compiled: bool
) -> Iterator[Case]:
    """Yield the cases one by one, so that the memory of one is free before the next."""
    contenders = Contenders(p, compiled)
    for dtype in dtypes:
        for build in (_into, _fresh, _backward, _fused):
            for units in sizes:
                # Same numbers in each run: infinities and denormals that time could depend on do not arise.
                x = torch.randn(units, generator=torch.Generator().manual_seed(0)).to(device, dtype)
                yield build(x, contenders)


class Contenders:
    """The functions that are compared, compiled once for all sizes.

    Args:
        p: the rate.
        compiled: also their compiled forms.
    """

    def __init__(self, p: float, compiled: bool) -> None:
        self.p = p
        self.rate = rate_words(Rate.of(p))
        self.plain: dict[str, Function] = {
            TORCH: lambda x: F.dropout(x, p),
            DROPKIT: lambda x: dropout(x, p),
        }
        self.fused: dict[str, Function] = {
            TORCH: lambda x: F.dropout(F.relu(x), p),
            DROPKIT: lambda x: relu_dropout(x, p),
        }
        self.compiled: dict[str, Function] = {}
        self.compiled_fused: dict[str, Function] = {}
        if compiled:
            names = {TORCH: COMPILED, DROPKIT: DROPKIT_COMPILED}
            self.compiled = {names[name]: torch.compile(f, dynamic=True) for name, f in self.plain.items()}
            self.compiled_fused = {names[name]: torch.compile(f, dynamic=True) for name, f in self.fused.items()}


def _into(x: Tensor, contenders: Contenders) -> Case:
    out = torch.empty_like(x)
    p, rate = contenders.p, contenders.rate
    calls: dict[str, Call] = {
        "copy_": lambda: out.copy_(x),
        f"{TORCH}, in place": lambda: F.dropout(out, p, inplace=True),
        f"{DROPKIT}, in place": lambda: dropout(out, p, inplace=True),
        f"{DROPKIT}, into an output": lambda: drop_into(out, x, fresh_key(x), rate),
    }
    return _case(INTO, x, dict.fromkeys(calls, 2), "copy_", calls, {})


def _fresh(x: Tensor, contenders: Contenders) -> Case:
    functions = {**contenders.plain, **contenders.compiled}
    calls: dict[str, Call] = {"clone": x.clone}
    calls.update({name: (lambda f=function: f(x)) for name, function in functions.items()})  # type: ignore[misc]
    return _case(FRESH, x, dict.fromkeys(calls, 2), "clone", calls, {})


def _backward(x: Tensor, contenders: Contenders) -> Case:
    return _trained(BACKWARD, x, {**contenders.plain, **contenders.compiled})


def _fused(x: Tensor, contenders: Contenders) -> Case:
    return _trained(FUSED, x, {**contenders.fused, **contenders.compiled_fused})


def _trained(task: str, x: Tensor, functions: dict[str, Function]) -> Case:
    functions = {"ReLU": torch.relu, **functions}
    leaf, gradient = x.detach().clone().requires_grad_(), torch.randn_like(x)

    def step(function: Function) -> Call:
        return lambda: torch.autograd.grad(function(leaf), leaf, gradient)

    calls = {name: step(function) for name, function in functions.items()}
    # ReLU reads x and writes y; its backward pass reads dy and y and writes dx. Dropout alone needs no y for that.
    passes = {name: 5 if task == FUSED or name == "ReLU" else 4 for name in calls}
    saved = {name: bytes_saved(function, x) for name, function in functions.items()}
    return _case(task, x, passes, "ReLU", calls, saved)


def _case(
    task: str, x: Tensor, passes: dict[str, int], base: str, calls: dict[str, Call], saved: dict[str, int]
) -> Case:
    size = x.numel() * x.element_size()
    return Case(task, x.numel(), x.dtype, {name: count * size for name, count in passes.items()}, base, calls, saved)
