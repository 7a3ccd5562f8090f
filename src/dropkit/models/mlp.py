"""A fully connected network, the kind that the paper's MNIST experiments use."""

from torch import Tensor, nn

from dropkit.layers.units import Dropout
from dropkit.models.sites import Site


class MLP(nn.Module):
    """Flatten, then fully connected layers with ReLU and dropout, then the logits.

    Srivastava et al., JMLR 15 (2014), section 6.1.1, train such networks on MNIST.

    Args:
        dropout_prob: probability that a unit of a hidden layer is dropped in training.
        input_shape: (C, H, W) of a picture.
        num_classes: length of the logits.
        hidden: width of each hidden layer.

    Shape: [N, C, H, W] float -> [N, num_classes] logits.

    Raises:
        ValueError: if `dropout_prob` is outside [0, 1].

    Example:
        >>> import torch
        >>> MLP(hidden=(16,))(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        dropout_prob: float = 0.5,
        *,
        input_shape: tuple[int, int, int] = (1, 28, 28),
        num_classes: int = 10,
        hidden: tuple[int, ...] = (512, 512),
    ) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.flatten = nn.Flatten()
        self.hidden = nn.Sequential()
        features = channels * height * width
        for i, wide in enumerate(hidden):
            self.hidden.add_module(f"fc{i + 1}", nn.Linear(features, wide))
            self.hidden.add_module(f"relu{i + 1}", nn.ReLU())
            self.hidden.add_module(f"dropout{i + 1}", Dropout(dropout_prob))
            features = wide
        self.head = nn.Linear(features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [N, num_classes] of pictures [N, C, H, W]."""
        return self.head(self.hidden(self.flatten(x)))  # type: ignore[no-any-return]

    def dropout_sites(self) -> list[Site]:
        """Return the sites in execution order; each hidden layer has its own dropout layer."""
        depth = len(self.hidden) // 3
        weights = [f"hidden.fc{i + 1}" for i in range(depth)] + ["head"]
        hidden = [
            Site("fc", i, f"hidden.dropout{i + 1}", own=True, made_by=weights[i], read_by=weights[i + 1])
            for i in range(depth)
        ]
        return [Site("input", 0, "flatten", at_input=True, spatial=True), *hidden]
