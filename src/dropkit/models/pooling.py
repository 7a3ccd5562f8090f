"""ReLU followed by max-pooling, at the price of pooling alone."""

import torch.nn.functional as F
from torch import Tensor, nn


class ReLUMaxPool2d(nn.Module):
    """Max-pooling of the rectified input: `max_pool2d(relu(x))`, in windows that do not overlap.

    ReLU never changes which of several numbers is the largest, so it is applied to the pooled map, which is smaller by
    the window's size: outputs and gradients are the same to the bit. Where a hook acts on what `relu` returns (dropout
    between the two, `conv@act` in a policy) the order is kept as it is written.

    Args:
        kernel_size: side of the window, and its stride.

    Shape: [N, C, H, W] -> [N, C, H // kernel_size, W // kernel_size].

    Example:
        >>> import torch
        >>> ReLUMaxPool2d(2)(torch.tensor([[[[-1.0, 3.0], [2.0, -5.0]]]])).item()
        3.0
    """

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return the pooled map."""
        if self.relu._forward_hooks or self.relu._forward_pre_hooks:
            return F.max_pool2d(self.relu(x), self.kernel_size)
        return F.relu(F.max_pool2d(x, self.kernel_size))

    def extra_repr(self) -> str:
        """Return what the layer's repr shows."""
        return f"kernel_size={self.kernel_size}"
