"""How dropout gets into a network whose classes stay as they are, and out of it again.

A layer hangs on a host: it is the host's child, so that train(), eval(), to(), deepcopy() and `dropkit.keyed` reach it,
and a forward (pre-)hook lets it act on what the host returns (or reads). A layer that the network has is turned into
another one in place: the object stays, so hooks on it, every name under which it is registered, shared parameters and
the optimizer's hold on them stay as well (torch's own lazy modules do the same when they are initialised). What was
before is kept on the object, which makes the way back exact, after a deepcopy or a pickle too.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.errors import DropkitError
from dropkit.layers.base import DropLayer
from dropkit.models.override import overridden, stop_overriding
from dropkit.models.sites import Site
from dropkit.models.snapshot import snapshot

# The names of what hangs on a host. Having no parameters (but for a learned rate), it adds no key to the state dict.
SLOT = "site_dropout"
INPUT_SLOT = "input_dropout"
_FORMER = "_dropkit_former"  # what a module was before it was turned into a dropkit layer
RATES = "_dropkit_rates"  # the rates that a module had before they were set
_SITE = "_dropkit_site"  # the site at which a layer acts
_NAMES = "_dropkit_names"  # the names that a policy has for that site
_OF_EVERY_MODULE = frozenset(nn.Module().__dict__)


def attach(host: nn.Module, layer: nn.Module, *, at_input: bool) -> None:
    """Let `layer` act on what `host` returns, or on what it reads first.

    Raises:
        DropkitError: if the host has something else under the name that the layer is to have.
    """
    name = INPUT_SLOT if at_input else SLOT
    if hasattr(host, name):
        raise DropkitError(
            f"dropkit hangs its layer on a {type(host).__name__} under the name {name!r}, which it has already got: "
            "rename that attribute of the network"
        )
    layer.train(host.training)
    host.add_module(name, layer)
    if at_input:
        host.register_forward_pre_hook(_drop_input)
    else:
        host.register_forward_hook(_drop_output)


def detach(host: nn.Module, *, at_input: bool) -> nn.Module:
    """Take off the layer that hangs on what `host` returns, or reads; return it."""
    hooks: dict[int, Any] = host._forward_pre_hooks if at_input else host._forward_hooks
    function = _drop_input if at_input else _drop_output
    for number in [number for number, hook in hooks.items() if hook is function]:
        del hooks[number]
    layer = host._modules.pop(INPUT_SLOT if at_input else SLOT)
    assert layer is not None
    return layer


# Plain functions that look the layer up on the module they are given: a deep copy of the network then uses its own.
def _drop_input(host: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    layer = host.get_submodule(INPUT_SLOT)
    if not args or not isinstance(args[0], Tensor):
        raise DropkitError(_no_tensor(host, "is given", args[0] if args else None))
    site, x = site_of_layer(layer), args[0]
    if site is not None and site.spatial and site.shape is not None and x.dim() == 2 and len(site.shape) > 1:
        # Functional code has flattened the maps before the host reads them; whole maps are dropped all the same.
        return (layer(x.reshape(-1, *site.shape)).reshape(x.shape), *args[1:])
    return (layer(x), *args[1:])


def _drop_output(host: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    if not isinstance(output, Tensor):
        raise DropkitError(_no_tensor(host, "returns", output))
    return host.get_submodule(SLOT)(output)


def _no_tensor(host: nn.Module, does: str, value: Any) -> str:
    return (
        f"dropout was inserted at a {type(host).__name__}, but that {does} a {type(value).__name__}, no tensor: name "
        "another module in the policy, one that returns a tensor"
    )


def hanging(model: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Module, bool]]:
    """Yield (path of the host, host, layer, at its input) for every layer that hangs on a host."""
    for path, host in list(model.named_modules()):
        for name, hooks, function, at_input in (
            (SLOT, host._forward_hooks, _drop_output, False),
            (INPUT_SLOT, host._forward_pre_hooks, _drop_input, True),
        ):
            layer = host._modules.get(name)
            # A layer whose hook someone has cleared is dropkit's all the same.
            if layer is not None and (function in hooks.values() or site_of_layer(layer) is not None):
                yield path, host, layer, at_input


def become(module: nn.Module, layer: DropLayer) -> None:
    """Turn a module into a dropkit layer, in place: class, attributes and own parameters; hooks and mode stay."""
    new = {name: value for name, value in layer.__dict__.items() if name not in _OF_EVERY_MODULE}
    held = module.__dict__
    # An attribute that the new class computes would be dead, and misleading, in the object.
    gone = {name for name in held if name in new or isinstance(getattr(type(layer), name, None), property)}
    former = (type(module), {name: held.pop(name) for name in sorted(gone)}, tuple(new), dict(module._parameters))
    held.update(new)
    module._parameters.update(layer._parameters)
    module.__class__ = type(layer)
    held[_FORMER] = former


def unbecome(module: nn.Module) -> None:
    """Turn a module back into what it was before `become`. Parameters that it shared with the layer stay."""
    kind, attributes, new, parameters = module.__dict__.pop(_FORMER)
    for name in new:
        module.__dict__.pop(name, None)
    module.__dict__.update(attributes)
    for name in [name for name in module._parameters if name not in parameters]:
        del module._parameters[name]
    module.__class__ = kind


def became(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield (path, module) for every module that was turned into a dropkit layer."""
    for path, module in model.named_modules():
        if _FORMER in module.__dict__:
            yield path, module


def former_kind(module: nn.Module) -> type:
    """Return the class that a module had before it was turned into a dropkit layer."""
    kind: type = module.__dict__[_FORMER][0]
    return kind


def set_attribute(module: nn.Module, name: str, value: Any) -> None:
    """Set a rate of a module, and keep the one that it had at first."""
    if _FORMER not in module.__dict__:  # what it became was not there at first
        kept = module.__dict__.get(RATES, {})
        module.__dict__[RATES] = {name: getattr(module, name), **kept}
    setattr(module, name, value)


def rates_before(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, Any]]:
    """Yield (path, module, attribute, the value before) for every rate that was set."""
    for path, module in model.named_modules():
        for name, value in module.__dict__.get(RATES, {}).items():
            yield path, module, name, value


def mark(layer: nn.Module, site: Site, names: frozenset[str] = frozenset()) -> None:
    """Note at which site a layer acts, and what a policy calls that site."""
    layer.__dict__[_SITE], layer.__dict__[_NAMES] = site, names


def site_of_layer(layer: nn.Module) -> Site | None:
    """Return the site at which a layer acts; None for one that insert did not see."""
    found: Site | None = layer.__dict__.get(_SITE)
    return found


def names_of_layer(layer: nn.Module) -> frozenset[str]:
    """Return the names that a policy has for the site at which a layer acts."""
    found: frozenset[str] = layer.__dict__.get(_NAMES, frozenset())
    return found


def is_changed(model: nn.Module) -> bool:
    """Whether dropkit changed anything in a network."""
    changes = (hanging(model), became(model), rates_before(model), overridden(model))
    return any(True for found in changes for _ in found)


def take_back(model: nn.Module) -> None:
    """Undo every change in a network."""
    for _, host, _, at_input in list(hanging(model)):
        detach(host, at_input=at_input)
    for _, module in list(became(model)):
        unbecome(module)
    # Now that each is what it was: a rate that was set before it became another one is among what it got back.
    for _, module, name, value in list(rates_before(model)):
        setattr(module, name, value)
    for module in model.modules():
        stop_overriding(module)
        for name in (RATES, _SITE, _NAMES):
            module.__dict__.pop(name, None)


def forget_compiled() -> None:
    """Let what is compiled be compiled anew: compiled code does not look whether hooks have come or gone since."""
    if "torch._dynamo" in sys.modules:  # else nothing is
        torch.compiler.reset()


@contextmanager
def all_or_nothing(model: nn.Module) -> Iterator[None]:
    """Leave a network as it was before the block where an exception ends the block."""
    put_back = snapshot(model)
    try:
        yield
    except BaseException:
        put_back()
        raise


@contextmanager
def as_built(model: nn.Module) -> Iterator[None]:
    """Within the block, a network is without dropkit's changes."""
    put_back = snapshot(model)
    try:
        take_back(model)
        yield
    finally:
        put_back()
