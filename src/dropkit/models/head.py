"""A head on a frozen network: the only part that is trained where the features of all pictures are known."""

import torch
from torch import Tensor, nn

from dropkit.errors import DropkitError
from dropkit.models.policy import Policy
from dropkit.models.sites import Site
from dropkit.models.surgery import insert

HEAD_SITES = ("head", "head[0]", "fc", "fc[0]")


class Head(nn.Module):
    """A linear layer from features to logits, with one site, `head`, at its input.

    Args:
        features: F, the length of a picture's features.
        num_classes: K, the length of the logits.

    Shape: [N, F] -> [N, K].

    Example:
        >>> import torch
        >>> Head(5, 3)(torch.zeros(2, 5)).shape
        torch.Size([2, 3])
    """

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [N, K] of features [N, F]."""
        return self.fc(x)  # type: ignore[no-any-return]

    def dropout_sites(self) -> list[Site]:
        """Return the head's one site."""
        return [Site("head", 0, "fc", at_input=True, read_by="fc")]


class FrozenNetwork(nn.Module):
    """A frozen network that makes features, and the head that was trained on them.

    Args:
        backbone: [N, C, H, W] -> [N, F]; it stays in eval mode.
        head: [N, F] -> [N, K].
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.head = head
        self.train(self.training)

    def train(self, mode: bool = True) -> "FrozenNetwork":
        """Set the head's mode: the backbone's statistics are not to move, and its own dropout is not to act."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [N, K] of pictures [N, C, H, W]."""
        return self.head(self.backbone(x))  # type: ignore[no-any-return]


def require_head_policy(policy: Policy) -> None:
    """Refuse a policy that names other sites than the head, or a kind that cannot act there.

    Raises:
        DropkitError: naming the site or the kind.

    Example:
        >>> require_head_policy(Policy.parse("head=0.5"))
    """
    for item in policy.items:
        if item.site not in HEAD_SITES:
            raise DropkitError(
                f"policy {policy.text!r}: {item.site!r} is not in the head, and with --pretrained only the head is "
                f"trained: name head alone, as in head=0.5, or train all of the network, with --finetune"
            )
    with torch.random.fork_rng(devices=[]):
        insert(Head(2, 2), policy)
