"""The private names of torch that dropkit's operators stand on, all in one place.

No public registration lets one operator work under autograd, torch.func (grad, jvp, vmap), torch.compile and export at
once (pytorch#170834): the fix that upstream proposes is a single-level autograd function, called from the operator's
Autograd key. A release of torch that moves one of these names fails loudly in tests/masks/test_private_torch.py.
"""

from typing import Any

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import forward_ad
from torch.autograd.function import _SingleLevelFunction


class SingleLevelFunction(_SingleLevelFunction):
    """An autograd function without `torch.autograd.Function`'s layer of Python for torch.func."""

    apply: Any  # torch leaves it without a type


single_level = enable_single_level_autograd_function
AUTOGRAD_KEY = "Autograd"
VMAP_RANDOMNESS_KEY = "FuncTorchVmapMode"


def below_autograd() -> torch._C._AutoDispatchBelowAutograd:
    """Return the context in which operators skip autograd, which has been taken care of."""
    return torch._C._AutoDispatchBelowAutograd()


def in_backward() -> bool:
    """Whether a backward pass of eager autograd is computing now."""
    return torch._C._current_graph_task_id() != -1


def in_functorch() -> bool:
    """Whether a transform of torch.func (grad, jvp, vmap) is active."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def in_dispatch_mode() -> bool:
    """Whether a TorchDispatchMode is active, which wants to see every operation."""
    return torch._C._len_torch_dispatch_stack() > 0


def saving_is_watched() -> bool:
    """Whether somebody wants to see what is saved for backward: activation checkpointing, offloading."""
    return torch._C._autograd._top_saved_tensors_default_hooks(True) is not None


def is_plain(x: Tensor) -> bool:
    """Whether x has values in memory of its own: it is no subclass and no wrapper of a tracer or transform.

    Two kinds of wrappers are for vmap: torch.func's, and an older one that batches the gradients of autograd
    (`is_grads_batched`) while no transform is active.
    """
    functorch = torch._C._functorch
    wrapped = functorch.is_functorch_wrapped_tensor(x) or functorch.is_legacy_batchedtensor(x)
    return type(x) in (Tensor, torch.nn.Parameter) and not wrapped


def in_forward_mode() -> bool:
    """Whether forward-mode differentiation is active, whose tangents tensors carry unseen."""
    return forward_ad._current_level >= 0


def in_function_mode() -> bool:
    """Whether a TorchFunctionMode is active, which wants to see every call."""
    return torch._C._len_torch_function_stack() > 0


def is_eager(x: Tensor) -> bool:
    """Whether a kernel may be called on x's memory at once: no compiler, transform or mode would miss the operator.

    What stands in the way of that is rare, and dispatching an operator written in Python costs more than a small mask.
    """
    return (
        not torch.compiler.is_compiling()
        and is_plain(x)
        and not (in_functorch() or in_dispatch_mode() or in_function_mode() or in_forward_mode())
        and not (x.is_neg() or x.is_conj())
    )
