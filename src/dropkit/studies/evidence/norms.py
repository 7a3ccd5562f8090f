"""How large the weights are: the L2 norm of what each unit reads.

Srivastava et al., JMLR 15 (2014), sections 5.1 and 6.5: dropout is used together with L2, or with a bound on these
norms.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.layers.weights import DropConnect
from dropkit.models.head import FrozenNetwork

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, DropConnect, *_TRANSPOSED)


def weight_norms(model: nn.Module) -> dict[str, Any]:
    """Return the L2 norms of units' incoming weights, as plain JSON.

    `layers`: for each linear and convolution layer its `layer` (the path), `units`, `quantiles` (5, 25, 50, 75, 95%)
    over units, and `norm`, that of the whole weight; `total`, the norm of all these weights together. Biases do not
    count. Of a head on a frozen network only the head's weights do.

    Args:
        model: any network.

    >>> layer = nn.Linear(2, 3)
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 12.0]]))
    >>> found = weight_norms(nn.Sequential(layer))
    >>> found["layers"][0]["quantiles"][2], found["total"]
    (5.0, 13.0)
    """
    rows, total, seen = [], 0.0, set()
    start = "head." if isinstance(model, FrozenNetwork) else ""
    for path, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if not isinstance(module, _WEIGHTED) or not path.startswith(start) or id(weight) in seen:
            continue
        seen.add(id(weight))
        norms = _norms(module)
        squares = float(norms.square().sum())
        total += squares
        quantiles = norms.quantile(torch.tensor(QUANTILES, dtype=norms.dtype)).tolist()
        rows.append({"layer": path, "units": len(norms), "quantiles": quantiles, "norm": math.sqrt(squares)})
    return {"layers": rows, "total": math.sqrt(total)}


def _norms(module: Any) -> Tensor:
    """Return the norm of each unit's incoming weights [units], in float64 on the CPU."""
    weight = module.weight.detach().double().cpu()
    if isinstance(module, _TRANSPOSED):
        # [in, out/groups, ...]: each group reads its own part of dimension 0.
        weight = weight.unflatten(0, (module.groups, -1)).transpose(1, 2).flatten(0, 1)
    norms: Tensor = weight.flatten(1).norm(dim=1)
    return norms
