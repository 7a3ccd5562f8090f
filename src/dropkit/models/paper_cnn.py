"""The convolutional network of the paper: three convolutions 5x5, two wide fully connected layers."""

from torch import Tensor, nn

from dropkit.layers.units import Dropout
from dropkit.models.cnn import require_size
from dropkit.models.pooling import ReLUMaxPool2d
from dropkit.models.sites import Site

STAGES = 3


class PaperCNN(nn.Module):
    """Three stages of conv 5x5, ReLU, max-pool 3x3 of stride 2; two fully connected layers with dropout; the logits.

    The network with which Srivastava et al., JMLR 15 (2014), appendix B.2, train on CIFAR-10, CIFAR-100 and SVHN. What
    the paper does not say is chosen so that a stage halves the picture: the convolutions keep its size, and the
    pooling's last window may reach beyond its edge. The paper's rates are the policy
    `input=0.1,conv[0]=0.25,conv[1]=0.25,conv[2]=0.5,fc=0.5`.

    Args:
        dropout_prob: probability that a unit of a fully connected layer is dropped in training.
        input_shape: (C, H, W) of a picture; H and W at least 8.
        num_classes: length of the logits.
        widths: channels of the three convolutions, then units of the two fully connected layers.

    Shape: [N, C, H, W] float -> [N, num_classes] logits.

    Raises:
        DropkitError: if a picture is too small for three poolings.
        ValueError: if `dropout_prob` is outside [0, 1].

    Example:
        >>> import torch
        >>> net = PaperCNN(widths=(6, 8, 16, 32, 32))
        >>> net(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        dropout_prob: float = 0.5,
        *,
        input_shape: tuple[int, int, int] = (3, 32, 32),
        num_classes: int = 10,
        widths: tuple[int, int, int, int, int] = (96, 128, 256, 2048, 2048),
    ) -> None:
        super().__init__()
        channels, height, width = input_shape
        require_size("paper-cnn", height, width, smallest=8)
        self.stages, self.hidden = nn.Sequential(), nn.Sequential()
        for stage, wide in enumerate(widths[:STAGES], 1):
            self.stages.add_module(f"conv{stage}", nn.Conv2d(channels, wide, kernel_size=5, padding=2))
            self.stages.add_module(f"pool{stage}", ReLUMaxPool2d(3, 2, ceil_mode=True))
            channels, height, width = wide, halved(height), halved(width)
        self.flatten = nn.Flatten()
        features = channels * height * width
        for layer, wide in enumerate(widths[STAGES:], 1):
            self.hidden.add_module(f"fc{layer}", nn.Linear(features, wide))
            self.hidden.add_module(f"relu{layer}", nn.ReLU())
            self.hidden.add_module(f"dropout{layer}", Dropout(dropout_prob))
            features = wide
        self.head = nn.Linear(features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [N, num_classes] of pictures [N, C, H, W]."""
        return self.head(self.hidden(self.flatten(self.stages(x))))  # type: ignore[no-any-return]

    def dropout_sites(self) -> list[Site]:
        """Return the sites in execution order; each fully connected layer has its own dropout layer."""
        readers = ["stages.conv2", "stages.conv3", "hidden.fc1"]
        stages = [
            Site(
                "conv",
                stage,
                f"stages.pool{stage + 1}",
                spatial=True,
                act_path=f"stages.pool{stage + 1}.relu",
                made_by=f"stages.conv{stage + 1}",
                read_by=readers[stage],
            )
            for stage in range(STAGES)
        ]
        return [
            Site("input", 0, "stages.conv1", at_input=True, spatial=True),
            *stages,
            Site("fc", 0, "hidden.dropout1", own=True, made_by="hidden.fc1", read_by="hidden.fc2"),
            Site("fc", 1, "hidden.dropout2", own=True, made_by="hidden.fc2", read_by="head"),
        ]


def halved(side: int) -> int:
    """Return the side of a map after a pooling of windows of 3, every second place, the last one over the edge.

    >>> [halved(side) for side in (32, 28, 7)]
    [16, 14, 3]
    """
    return -(-(side - 3) // 2) + 1
