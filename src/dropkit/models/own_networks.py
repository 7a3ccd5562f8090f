"""Networks of the user's own: a function that returns one, named as module:function or path.py:function."""

import inspect
from typing import Any

from torch import nn

from dropkit.callables import import_function, place_of
from dropkit.errors import DropkitError

ARGUMENTS = ("input_shape", "num_classes")


def build_own(name: str, *, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Return the network that the user's function makes.

    It is called as function(input_shape=(C, H, W), num_classes=K), with those of the two that it takes. A class of
    networks is such a function too.

    Raises:
        DropkitError: if it cannot be imported or called so, raises, or returns something else than a network.
    """
    function: Any = import_function("model", name)
    given = {"input_shape": input_shape, "num_classes": num_classes}
    wanted = _wanted(function, name)
    try:
        model = function(**{argument: given[argument] for argument in wanted})
    except DropkitError:
        raise
    except Exception as error:  # a user's code may raise anything
        raise DropkitError(
            f"model {name!r} raised {type(error).__name__}: {error} ({place_of(error)}). Mend it, and run the command "
            f"again"
        ) from error
    if not isinstance(model, nn.Module):
        raise DropkitError(
            f"model {name!r} returned {type(model).__name__}, but a network is needed: return a torch.nn.Module"
        )
    return model


def _wanted(function: Any, name: str) -> list[str]:
    """Return which arguments the function is to be called with."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # built in
        return list(ARGUMENTS)
    named = [argument for argument in ARGUMENTS if _takes(parameters.get(argument))]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        named = list(ARGUMENTS)
    others = [
        parameter.name
        for parameter in parameters.values()
        if parameter.name not in named
        and parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    if others:
        raise DropkitError(
            f"model {name!r} needs the argument {others[0]!r}, which is not known: the function is called as "
            f"function(input_shape=(C, H, W), num_classes=K). Give other arguments a default"
        )
    return named


def _takes(parameter: inspect.Parameter | None) -> bool:
    return parameter is not None and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
