"""The networks that `--model` names."""

from collections.abc import Callable

from torch import nn

from dropkit.errors import unknown
from dropkit.models.bn_cnn import BatchNormCNN
from dropkit.models.cnn import CNNWithDropout
from dropkit.models.mlp import MLP
from dropkit.models.res_cnn import ResidualCNN

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "cnn": CNNWithDropout,
    "bn-cnn": BatchNormCNN,
    "res-cnn": ResidualCNN,
    "mlp": MLP,
}


def build(name: str, *, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Return the network `name` for pictures of `input_shape` (C, H, W), as it is built without a policy.

    Raises:
        DropkitError: if there is no such network, or it cannot take such pictures.

    Example:
        >>> type(build("mlp", input_shape=(1, 8, 8), num_classes=10)).__name__
        'MLP'
    """
    if name not in NETWORKS:
        raise unknown("model", name, NETWORKS)
    return NETWORKS[name](input_shape=input_shape, num_classes=num_classes)
