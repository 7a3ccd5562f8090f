"""Which implementation serves a tensor."""

import warnings
from functools import cache
from types import ModuleType

from torch import Tensor

from dropkit.masks import cpu


def kernels_for(x: Tensor) -> ModuleType:
    """Return the module whose functions write masks into tensors like x: `kernels.gpu`, or `cpu`.

    The latter serves every device that has no kernels of its own, by the reference.
    """
    if x.is_cuda:
        gpu = _gpu()
        if gpu is not None and x.dtype in gpu.DTYPES:
            return gpu
    return cpu


@cache
def _gpu() -> ModuleType | None:
    """Import the GPU's kernels, and with them Triton, which nothing else needs; warns once where it is missing."""
    try:
        from dropkit.masks.kernels import gpu
    except ImportError as error:
        warnings.warn(
            f"dropkit's GPU kernels are not available ({error}): masks are computed by the slower reference, with the "
            "same results. Install triton.",
            stacklevel=2,
        )
        return None
    return gpu
