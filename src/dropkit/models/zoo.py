"""The networks of timm and torchvision, untrained or with the weights that these libraries publish."""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from dropkit.errors import DropkitError, missing_extra

NEAREST = 5  # names that are shown for one that does not exist: the libraries have hundreds

# Where a library keeps the weights that it has downloaded, for messages.
_CACHES = {"timm": "the Hugging Face cache (HF_HOME)", "torchvision": "torch's cache (TORCH_HOME)"}


@dataclass(frozen=True)
class Preprocessing:
    """What a network's published weights expect of pictures whose values run from 0 to 1.

    Attributes:
        size: height and width in pixels.
        mean: subtracted from red, green and blue.
        std: by which they are then divided.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def build_zoo(name: str, *, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Return a network of timm or torchvision with random weights and the state-dict keys of the library.

    timm builds its networks for any number of colours. In one of torchvision's the first convolution reads three; for
    grey pictures its weights are summed over the colours. That computes what the grey picture repeated three times
    would give, with the same spread of outputs, at a third of the cost.

    Args:
        name: `timm:NAME` or `torchvision:NAME`.
        input_shape: (C, H, W) of a picture.
        num_classes: length of the logits.

    Raises:
        DropkitError: if there is no such network, the library is missing, or the network is not made for this size.
    """
    channels, *size = input_shape
    library, _, plain = name.partition(":")
    _require_known(name)
    if library == "timm":
        return _create(name, (size[0], size[1]), num_classes=num_classes, in_chans=channels)
    model = _create(name, (size[0], size[1]), num_classes=num_classes, **_EXTRA.get(plain, {}))
    if channels != 3:
        _sum_colours(model)
    return model


# Their training output is a tuple while they have classifiers halfway, which only helped to train them.
_EXTRA: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def _create(name: str, size: tuple[int, int], **options: Any) -> nn.Module:
    """Build a network for pictures of `size`, which only some have to be told."""
    library, _, plain = name.partition(":")
    if library == "torchvision":
        make: Callable[..., nn.Module] = _import("torchvision").models.get_model
        return _told(name, lambda: make(plain, weights=None, **options, **_torchvision_size(plain, size)))
    create: Callable[..., nn.Module] = _import("timm").create_model
    try:
        return _told(name, lambda: create(plain, pretrained=False, **options, img_size=size))
    except TypeError:  # a network that takes any size has no such argument
        return _told(name, lambda: create(plain, pretrained=False, **options))


def _torchvision_size(plain: str, size: tuple[int, int]) -> dict[str, Any]:
    if plain.startswith("vit_"):
        return {"image_size": size[0]}
    return {"input_size": size} if plain == "maxvit_t" else {}


def _told(name: str, make: Callable[[], nn.Module]) -> nn.Module:
    """Return what `make` returns; what the library raises becomes a message."""
    try:
        return make()
    except TypeError as error:
        if "img_size" in str(error):
            raise
        raise DropkitError(f"model {name!r} cannot be built ({first_line(error)}): choose another one") from error
    except Exception as error:  # each network refuses sizes in its own way
        raise DropkitError(
            f"model {name!r} cannot be built for these pictures ({first_line(error)}): {size_hint(name)}"
        ) from error


def _sum_colours(model: nn.Module) -> None:
    """Let the first convolution read grey pictures instead of coloured ones."""
    for path, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.in_channels == 3 and layer.groups == 1:
            weight = layer.weight.detach().sum(1, keepdim=True)
            grey = nn.Conv2d(1, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation)  # type: ignore[arg-type]
            grey.bias = layer.bias
            grey.weight = nn.Parameter(weight)
            model.set_submodule(path, grey)
            return


def preprocessing(name: str) -> Preprocessing:
    """Return the input size and the normalisation of a network's published weights; nothing is downloaded.

    Raises:
        DropkitError: if there is no such network, or nobody has published weights for it.
    """
    library, _, plain = name.partition(":")
    _require_known(name)
    if library == "timm":
        found = _import("timm").models.get_pretrained_cfg(plain)
        if found is None or not found.has_weights:
            raise _no_weights(name)
        _, height, width = found.input_size
        return Preprocessing((height, width), tuple(found.mean), tuple(found.std))
    transforms = _import("torchvision").models.get_model_weights(plain).DEFAULT.transforms()
    side = transforms.crop_size[0]
    return Preprocessing((side, transforms.crop_size[-1]), tuple(transforms.mean), tuple(transforms.std))


def _no_weights(name: str) -> DropkitError:
    return DropkitError(
        f"timm knows no trained weights for {name!r}: choose one of timm.list_pretrained(), or train it from the "
        f"start, without --pretrained and --finetune"
    )


def pretrained_weights(name: str) -> tuple[nn.Module, Preprocessing]:
    """Return a network with the weights that its library publishes and its own classifier, and what it expects.

    The weights are downloaded, or taken from the library's cache.

    Raises:
        DropkitError: if there are none, or they cannot be downloaded.
    """
    library, _, plain = name.partition(":")
    expected = preprocessing(name)
    module = _import(library)
    try:
        if library == "timm":
            model = module.create_model(plain, pretrained=True)
        else:
            model = module.models.get_model(plain, weights="DEFAULT", progress=False)
    except Exception as error:  # no network, no disk, a broken file: each library has its own for each
        raise DropkitError(
            f"{library} could not get the weights of {name!r} ({first_line(error)}): connect to the internet and run "
            f"the command again. Weights that were downloaded before are taken from {_CACHES[library]}"
        ) from error
    return _without_aux(model), expected


def untrained(name: str) -> nn.Module:
    """Return the network that `pretrained_weights` returns, with random weights and without a download."""
    library, _, plain = name.partition(":")
    _require_known(name)
    if library == "timm":
        return _told(name, lambda: _import("timm").create_model(plain, pretrained=False))
    # As their weights were trained; it has no parameters, but another input.
    extra = {**_EXTRA[plain], "init_weights": False, "transform_input": True} if plain in _EXTRA else {}
    return _told(name, lambda: _import("torchvision").models.get_model(plain, weights=None, **extra))


def _without_aux(model: nn.Module) -> nn.Module:
    if getattr(model, "aux_logits", False) is True:
        model.aux_logits = False  # type: ignore[assignment]
        for aux in ("aux1", "aux2", "AuxLogits"):
            if hasattr(model, aux):
                setattr(model, aux, None)
    return model


def set_size(model: nn.Module, name: str, size: tuple[int, int]) -> None:
    """Bring a network with positions (a transformer's) to another picture size; its weights are interpolated.

    Raises:
        DropkitError: if it cannot be brought to this size.
    """
    if size == preprocessing(name).size or not hasattr(model, "set_input_size"):
        return
    resize: Any = model.set_input_size
    try:
        resize(img_size=size)
    except Exception as error:
        raise DropkitError(
            f"model {name!r} cannot take pictures of {size[0]}x{size[1]} ({first_line(error)}): {size_hint(name)}"
        ) from error


def classifier_paths(model: nn.Module, name: str) -> tuple[str, ...]:
    """Return the paths of the layers that make the logits: one, or two in a distilled transformer."""
    if name.startswith("timm:"):
        config: Any = model.pretrained_cfg
        given = config["classifier"]
        return (given,) if isinstance(given, str) else tuple(given)
    layers = dict(model.named_modules())
    for family in (nn.Linear, nn.Conv2d):  # squeezenet's is a convolution
        if paths := [path for path, layer in layers.items() if isinstance(layer, family)]:
            return (paths[-1],)
    raise DropkitError(f"model {name!r} has no classifier that could be replaced: choose another one")


def set_classifier(model: nn.Module, name: str, num_classes: int) -> None:
    """Give a network with its library's classifier a new one for `num_classes`, with random weights.

    With 0 classes it is taken away: the network then returns the features that enter it, [N, F].
    """
    if name.startswith("timm:"):
        reset: Any = model.reset_classifier
        reset(num_classes)
        return
    (path,) = classifier_paths(model, name)
    before = model.get_submodule(path)
    after: nn.Module = nn.Identity()
    if num_classes and isinstance(before, nn.Conv2d):
        after = nn.Conv2d(before.in_channels, num_classes, before.kernel_size)  # type: ignore[arg-type]
    elif num_classes and isinstance(before, nn.Linear):
        after = nn.Linear(before.in_features, num_classes)
    model.set_submodule(path, after)


def size_hint(name: str) -> str:
    """Return what to do about pictures of a size that the network does not take."""
    try:
        height, width = preprocessing(name).size
    except DropkitError:
        return "give another size with --image-size N, such as 224"
    own = str(height) if height == width else f"{height}x{width}"
    return f"give another size with --image-size; its own is {own} (--image-size {own})"


def first_line(error: Exception) -> str:
    """Return an error's kind and the first line of its text."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def version_of(name: str) -> dict[str, str]:
    """Return the version of the library that a network comes from, by its name."""
    library = name.partition(":")[0]
    return {library: str(_import(library).__version__)}


def _require_known(name: str) -> None:
    library, _, plain = name.partition(":")
    module = _import(library)
    known = module.is_model(plain) if library == "timm" else plain in _torchvision_names()
    if not known:
        raise _unknown(name, library, plain, module.list_models() if library == "timm" else _torchvision_names())


def _torchvision_names() -> list[str]:
    models = _import("torchvision").models
    names: list[str] = models.list_models(module=models)  # not those of detection, segmentation and video
    return names


def _unknown(name: str, library: str, plain: str, names: Iterable[str]) -> DropkitError:
    names = list(names)
    near = get_close_matches(plain, names, n=NEAREST, cutoff=0.5)
    nearest = f" The nearest are {', '.join(f'{library}:{each}' for each in near)}." if near else ""
    where = "timm.list_models()" if library == "timm" else "torchvision.models.list_models(torchvision.models)"
    return DropkitError(
        f"unknown model {name!r}: {library} has {len(names):,} others.{nearest} {where} lists them all."
    )


def _import(module: str) -> Any:
    """Return timm or torchvision.

    Raises:
        DropkitError: if it is not installed, or does not fit the torch that is.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise missing_extra(f"--model {module}:NAME", "zoo") from None
    except Exception as error:  # torchvision's operators are compiled for one torch
        raise DropkitError(
            f"--model {module}:NAME needs torchvision, which does not belong to the torch that is installed, "
            f"{torch.__version__} ({first_line(error)}): install the two together, from the same index, as "
            f"https://pytorch.org/get-started tells"
        ) from error
