"""A small network with batch-norm: three convolution stages and a linear classifier."""

from torch import Tensor, nn

from dropkit.models.cnn import require_size
from dropkit.models.pooling import ReLUMaxPool2d
from dropkit.models.sites import Site


class BatchNormCNN(nn.Module):
    """Three stages of conv 3x3, batch-norm, ReLU, max-pool (32, 64, 64 channels); global average; linear.

    It has no dropout of its own and no hidden fully connected layer, so a policy's `fc` means its `head`.

    Args:
        input_shape: (C, H, W) of a picture; H and W at least 8.
        num_classes: length of the logits.

    Shape: [N, C, H, W] float -> [N, num_classes] logits.

    Raises:
        DropkitError: if a picture is too small for three poolings.

    Example:
        >>> import torch
        >>> BatchNormCNN(input_shape=(3, 32, 32))(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(self, *, input_shape: tuple[int, int, int] = (1, 28, 28), num_classes: int = 10) -> None:
        super().__init__()
        channels, height, width = input_shape
        require_size("bn-cnn", height, width, smallest=8)
        self.stage1 = _stage(channels, 32)
        self.stage2 = _stage(32, 64)
        self.stage3 = _stage(64, 64)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [N, num_classes] of pictures [N, C, H, W]."""
        x = self.stage3(self.stage2(self.stage1(x)))
        return self.fc(self.flatten(self.average(x)))  # type: ignore[no-any-return]

    def dropout_sites(self) -> list[Site]:
        """Return the sites in execution order."""
        readers = ["stage2.conv", "stage3.conv", "fc"]
        stages = [
            Site("conv", i, f"{stage}.pool", False, False, True, f"{stage}.pool.relu", f"{stage}.conv", readers[i])
            for i, stage in enumerate(("stage1", "stage2", "stage3"))
        ]
        return [
            Site("input", 0, "stage1.conv", at_input=True, spatial=True),
            *stages,
            Site("head", 0, "flatten", made_by="stage3.conv", read_by="fc"),
        ]


def _stage(channels_in: int, channels_out: int) -> nn.Sequential:
    stage = nn.Sequential()
    # Batch-norm has a bias of its own, which makes the convolution's redundant.
    stage.add_module("conv", nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False))
    stage.add_module("norm", nn.BatchNorm2d(channels_out))
    stage.add_module("pool", ReLUMaxPool2d(2))
    return stage
