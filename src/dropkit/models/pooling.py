"""ReLU followed by max-pooling, at the price of pooling alone."""

import torch.nn.functional as F
from torch import Tensor, nn


class ReLUMaxPool2d(nn.Module):
    """Max-pooling of the rectified input: `max_pool2d(relu(x))`.

    ReLU never changes which of several numbers is the largest, so it is applied to the pooled map, which is smaller by
    the window's size: outputs and gradients are the same to the bit. Where a hook acts on what `relu` returns (dropout
    between the two, `conv@act` in a policy) the order is kept as it is written.

    Args:
        kernel_size: side of the window.
        stride: from one window to the next; None for the side, so that windows do not overlap.
        ceil_mode: whether a last window may reach beyond the map's edge, so that no row is left out.

    Shape: [N, C, H, W] -> [N, C, H // kernel_size, W // kernel_size] where windows do not overlap.

    Example:
        >>> import torch
        >>> ReLUMaxPool2d(2)(torch.tensor([[[[-1.0, 3.0], [2.0, -5.0]]]])).item()
        3.0
    """

    def __init__(self, kernel_size: int, stride: int | None = None, *, ceil_mode: bool = False) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.ceil_mode = kernel_size, stride or kernel_size, ceil_mode
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return the pooled map."""
        if self.relu._forward_hooks or self.relu._forward_pre_hooks:
            return self._pool(self.relu(x))
        return F.relu(self._pool(x))

    def _pool(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, self.kernel_size, self.stride, ceil_mode=self.ceil_mode)

    def extra_repr(self) -> str:
        """Return what the layer's repr shows."""
        overlapping = "" if self.stride == self.kernel_size else f", stride={self.stride}"
        return f"kernel_size={self.kernel_size}{overlapping}{', ceil_mode=True' if self.ceil_mode else ''}"
