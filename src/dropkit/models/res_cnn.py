"""A small residual network: what stochastic depth acts on."""

from torch import Tensor, nn

from dropkit.layers.paths import Residual
from dropkit.models.cnn import require_size
from dropkit.models.pooling import ReLUMaxPool2d
from dropkit.models.sites import Site


class ResidualCNN(nn.Module):
    """Three stages of conv 3x3, batch-norm, ReLU, max-pool and a residual block (32, 64, 64 channels); average; linear.

    A block is conv 3x3, batch-norm, ReLU, conv 3x3, batch-norm beside the identity (He et al., CVPR 2016, fig. 5). Its
    branch is a policy's `path`: dropped as a whole for a sample (stochastic depth), and then not computed.

    Args:
        input_shape: (C, H, W) of a picture; H and W at least 8.
        num_classes: length of the logits.

    Shape: [N, C, H, W] float -> [N, num_classes] logits.

    Raises:
        DropkitError: if a picture is too small for three poolings.

    Example:
        >>> import torch
        >>> ResidualCNN(input_shape=(3, 32, 32))(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(self, *, input_shape: tuple[int, int, int] = (1, 28, 28), num_classes: int = 10) -> None:
        super().__init__()
        channels, height, width = input_shape
        require_size("res-cnn", height, width, smallest=8)
        self.stage1 = _stage(channels, 32)
        self.stage2 = _stage(32, 64)
        self.stage3 = _stage(64, 64)
        self.relu = nn.ReLU()
        self.average = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [N, num_classes] of pictures [N, C, H, W]."""
        x = self.relu(self.stage3(self.stage2(self.stage1(x))))
        return self.fc(self.flatten(self.average(x)))  # type: ignore[no-any-return]

    def dropout_sites(self) -> list[Site]:
        """Return the sites in execution order; a stage's `conv` is what its residual block reads."""
        sites = [Site("input", 0, "stage1.conv", at_input=True, spatial=True)]
        for i, stage in enumerate(("stage1", "stage2", "stage3")):
            made, read = f"{stage}.conv", f"{stage}.block.branch.conv1"
            act = f"{stage}.pool.relu"
            sites += [
                Site("conv", i, f"{stage}.pool", spatial=True, act_path=act, made_by=made, read_by=read),
                Site("path", i, f"{stage}.block", own=True, spatial=True),
            ]
        return [*sites, Site("head", 0, "flatten", made_by="stage3.block.branch.conv2", read_by="fc")]


def _stage(channels_in: int, channels_out: int) -> nn.Sequential:
    stage = nn.Sequential()
    # Batch-norm has a bias of its own, which makes the convolution's redundant.
    stage.add_module("conv", nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False))
    stage.add_module("norm", nn.BatchNorm2d(channels_out))
    stage.add_module("pool", ReLUMaxPool2d(2))
    stage.add_module("block", Residual(_branch(channels_out), 0.0))
    return stage


def _branch(channels: int) -> nn.Sequential:
    branch = nn.Sequential()
    branch.add_module("conv1", nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False))
    branch.add_module("norm1", nn.BatchNorm2d(channels))
    branch.add_module("relu", nn.ReLU())
    branch.add_module("conv2", nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False))
    branch.add_module("norm2", nn.BatchNorm2d(channels))
    return branch
