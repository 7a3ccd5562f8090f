"""What a network's modules are at one moment, to go back to."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import nn

_TABLES = (dict, OrderedDict)  # others may do more than hold when they are emptied and filled


def snapshot(model: nn.Module) -> Callable[[], None]:
    """Return what gives a network's modules the classes, attributes, hooks and children back that they have now.

    Tensors are the same objects then; what is written into them stays.

    >>> net = nn.Sequential(nn.ReLU())
    >>> put_back = snapshot(net)
    >>> net.calls = 3
    >>> put_back()
    >>> hasattr(net, "calls")
    False
    """
    before = [(module, type(module), dict(module.__dict__)) for module in model.modules()]
    values = [value for _, _, attributes in before for value in attributes.values()]
    # The hooks, parameters and children are dicts of their own, which change in place.
    tables = [(value, dict(value)) for value in values if type(value) in _TABLES]
    lists = [(value, list(value)) for value in values if type(value) is list]

    def put_back() -> None:
        for module, kind, attributes in before:
            module.__class__ = kind
            _refill(module.__dict__, attributes)
        for table, content in tables:
            _refill(table, content)
        for kept, parts in lists:
            kept[:] = parts

    return put_back


def _refill(table: dict[Any, Any], content: dict[Any, Any]) -> None:
    table.clear()
    table.update(content)
