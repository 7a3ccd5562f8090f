"""Why nothing is dropped in a network that was to be sampled."""

from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from dropkit.errors import DropkitError
from dropkit.layers.base import DropLayer
from dropkit.models.conversion import converted
from dropkit.models.functional_calls import functional_dropout
from dropkit.models.own import rate_attribute, rate_of

_FORWARDS = [kind.forward for kind in _DropoutNd.__subclasses__() if kind.__module__ == _DropoutNd.__module__]
SHOWN = 4  # layers that a message names


def nothing_drops(model: nn.Module, x: Tensor) -> DropkitError:
    """Return the error for a network in which no dropout fired, with the reason.

    Args:
        model: the network.
        x: a batch of its input.
    """
    layers = {path: rate_of(module) for path, module in model.named_modules() if rate_attribute(module) is not None}
    guarded = [call for call in functional_dropout(model, x[:2]) if call.rate > 0]
    start = f"all thinned networks of this {type(model).__name__} would be the same: "
    if guarded:
        places = ", ".join(sorted({call.source or call.module for call in guarded})[:SHOWN])
        return DropkitError(
            f"{start}its functional dropout runs in training mode only ({places}), as under `if self.training:`. Call "
            "F.dropout(x, p, self.training) without the condition, or insert dropkit's layers: dropkit.insert"
        )
    strange = {path: rate for path, rate in layers.items() if rate > 0 and _is_strange(model.get_submodule(path))}
    if strange:
        return DropkitError(
            f"{start}its dropout ({_named(strange)}) is of a class whose masks cannot be keyed. Use dropkit's layers "
            "there, such as dropkit.Dropout"
        )
    active = {path: rate for path, rate in layers.items() if 0 < rate < 1}
    if active:
        return DropkitError(
            f"{start}no forward pass calls its dropout ({_named(active)}). Call it, or insert dropout where it acts: "
            "dropkit.insert"
        )
    if any(layers.values()):
        return DropkitError(
            f"{start}its dropout has rate 1, which drops everything ({_named(layers)}). Set others: dropkit.set_rate"
        )
    if layers:
        return DropkitError(f"{start}the rates of its dropout are all 0 ({_named(layers)}). Set some: dropkit.set_rate")
    return DropkitError(f"{start}it has no dropout. Train it with some, or insert some: dropkit.insert")


def _is_strange(layer: nn.Module) -> bool:
    """Whether a dropout layer computes what no layer of dropkit's stands for."""
    own_forward = isinstance(layer, _DropoutNd) and type(layer).forward not in _FORWARDS
    return own_forward or not (isinstance(layer, DropLayer | _DropoutNd) or converted(layer) is not None)


def _named(layers: dict[str, float]) -> str:
    shown = [f"{path or 'the network itself'}" for path in list(layers)[:SHOWN]]
    return ", ".join(shown) + (", ..." if len(layers) > SHOWN else "")
