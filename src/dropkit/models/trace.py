"""What a network computes on an example: every operation on tensors, and the modules that it happened in.

The network runs once, as written: functional operations are seen as well as modules, and what its code decides from
data or mode is decided as it is. Nothing of the network is different afterwards.
"""

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode, resolve_name

from dropkit.errors import DropkitError
from dropkit.models.own import is_dropout, rate_attribute
from dropkit.models.snapshot import snapshot

TORCH = str(Path(torch.__file__).parent) + os.sep  # where torch's own code is; users have folders of that name too

Value = int  # the number of a tensor's content: an operation in place gives the tensor a new one


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        name: as torch calls it, without its module: `conv2d`, `relu`, `__add__`. A dropout layer, whatever it computes,
            is one operation `dropout`.
        module: path of the innermost module that it happened in.
        begin: when it happened, in the count of events that ModuleCall uses too.
        reads: the values that it read.
        writes: the values that it made.
        arguments: its positional and named arguments that are no tensors.
        source: file and line of the code that called it, outside torch.
        layer: True for a dropout layer.
    """

    name: str
    module: str
    begin: int
    reads: tuple[Value, ...]
    writes: tuple[Value, ...]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    layer: bool = False


@dataclass
class ModuleCall:
    """One call of a module: what it read as its first argument, and what it returned, if these are tensors."""

    path: str
    begin: int
    end: int
    reads: Value | None
    writes: Value | None = None


@dataclass
class Trace:
    """What happened when a network ran on an example.

    Attributes:
        operations: in the order in which they happened.
        calls: the calls of modules, in the order in which they began.
        shapes: the shape of each value.
        inputs: the values of the example.
        outputs: the values that the network returned, whatever it packed them in.
        strangers: class and source line of each dropout layer that ran and is no part of the network: built in
            forward, or kept in a plain list, where train() and eval() do not reach it.
        training: whether the network ran in training mode.
    """

    operations: list[Operation] = field(default_factory=list)
    calls: list[ModuleCall] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    strangers: list[tuple[str, str]] = field(default_factory=list)
    training: bool = True


def trace(model: nn.Module, example_input: Any, *, training: bool | None = None) -> Trace:
    """Run a network on an example, in training mode if it can, and return what happened.

    Its dropout layers and batch-norms are in eval mode meanwhile: nothing is random that need not be, a single picture
    will do, and no statistics move.

    Args:
        model: any network.
        example_input: a tensor; a tuple of positional or a dict of named arguments.
        training: True or False for that mode alone; by default eval mode where training mode fails.

    Raises:
        DropkitError: if the network cannot run on the example, or is scripted, quantised or not yet initialised.
    """
    refuse_untraceable(model)
    failures = []
    for mode in (True, False) if training is None else (training,):
        recorder = Recorder(model)
        recorder.trace.training = mode
        try:
            with undisturbed(model), uncompiled(), torch.no_grad():
                set_modes(model, mode)
                recorder.run(_copied(example_input))  # a network may write into its input
        except DropkitError:
            raise
        except Exception as error:  # a network's code may raise anything
            failures.append(error)
        else:
            return recorder.trace
    raise cannot_run(model, example_input, failures[-1], "" if training is None else "training" if training else "eval")


def cannot_run(model: nn.Module, example_input: Any, error: Exception, mode: str = "") -> DropkitError:
    """Return the error for a network that raises when it is called with the example, perhaps in one mode alone."""
    reason = str(error).splitlines()[0] if str(error) else "no reason given"
    return DropkitError(
        f"{type(model).__name__} cannot run{f' in {mode} mode' if mode else ''} on the example input, "
        f"{describe_input(example_input)}: "
        f"{type(error).__name__}: {reason}. Give an input as it is trained on: a tensor such as "
        "torch.zeros(2, 3, 224, 224); several ones as a tuple of positional or a dict of named arguments"
    )


def describe_input(example: Any) -> str:
    """Return an example's shape, for messages."""
    if isinstance(example, Tensor):
        return f"a tensor {list(example.shape)} of {example.dtype}"
    if isinstance(example, tuple | list):
        return f"({', '.join(describe_input(part) for part in example)})"
    if isinstance(example, Mapping):
        return "{" + ", ".join(f"{name!r}: {describe_input(part)}" for name, part in example.items()) + "}"
    return f"a {type(example).__name__}"


def call(model: nn.Module, example_input: Any) -> Any:
    """Call a network with an example: a tensor, a tuple of positional or a dict of named arguments."""
    if isinstance(example_input, Mapping):
        return model(**example_input)
    if isinstance(example_input, tuple | list):
        return model(*example_input)
    return model(example_input)


def require_module(model: Any) -> None:
    """Raise for what is no network.

    Raises:
        DropkitError: saying what is needed.
    """
    if not isinstance(model, nn.Module):
        raise DropkitError(f"a torch.nn.Module is needed, but got {type(model).__name__}: give the network itself")


def refuse_untraceable(model: nn.Module) -> None:
    """Raise for a network whose code cannot be followed.

    Raises:
        DropkitError: saying what to give instead.
    """
    require_module(model)
    for path, module in model.named_modules():
        where = f"the module {path!r}" if path else "the network"
        kind = type(module)
        if isinstance(module, torch.fx.GraphModule) and _is_exported(module):
            raise DropkitError(
                f"{where} was made by torch.export, which has left neither modules nor modes in it: give the network "
                "that it was made from, and export it afterwards"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise DropkitError(
                f"{where} is scripted (TorchScript), so nothing can be seen or changed in it: give the "
                "network that it was made from"
            )
        if kind.__module__.startswith(
            ("torch.ao.nn.quantized", "torch.nn.quantized", "torch.ao.nn.intrinsic.quantized")
        ):
            raise DropkitError(
                f"{where} is quantised ({kind.__name__}) and made for inference alone: give the network "
                "that it was made from, and quantise it after training"
            )
        if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():  # type: ignore[misc]
            raise DropkitError(
                f"{where} is lazy ({kind.__name__}) and has no parameters yet: call the network once on "
                "an example, which gives it some, and then come back"
            )


def _is_exported(module: torch.fx.GraphModule) -> bool:
    """Whether a graph calls torch's operators where a network, or what torch.fx made of it, calls modules."""
    targets = [node.target for node in module.graph.nodes]
    return any(isinstance(target, torch._ops.OpOverload) and target.namespace == "aten" for target in targets)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Put the network's attributes, modes, buffers and torch's random state back after the block, whatever happens."""
    put_back = snapshot(model)
    copies = [(buffer, buffer.clone()) for buffer in model.buffers() if not buffer.is_meta]
    try:
        with torch.random.fork_rng(devices=_devices(model)):
            yield
    finally:
        put_back()
        with torch.no_grad():
            for buffer, copy in copies:
                if not torch.equal(buffer, copy) or buffer.isnan().any():
                    buffer.copy_(copy)


@contextmanager
def uncompiled() -> Iterator[None]:
    """Let what is compiled run as it is written: a compiled graph would hide its operations."""
    if "torch._dynamo" not in sys.modules:  # then nothing is, and loading the compiler takes long
        yield
        return
    with warnings.catch_warnings(), torch.compiler.set_stance("force_eager"):
        warnings.filterwarnings("ignore", "Using `torch.compile.module.` when there are global hooks")
        yield


def _copied(example: Any) -> Any:
    """Return an example with copies of its tensors."""
    if isinstance(example, Tensor):
        return example.detach().clone()
    if isinstance(example, Mapping):
        return {name: _copied(part) for name, part in example.items()}
    if type(example) in (tuple, list):
        return type(example)(_copied(part) for part in example)
    return example


def _devices(model: nn.Module) -> list[torch.device]:
    found = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
    return list(found)


def set_modes(model: nn.Module, training: bool, *, dropout: bool = False, batch_norm: bool = False) -> None:
    """Set the mode of every module; of what drops and of batch-norms to training only where it is asked for."""
    for module in model.modules():
        own = dropout if rate_attribute(module) is not None else batch_norm if isinstance(module, _BatchNorm) else True
        module.training = training and own


class Recorder(TorchFunctionMode):
    """Writes down operations and module calls while it is active."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.trace = Trace()
        self._paths: dict[int, str] = {}
        for path, module in model.named_modules():
            self._paths[id(module)] = path
        self._numbers: dict[int, Value] = {}
        self._kept: list[Tensor] = []  # a tensor that is gone could leave its id to another one
        self._open: list[ModuleCall] = []
        self._events = 0
        self._inside_dropout = 0

    def run(self, example_input: Any) -> None:
        """Run the network on the example."""
        self.trace.inputs = [self._new(tensor) for tensor in tensors_in(example_input)]
        before = register_module_forward_pre_hook(self._enter)
        after = register_module_forward_hook(self._leave)
        try:
            with self:
                result = call(self.model, example_input)
        finally:
            before.remove()
            after.remove()
        self.trace.outputs = [n for n in map(self._number, tensors_in(result)) if n is not None]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._inside_dropout:
            return func(*args, **kwargs)
        given = tensors_in((args, kwargs))
        versions = [_version(tensor) for tensor in given]
        reads = tuple(n for n in map(self._number, given) if n is not None)
        result = func(*args, **kwargs)
        made = tensors_in(result)
        if not made or not reads:
            return result
        changed = {id(t) for t, version in zip(given, versions, strict=True) if _version(t) != version}
        same = {id(tensor) for tensor in given}
        fresh = [t for t in made if id(t) not in same or id(t) in changed or "dropout" in operation_name(func)]
        if fresh:
            self._record(operation_name(func), reads, fresh, args, kwargs)
        return result

    def _record(
        self, name: str, reads: tuple[Value, ...], made: list[Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        self._events += 1
        plain = tuple(None if isinstance(arg, Tensor) else arg for arg in args)
        named = {key: arg for key, arg in kwargs.items() if not isinstance(arg, Tensor)}
        module = self._open[-1].path if self._open else ""
        writes = tuple(self._new(tensor) for tensor in made)
        source = _source(sys._getframe(2))
        operation = Operation(name, module, self._events, reads, writes, plain, named, source)
        self.trace.operations.append(operation)

    def _enter(self, module: nn.Module, args: Any) -> None:
        path = self._paths.get(id(module))
        if path is None:
            if is_dropout(module):
                self.trace.strangers.append((type(module).__name__, _source(sys._getframe(1))))
            return
        self._events += 1
        first = args[0] if args and isinstance(args[0], Tensor) else None
        entered = ModuleCall(path, self._events, 0, None if first is None else self._number(first))
        self.trace.calls.append(entered)
        self._open.append(entered)
        self._inside_dropout += is_dropout(module)

    def _leave(self, module: nn.Module, args: Any, result: Any) -> None:
        if id(module) not in self._paths:
            return
        left = self._open.pop()
        self._events += 1
        left.end = self._events
        if is_dropout(module):
            self._inside_dropout -= 1
            if not self._inside_dropout and isinstance(result, Tensor) and left.reads is not None:
                made = (self._new(result),)
                op = Operation("dropout", left.path, self._events, (left.reads,), made, layer=True)
                self.trace.operations.append(op)
        left.writes = self._number(result) if isinstance(result, Tensor) else None

    def _number(self, tensor: Tensor) -> Value | None:
        return self._numbers.get(id(tensor))

    def _new(self, tensor: Tensor) -> Value:
        number = len(self.trace.shapes)
        self._numbers[id(tensor)] = number
        self._kept.append(tensor)
        with torch._C.DisableTorchFunction():
            self.trace.shapes.append(tuple(tensor.shape))
        return number


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists, dicts and dataclasses, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [tensor for part in value.values() for tensor in tensors_in(part)]
    if isinstance(value, tuple | list):
        return [tensor for part in value for tensor in tensors_in(part)]
    if is_dataclass(value) and not isinstance(value, type):
        return tensors_in(vars(value))
    return []


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def operation_name(function: Callable[..., Any]) -> str:
    """Return what torch calls a function, without its module."""
    name = getattr(function, "__name__", "")
    if name in ("fn", "boolean_dispatch"):  # F.max_pool2d and its like have no name of their own
        name = (resolve_name(function) or name).rpartition(".")[2]
    return name


def _source(frame: FrameType | None) -> str:
    """Return file and line of the innermost code that is none of torch's own."""
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(TORCH) and "importlib" not in file:
            return f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
