"""Max-norm regularisation: no unit's incoming weights grow beyond a ball."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.errors import DropkitError
from dropkit.layers.weights import DropConnect

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, DropConnect, *_TRANSPOSED)


@torch.no_grad()
def max_norm(model: nn.Module, c: float) -> None:
    """Scale down, in place, the incoming weights of each unit whose L2 norm exceeds c.

    The constraint ||w|| <= c of Srivastava et al., JMLR 15 (2014), section 5.1, which pays most together with dropout;
    their convolutional networks have c = 4 (appendix B.2). Call it after each `optimizer.step()`.

    A unit is an output of `nn.Linear` (its vector is a row of the weight) or an output channel of `nn.Conv1d` to
    `nn.Conv3d` and `nn.ConvTranspose1d` to `nn.ConvTranspose3d` (its vector is the whole filter, over input channels
    and places). A transposed weight [in, out/groups, ...] has the output channels in dimension 1, and each group reads
    its own part of dimension 0. `DropConnect` has the weights of the layer that it replaced. Biases do not count, and
    stay; so does every other layer's weight. A weight that several layers share is scaled once, as the first reads it.

    Vectors within c keep every bit; others keep their direction and have norm c, up to rounding. It costs one pass over
    the weights to measure and one to write, and no GPU is waited for. A vector that holds an infinity or NaN keeps a
    NaN, so that the loss tells of it; one whose squares overflow (a norm above 1.8e19 in float32) becomes zero.

    Args:
        model: any module; its parameters keep their gradients.
        c: the greatest norm, greater than 0.

    Raises:
        DropkitError: c is not a finite number greater than 0; the model has none of these layers; or the weight of one
            is computed from other parameters (parametrized or pruned), so that scaling it would not last.

    >>> layer = nn.Linear(2, 2)
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 0.5]]))
    >>> max_norm(layer, 2.5)
    >>> layer.weight.tolist()
    [[1.5, 2.0], [0.0, 0.5]]
    """
    if isinstance(c, bool) or not isinstance(c, (int, float)) or not (c > 0 and math.isfinite(c)):
        raise DropkitError(f"max_norm takes as c a finite number greater than 0, but got {c!r}")
    weights = _by_unit(model)
    excess = [_norms(weight, units) for weight, units in weights]
    torch._foreach_div_(excess, c)
    # A division by 1 changes no bit; the factor c / norm would be infinite for a vector of zeros.
    torch._foreach_clamp_min_(excess, 1)
    torch._foreach_div_([weight for weight, _ in weights], excess)


def _by_unit(model: nn.Module) -> list[tuple[Tensor, tuple[int, ...]]]:
    """Return each weight once, with the dimensions that run over one unit's incoming weights."""
    found: dict[int, tuple[Tensor, tuple[int, ...]]] = {}
    for path, module in model.named_modules():
        if isinstance(module, _WEIGHTED):
            weight = _own_weight(path, module)
            found.setdefault(id(weight), _split(module, weight))
    if not found:
        raise DropkitError(f"max_norm found no linear and no convolution layer in this {type(model).__name__}")
    return list(found.values())


def _own_weight(path: str, module: nn.Module) -> Tensor:
    weight = module._parameters.get("weight")
    if weight is None:
        raise DropkitError(
            f"max_norm cannot hold the weight of {path or 'the layer'!r}, which is computed from other parameters "
            "(parametrized or pruned): remove the parametrization first"
        )
    return weight


def _split(module: Any, weight: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """Return the weight seen such that whole dimensions run over one unit's incoming weights, and these dimensions."""
    if isinstance(module, _TRANSPOSED):
        grouped = weight.unflatten(0, (module.groups, -1))  # [groups, in/groups, out/groups, ...]
        return grouped, (1, *range(3, grouped.dim()))
    return weight, tuple(range(1, weight.dim()))


def _norms(weight: Tensor, units: tuple[int, ...]) -> Tensor:
    """Return the norms of the units' vectors, in at least float32: a half type's squares would overflow at 256."""
    half = weight.dtype in (torch.float16, torch.bfloat16)
    norms: Tensor = torch.linalg.vector_norm(weight, dim=units, keepdim=True, dtype=torch.float32 if half else None)
    return norms
