"""The networks that `--model` names: built in, from timm and torchvision, or the user's own."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dropkit.callables import place_of
from dropkit.errors import DropkitError, unknown
from dropkit.models import zoo
from dropkit.models.bn_cnn import BatchNormCNN
from dropkit.models.cnn import CNNWithDropout
from dropkit.models.mlp import MLP
from dropkit.models.own_networks import build_own
from dropkit.models.paper_cnn import PaperCNN
from dropkit.models.res_cnn import ResidualCNN
from dropkit.models.widths import parse_widths
from dropkit.models.zoo_names import is_own, is_zoo

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "cnn": CNNWithDropout,
    "bn-cnn": BatchNormCNN,
    "res-cnn": ResidualCNN,
    "paper-cnn": PaperCNN,
    "mlp": MLP,
}
FORMS = ("mlp:WIDTH-...", "paper-cnn:WIDTH-...", "timm:NAME", "torchvision:NAME", "module:function", "path.py:function")

Shape = tuple[int, int, int]


def build(name: str, *, input_shape: Shape, num_classes: int) -> nn.Module:
    """Return the network `name` for pictures of `input_shape` (C, H, W), as it is built without a policy.

    Args:
        name: one of NETWORKS, where `mlp` and `paper-cnn` may have the widths of their layers behind them, as in
            mlp:1024-1024-2048; `timm:NAME`, `torchvision:NAME`, `module:function` or `path.py:function`. A function is
            called as function(input_shape=(C, H, W), num_classes=K), with those of the two that it takes.
        input_shape: channels, height and width of a picture.
        num_classes: K, the length of the logits.

    Returns:
        A network [N, C, H, W] -> [N, K] with random weights, drawn from torch's default generator.

    Raises:
        DropkitError: if there is no such network, or it cannot take such pictures.

    Example:
        >>> type(build("mlp", input_shape=(1, 8, 8), num_classes=10)).__name__
        'MLP'
    """
    own, colon, _ = name.partition(":")
    if own in NETWORKS:
        widths = parse_widths(name) if colon else {}
        return NETWORKS[own](input_shape=input_shape, num_classes=num_classes, **widths)
    if is_zoo(name):
        model = zoo.build_zoo(name, input_shape=input_shape, num_classes=num_classes)
    elif is_own(name):
        model = build_own(name, input_shape=input_shape, num_classes=num_classes)
    else:
        raise unknown("model", name, (*NETWORKS, *FORMS))
    _require_logits(model, name, input_shape, num_classes)
    return model


def is_built_in(name: str) -> bool:
    """Whether a network is one of NETWORKS, with or without the widths of its layers.

    >>> is_built_in("mlp:64-64"), is_built_in("timm:resnet18")
    (True, False)
    """
    return name.partition(":")[0] in NETWORKS


def build_finetuned(name: str, *, input_shape: Shape, num_classes: int, download: bool = True) -> nn.Module:
    """Return a zoo's network with its published weights and a new classifier, for a training of all of it.

    Args:
        name: `timm:NAME` or `torchvision:NAME`.
        input_shape: (3, H, W).
        num_classes: K, the length of the logits.
        download: False leaves all weights random, where others are loaded anyway.

    Raises:
        DropkitError: if there are no weights, they cannot be had, or the network cannot take such pictures.
    """
    model = _ready(name, input_shape, download)
    zoo.set_classifier(model, name, num_classes)
    _require_logits(model, name, input_shape, num_classes)
    return model


def build_backbone(name: str, *, input_shape: Shape, download: bool = True) -> nn.Module:
    """Return a zoo's network without its classifier, frozen and in eval mode: [N, 3, H, W] -> features [N, F].

    Args and errors are those of `build_finetuned`.
    """
    model = _ready(name, input_shape, download)
    zoo.set_classifier(model, name, 0)
    model.eval().requires_grad_(False)
    _output(model, name, input_shape)
    return model


def _ready(name: str, input_shape: Shape, download: bool) -> nn.Module:
    model = zoo.pretrained_weights(name)[0] if download else zoo.untrained(name)
    zoo.set_size(model, name, input_shape[1:])
    return model


def _require_logits(model: nn.Module, name: str, input_shape: Shape, num_classes: int) -> None:
    """Refuse a network that does not make [N, K] of such pictures."""
    training = model.training
    output = _output(model.eval(), name, input_shape)
    model.train(training)
    if not isinstance(output, Tensor) or output.shape != (2, num_classes):
        given = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise DropkitError(
            f"model {name!r} returns {given} for 2 pictures of {num_classes} classes, but logits [2, {num_classes}] "
            f"are needed: let its last layer have num_classes outputs"
        )


def _output(model: nn.Module, name: str, input_shape: Shape) -> object:
    """Return what the network makes of two black pictures."""
    try:
        with torch.no_grad():
            return model(torch.zeros(2, *input_shape))
    except DropkitError:
        raise
    except Exception as error:  # each network fails in its own way
        channels, height, width = input_shape
        pictures = f"{height}x{width} in {'colour' if channels == 3 else 'grey'}"
        hint = zoo.size_hint(name) if is_zoo(name) else f"mend it ({place_of(error)}), or give another --image-size"
        raise DropkitError(
            f"model {name!r} cannot take pictures of {pictures} ({zoo.first_line(error)}): {hint}"
        ) from error
