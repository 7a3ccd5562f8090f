"""A network in which dropout is on and keyed, and all else in eval mode, for the time of a block."""

import sys
from collections import Counter
from collections.abc import Callable, Set
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dropkit.layers.base import DropLayer
from dropkit.layers.learned import ConcreteDropout
from dropkit.masks import site_of
from dropkit.models import hosts
from dropkit.models.conversion import converted
from dropkit.models.own import rate_attribute, rate_of
from dropkit.models.trace import uncompiled, undisturbed
from dropkit.uncertainty.calls import caller, drops_between_layers
from dropkit.uncertainty.frozen import backbones, frozen_paths
from dropkit.uncertainty.functions import KEYED, RANDOM, Keyed, attention_rate

# What autocast computes in few bits. Under torch.vmap it comes too late for them: they have become other operations.
_FEW_BITS = frozenset(
    [F.linear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d]
)


class Thinning:
    """A block in which a network's dropout is on, with keyed masks.

    Other libraries' layers are dropkit's meanwhile. Each call of a layer, and each call of functional dropout, in
    the order of execution, is a site of its own: torch.nn's layers draw a fresh mask at each call, too. The dropout of
    a frozen network stays off: it never acted while the head was trained. A tensor that dropout changes in place stays
    as it is, because all draws share it: whatever is given it from then on is given the draw's in its stead.

    Args:
        model: the network.
        idle: (place, which of its calls) of functional dropout that is to stay off, as `Calls` has it.
    """

    def __init__(self, model: nn.Module, idle: Set[tuple[str, int]] = frozenset()) -> None:
        self.model = model
        self.idle = idle
        self.fired = 0
        self.attention = False  # there is dropout within attention, which stays off
        self.recurrent: set[str] = set()  # layers with dropout between them, which stays off
        self.quiet: set[str] = set()  # dropout layers that have not dropped anything
        self.heard: set[str] = set()  # those of them that were called all the same
        self.functional: Counter[str] = Counter()  # how often the last draw dropped by a function at each place
        self.random: set[str] = set()  # places of the network's code that draw random numbers otherwise
        self.frozen = False  # a frozen network is running
        self._stack = ExitStack()
        self._calls: dict[int, int] = {}
        self._written: dict[int, tuple[Tensor, Tensor]] = {}  # tensors that are changed in place, and what they become
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
            module.register_forward_pre_hook(self._give_key)
            if module.inplace:
                module.inplace = False  # what all draws share cannot hold what one of them makes of it
                module.register_forward_hook(lambda layer, args, made: self.write(args[0], made) if args else None)
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
        self.heard.add(path)
        if self.fired > before:
            self.quiet.discard(path)

    def _enter_frozen(self, *given: Any) -> None:
        self.frozen = True

    def _leave_frozen(self, *given: Any) -> None:
        self.frozen = False

    def key_of(self, name: str) -> Tensor:
        """Return the key of a site, in the draw that is being computed."""
        return self._base + torch.tensor([0, site_of(name), 0, 0])

    def write(self, tensor: Tensor, dropped: Tensor) -> None:
        """Note what a tensor becomes that dropout is to change in place."""
        if dropped is not tensor:
            self._written[id(tensor)] = tensor, dropped

    def current(self, value: Any) -> Any:
        """Return a value with what dropout was to write into the tensors in it, in tuples, lists and dicts."""
        if isinstance(value, Tensor):
            while id(value) in self._written:
                value = self._written[id(value)][1]
            return value
        if type(value) in (tuple, list):
            return type(value)(self.current(part) for part in value)
        if type(value) is dict:
            return {name: self.current(part) for name, part in value.items()}
        return value

    @property
    def written(self) -> bool:
        """Whether the draw that is being computed has changed a tensor in place."""
        return bool(self._written)

    def forward(self, x: Tensor, key: Tensor) -> Any:
        """Return what the network makes of x under the draw of a key (with the site left 0)."""
        self._base = key
        self._calls.clear()
        self.functional.clear()
        self.frozen = False
        try:
            with _KeyedFunctions(self):
                return self.current(self.model(x))
        finally:
            self._written.clear()


class _KeyedFunctions(TorchFunctionMode):
    """Gives functional dropout keyed masks, and lets it drop."""

    def __init__(self, thinning: Thinning) -> None:
        super().__init__()
        self.thinning = thinning
        self.calls = 0
        self.numbers: Counter[str] = Counter()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.thinning.written:
            args, kwargs = self.thinning.current((args, kwargs))
        if self.thinning.frozen:
            return func(*args, **kwargs)
        if func in KEYED:
            return self._keyed(func, caller(sys._getframe(1)), args, kwargs)
        if func in RANDOM:
            self.thinning.random.add(caller(sys._getframe(1)))
        elif attention_rate(func, args, kwargs):
            self.thinning.attention = True
        elif func in _FEW_BITS:
            args, kwargs = _as_autocast(args, kwargs)
        return func(*args, **kwargs)

    def _keyed(self, func: Callable[..., Any], place: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        number = self.numbers[place]
        self.numbers[place] += 1
        if (place, number) in self.thinning.idle:
            return func(*args, **kwargs)
        keyed: Keyed = KEYED[func]
        x = kwargs["input"] if "input" in kwargs else args[0]
        dropped = self._dropped(keyed, x, keyed.rate(args, kwargs))
        self.thinning.functional[place] += 1
        if keyed.writes(args, kwargs):
            self.thinning.write(x, dropped)
        return dropped

    def _dropped(self, keyed: Keyed, x: Tensor, p: float) -> Tensor:
        """Drop, whatever the call says of training."""
        layer = keyed.kind(p)
        layer.key = self.thinning.key_of(f"functional dropout #{self.calls}")
        self.calls += 1
        self.thinning.fired += 0 < p < 1
        dropped: Tensor = layer(x)
        return dropped


def _as_autocast(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return arguments in the type that autocast, where it is on, gives to what is computed in few bits."""

    def cast(value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            return value
        device = value.device.type
        return value.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else value

    return tuple(map(cast, args)), {name: cast(value) for name, value in kwargs.items()}
