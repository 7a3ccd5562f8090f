"""The tutorial's network: two convolutions, two fully connected layers, dropout between them."""

from torch import Tensor, nn

from dropkit.errors import DropkitError
from dropkit.layers.units import Dropout
from dropkit.models.pooling import ReLUMaxPool2d
from dropkit.models.sites import Site


class CNNWithDropout(nn.Module):
    """Conv 32, pool, conv 64, pool, fully connected 128, dropout, fully connected `num_classes`.

    The widely copied tutorial network with its attribute names (`conv1`, `conv2`, `dropout`, `fc1`, `fc2`) and its
    defaults, and with its size error mended: `fc1` reads 64 * (H // 4) * (W // 4) features, not 64 * 28 * 28, because
    two poolings have halved the picture twice.

    Args:
        dropout_prob: probability that a unit of `fc1` is dropped in training.
        input_shape: (C, H, W) of a picture; H and W at least 4.
        num_classes: length of the logits.

    Shape: [N, C, H, W] float -> [N, num_classes] logits.

    Raises:
        DropkitError: if a picture is too small for two poolings.
        ValueError: if `dropout_prob` is outside [0, 1].

    Example:
        >>> import torch
        >>> net = CNNWithDropout(dropout_prob=0.5)
        >>> net(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
        >>> sum(p.numel() for p in net.parameters())
        421642
    """

    def __init__(
        self,
        dropout_prob: float = 0.5,
        *,
        input_shape: tuple[int, int, int] = (1, 28, 28),
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        channels, height, width = input_shape
        require_size("cnn", height, width, smallest=4)
        self.conv1 = nn.Conv2d(channels, 32, kernel_size=3, padding=1)
        self.pool1 = ReLUMaxPool2d(2)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3, padding=1)
        self.pool2 = ReLUMaxPool2d(2)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(64 * (height // 4) * (width // 4), 128)
        self.relu = nn.ReLU()
        self.dropout = Dropout(dropout_prob)
        self.fc2 = nn.Linear(128, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [N, num_classes] of pictures [N, C, H, W]."""
        x = self.pool1(self.conv1(x))
        x = self.pool2(self.conv2(x))
        x = self.dropout(self.relu(self.fc1(self.flatten(x))))
        return self.fc2(x)  # type: ignore[no-any-return]

    def dropout_sites(self) -> list[Site]:
        """Return the sites in execution order; the network's own dropout layer is `fc[0]`."""
        return [
            Site("input", 0, "conv1", at_input=True, spatial=True),
            Site("conv", 0, "pool1", spatial=True, act_path="pool1.relu", made_by="conv1", read_by="conv2"),
            Site("conv", 1, "pool2", spatial=True, act_path="pool2.relu", made_by="conv2", read_by="fc1"),
            Site("fc", 0, "dropout", own=True, made_by="fc1", read_by="fc2"),
        ]


def require_size(model: str, height: int, width: int, *, smallest: int) -> None:
    """Refuse pictures that the network's poolings would shrink to nothing."""
    if min(height, width) < smallest:
        raise DropkitError(
            f"model {model!r} needs pictures of at least {smallest}x{smallest}, but these are {height}x{width}: "
            f"use larger pictures or --model mlp"
        )
