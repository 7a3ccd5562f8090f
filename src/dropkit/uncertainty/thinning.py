"""A network in which dropout is on and keyed, and all else in eval mode, for the time of a block."""

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dropkit.layers.alpha import AlphaDropout, FeatureAlphaDropout
from dropkit.layers.base import DropLayer
from dropkit.layers.channels import Dropout1d, Dropout2d, Dropout3d
from dropkit.layers.learned import ConcreteDropout
from dropkit.layers.units import Dropout
from dropkit.masks import site_of
from dropkit.models import hosts
from dropkit.models.conversion import converted
from dropkit.models.own import rate_attribute, rate_of
from dropkit.models.trace import uncompiled, undisturbed
from dropkit.uncertainty.calls import caller, drops_between_layers
from dropkit.uncertainty.frozen import backbones, frozen_paths

# Functional dropout, and the layer that does the same.
_FUNCTIONS: dict[Callable[..., Any], type[DropLayer]] = {
    F.dropout: Dropout,
    torch.dropout: Dropout,
    F.dropout1d: Dropout1d,
    F.dropout2d: Dropout2d,
    F.dropout3d: Dropout3d,
    F.alpha_dropout: AlphaDropout,
    torch.alpha_dropout: AlphaDropout,
    F.feature_alpha_dropout: FeatureAlphaDropout,
    torch.feature_alpha_dropout: FeatureAlphaDropout,
}


_ATTENTION: dict[Callable[..., Any], tuple[int, str]] = {
    F.multi_head_attention_forward: (10, "dropout_p"),
    F.scaled_dot_product_attention: (4, "dropout_p"),
}


class Thinning:
    """A block in which a network's dropout is on, with keyed masks.

    Other libraries' layers are dropkit's meanwhile. Each call of a layer, and each call of functional dropout, in
    the order of execution, is a site of its own: torch.nn's layers draw a fresh mask at each call, too. The dropout of
    a frozen network stays off: it never acted while the head was trained.

    Args:
        model: the network.
        x: a batch of its input.
    """

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        self.model = model
        self.x = x
        self.fired = 0
        self.attention = False  # there is dropout within attention, which stays off
        self.recurrent: set[str] = set()  # layers with dropout between them, which stays off
        self.quiet: set[str] = set()  # dropout layers that have not dropped anything
        self.functional: Counter[str] = Counter()  # how often the last draw called functional dropout at each place
        self.frozen = False  # a frozen network is running
        self._stack = ExitStack()
        self._calls: dict[int, int] = {}
        self._paths: dict[int, str] = {}
        self._base = torch.zeros(4, dtype=torch.int64)

    def __enter__(self) -> "Thinning":
        """Switch the network's dropout on."""
        with ExitStack() as stack:
            stack.enter_context(undisturbed(self.model))
            stack.enter_context(uncompiled())
            self._prepare()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the network back as it was."""
        self._stack.close()

    def _prepare(self) -> None:
        frozen = frozen_paths(self.model)
        for path, module in self.model.named_modules():
            self._paths[id(module)] = path
            module.training = False
            if path not in frozen:
                self._switch_on(path, module)
        for backbone in backbones(self.model):
            backbone.register_forward_pre_hook(self._enter_frozen)
            backbone.register_forward_hook(self._leave_frozen)

    def _switch_on(self, path: str, module: nn.Module) -> None:
        layer = converted(module)
        if layer is not None:
            hosts.become(module, layer)
        if rate_attribute(module) is not None and 0 < rate_of(module) < 1:
            self.quiet.add(path)
        if isinstance(module, DropLayer):
            module.training = True
            module.inplace = False  # what all draws share cannot hold what one of them makes of it
            module.register_forward_pre_hook(self._give_key)
        elif path in self.quiet:
            before: list[int] = []
            module.register_forward_pre_hook(lambda *given: before.append(self.fired))
            module.register_forward_hook(lambda *given: self._heard(path, before.pop()))
        elif drops_between_layers(module):
            module.register_forward_pre_hook(lambda *given: self.recurrent.add(path))

    def _give_key(self, layer: nn.Module, args: Any) -> None:
        assert isinstance(layer, DropLayer)
        number = self._calls.get(id(layer), 0)
        self._calls[id(layer)] = number + 1
        path = self._paths[id(layer)]
        layer.key = self.key_of(path if number == 0 else f"{path}#{number}")
        self.fired += isinstance(layer, ConcreteDropout) or 0 < layer.p < 1
        self.quiet.discard(path)

    def _heard(self, path: str, before: int) -> None:
        """Note whether a layer that no layer of dropkit's stands for has dropped, by a function that can be keyed."""
        if self.fired > before:
            self.quiet.discard(path)

    def _enter_frozen(self, *given: Any) -> None:
        self.frozen = True

    def _leave_frozen(self, *given: Any) -> None:
        self.frozen = False

    def key_of(self, name: str) -> Tensor:
        """Return the key of a site, in the draw that is being computed."""
        return self._base + torch.tensor([0, site_of(name), 0, 0])

    def forward(self, x: Tensor, key: Tensor) -> Any:
        """Return what the network makes of x under the draw of a key (with the site left 0)."""
        self._base = key
        self._calls.clear()
        self.functional.clear()
        self.frozen = False
        with _KeyedFunctions(self):
            return self.model(x)


class _KeyedFunctions(TorchFunctionMode):
    """Gives functional dropout keyed masks, and lets it drop."""

    def __init__(self, thinning: Thinning) -> None:
        super().__init__()
        self.thinning = thinning
        self.calls = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self.thinning.frozen:
            return func(*args, **(kwargs or {}))
        kind = _FUNCTIONS.get(func)
        if kind is not None:
            self.thinning.functional[caller(sys._getframe(1))] += 1
            return self._drop(kind, *args, **(kwargs or {}))
        if func in _ATTENTION:
            place, name = _ATTENTION[func]
            rate = (kwargs or {}).get(name, args[place] if len(args) > place else 0.0)
            self.thinning.attention = self.thinning.attention or rate > 0
        return func(*args, **(kwargs or {}))

    def _drop(self, kind: type[DropLayer], input: Tensor, p: float = 0.5, *how: Any, **options: Any) -> Tensor:
        """Drop, whatever the call says of training, and into a tensor of its own, whatever it says of in place."""
        layer = kind(p)
        layer.key = self.thinning.key_of(f"functional dropout #{self.calls}")
        self.calls += 1
        self.thinning.fired += 0 < p < 1
        dropped: Tensor = layer(input)
        return dropped
