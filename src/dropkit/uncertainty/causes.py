"""Why nothing is dropped in a network that was to be sampled, or not all that drops in training."""

from collections.abc import Iterable, Mapping

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from dropkit.errors import DropkitError
from dropkit.layers.base import DropLayer
from dropkit.models.conversion import converted
from dropkit.models.own import rate_attribute, rate_of
from dropkit.uncertainty.calls import Calls, drops_between_layers
from dropkit.uncertainty.frozen import backbones, frozen_paths
from dropkit.uncertainty.thinning import Thinning

_FORWARDS = [kind.forward for kind in _DropoutNd.__subclasses__() if kind.__module__ == _DropoutNd.__module__]
SHOWN = 4  # layers that a message names


def nothing_drops(model: nn.Module, calls: Calls) -> DropkitError:
    """Return the error for a network in which no dropout fired, with the reason.

    Args:
        model: the network.
        calls: what it calls in training mode.
    """
    frozen = frozen_paths(model)
    modules = {path: module for path, module in model.named_modules() if path not in frozen}
    layers = {path: rate_of(module) for path, module in modules.items() if rate_attribute(module) is not None}
    start = f"all thinned networks of this {type(model).__name__} would be the same: "
    out_of_reach = _out_of_reach(calls, modules)
    if out_of_reach:
        return DropkitError(start + out_of_reach)
    strange = {path: rate for path, rate in layers.items() if rate > 0 and _is_strange(model.get_submodule(path))}
    if strange:
        return DropkitError(
            f"{start}its dropout ({_listed(strange)}) is of a class whose masks cannot be keyed. Use dropkit's layers "
            "there, such as dropkit.Dropout"
        )
    active = {path: rate for path, rate in layers.items() if 0 < rate < 1}
    if active:
        return DropkitError(
            f"{start}no forward pass calls its dropout ({_listed(active)}). Call it, or insert dropout where it acts: "
            "dropkit.insert"
        )
    by_hand = _by_hand(calls)
    if by_hand:
        return DropkitError(start + by_hand)
    if any(layers.values()):
        return DropkitError(
            f"{start}its dropout has rate 1, which drops everything ({_listed(layers)}). Set others: dropkit.set_rate"
        )
    if layers:
        return DropkitError(
            f"{start}the rates of its dropout are all 0 ({_listed(layers)}). Set some: dropkit.set_rate"
        )
    if backbones(model):
        return DropkitError(
            f"{start}only its head was trained, without dropout, and what the frozen network has of its own never "
            "acted. Train a head with some: --pretrained --dropout head=0.5"
        )
    return DropkitError(f"{start}it has no dropout. Train it with some, or insert some: dropkit.insert")


def _out_of_reach(calls: Calls, modules: Mapping[str, nn.Module]) -> str:
    """Return which dropout of a network is no layer that sampling can switch on, with a cure; "" if there is none."""
    if calls.functional:
        return (
            f"its functional dropout runs in training mode only ({_listed(sorted(calls.functional))}), as under "
            "`if self.training:`. Call F.dropout(x, p, self.training) without the condition, or insert dropkit's "
            "layers: dropkit.insert"
        )
    recurrent = [path for path, module in modules.items() if drops_between_layers(module)]
    for what, places in (
        ("it drops within attention alone", calls.attention),
        ("it drops between recurrent layers alone", recurrent),
        ("it drops by functions of dropkit.functional alone", calls.own),
        ("it drops by functions that give their mask away alone", calls.strange),
    ):
        if places:
            return (
                f"{what} ({_listed(sorted(places))}), which cannot be keyed from outside. Use dropkit's layers, such "
                "as dropkit.Dropout, or insert some: dropkit.insert"
            )
    return ""


def _by_hand(calls: Calls) -> str:
    """Return what of a network's code may be meant as dropout and is not, or cannot be seen as such, with a cure."""
    if calls.random:
        return (
            f"its code draws random numbers in training mode ({_listed(sorted(calls.random))}), which cannot be keyed. "
            "Where that is dropout by hand, use dropkit's layers, such as dropkit.Dropout or dropkit.DropPath"
        )
    if calls.idle:
        places = sorted({place for place, _ in calls.idle})
        return (
            f"its functional dropout ({_listed(places)}) is told not to drop, in training mode either. Call "
            "F.dropout(x, p, self.training), or insert dropkit's layers: dropkit.insert"
        )
    return ""


def left_off(thinned: Thinning, calls: Calls) -> list[str]:
    """Return which dropout has stayed off while other dropout was sampled, a sentence for each kind.

    Args:
        thinned: the network, after it has run.
        calls: what the network calls in training mode.
    """
    quiet = thinned.quiet & (calls.layers | thinned.heard)  # what no mode calls drops nowhere
    strange = {path for path in quiet if _is_strange(thinned.model.get_submodule(path))}
    kinds = [
        ("dropout between recurrent layers cannot be keyed: it stays off", thinned.recurrent),
        (
            "functional dropout that runs in training mode only, as under `if self.training:`, stays off",
            calls.functional - thinned.functional,
        ),
        ("calls of dropkit.functional cannot be keyed, and those that depend on the mode stay off", calls.own),
        ("functional dropout that gives its mask away cannot be keyed: it stays off", calls.strange),
        ("dropout of classes whose masks cannot be keyed stays off", strange),
        ("dropout layers that eval mode does not come to stay off", quiet - strange),
        (
            "what draws random numbers in training mode only, such as noise or dropout by hand, stays off",
            calls.random - thinned.random,
        ),
    ]
    words = [f"{what} in the thinned networks ({_listed(sorted(places))})" for what, places in kinds if places]
    if thinned.attention or calls.attention:
        words.append("dropout within attention cannot be keyed: it stays off in the thinned networks")
    return words


def _is_strange(layer: nn.Module) -> bool:
    """Whether a dropout layer computes what no layer of dropkit's stands for."""
    own_forward = isinstance(layer, _DropoutNd) and type(layer).forward not in _FORWARDS
    return own_forward or not (isinstance(layer, DropLayer | _DropoutNd) or converted(layer) is not None)


def _listed(places: Iterable[str]) -> str:
    every = [place or "the network itself" for place in places]
    return ", ".join(every[:SHOWN]) + (", ..." if len(every) > SHOWN else "")
