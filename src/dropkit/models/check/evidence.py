"""What is observed of a network, once, for all rules."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dropkit.errors import DropkitError
from dropkit.models.check.directed import Directed
from dropkit.models.check.finding import Finding
from dropkit.models.check.passes import Pass, run_pass
from dropkit.models.check.untouched import Snapshot, generators, generators_kept
from dropkit.models.own import rate_attribute
from dropkit.models.stages import Stages
from dropkit.models.trace import Trace, cannot_run, refuse_untraceable, set_modes, trace


class Evidence:
    """A network, an example of its input, and what it does with it.

    Everything is observed when a rule first asks for it. The network is the same afterwards.

    Args:
        model: the network; of one wrapped by DistributedDataParallel or torch.compile, what is within.
        example_input: a tensor; a tuple of positional or a dict of named arguments. It is copied.

    Attributes:
        gradients_on: whether torch recorded operations for gradients when the evidence was begun.
        generator_states: those of the generators that masks are drawn from, at that time.

    Raises:
        DropkitError: when the network cannot run on the example.
    """

    def __init__(self, model: nn.Module, example_input: Any) -> None:
        model = _within(model)
        refuse_untraceable(model)
        if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
            raise DropkitError(
                f"{type(model).__name__} is on the meta device, where nothing is computed: build it on a device, such "
                "as the CPU, or bring it there (model.to_empty(device='cpu')) and give it weights"
            )
        self.model = model
        self.example_input = copied(example_input)
        self.modules = dict(model.named_modules())
        self.gradients_on = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        self.generator_states = [generator.get_state() for generator in generators(model)]

    @cached_property
    def training(self) -> Trace:
        """What it computes in training mode (in eval mode where it cannot run in training mode)."""
        return self._traced(None)

    @cached_property
    def evaluation(self) -> Trace:
        """What it computes in eval mode."""
        return self._traced(False)

    def _traced(self, training: bool | None) -> Trace:
        with self.put_back():
            return trace(self.model, self.example(), training=training)

    @cached_property
    def stages(self) -> Stages:
        """Who makes and who reads each value of the training trace."""
        return Stages(self.model, self.training)

    @cached_property
    def live(self) -> Trace | None:
        """What it computes in training mode while its dropout acts; None where that fails.

        A layer that acts returns a tensor of its own, so it shows who reads a layer's result and who its input.
        """
        run = Directed(self.model, lambda number: "as it is")
        try:
            with self.put_back(), torch.no_grad():
                set_modes(self.model, True, dropout=True)
                run.run(self.example())
        except Exception:  # a network's code may raise anything; that it cannot run is said elsewhere
            return None
        return run.trace

    @cached_property
    def live_stages(self) -> Stages:
        """Who makes and who reads each value of the live trace.

        Raises:
            DropkitError: when there is none.
        """
        if self.live is None:
            raise DropkitError("the network does not run in training mode with its dropout on: mend that first")
        return Stages(self.model, self.live)

    @cached_property
    def doubled(self) -> Trace | None:
        """The training trace of an example twice as long in dimension 0; None where that fails or runs otherwise."""
        try:
            with self.put_back():
                found = trace(self.model, copied(self.example_input, twice=True), training=self.training.training)
        except DropkitError:
            return None
        same = [op.name for op in found.operations] == [op.name for op in self.training.operations]
        return found if same else None

    @cached_property
    def evaluated(self) -> tuple[Pass, Pass]:
        """Two passes after `model.eval()`, whose generators had different seeds."""
        return self.run_pass(training=False, seed=1), self.run_pass(training=False, seed=2)

    @cached_property
    def trained(self) -> Pass:
        """A pass after `model.train()`."""
        return self.run_pass(training=True, seed=1)

    def run_pass(self, *, training: bool, seed: int) -> Pass:
        """Run the network as its user does, after `model.train()` or `model.eval()`."""
        with self.put_back():
            done = run_pass(self.model, self.example(), training=training, seed=seed)
        if done.failure is not None and not training:
            raise cannot_run(self.model, self.example_input, done.failure, "eval")
        return done

    @cached_property
    def rates(self) -> dict[str, float]:
        """The rate of each layer that drops, by its path. A rate that is no number is left out."""
        found = {path: number(given) for path, given in self.given_rates.items()}
        return {path: rate for path, rate in found.items() if rate is not None}

    @cached_property
    def given_rates(self) -> dict[str, Any]:
        """What stands where the rate of each layer that drops is kept, by its path."""
        attributes = {path: rate_attribute(module) for path, module in self.modules.items()}
        return {path: getattr(self.modules[path], name) for path, name in attributes.items() if name is not None}

    def place(self, path: str) -> str:
        """Return how a finding names a module: by its path; the network itself by its class."""
        return path or type(self.model).__name__

    def example(self) -> Any:
        """Return a fresh copy of the example: a network may write into its input."""
        return copied(self.example_input)

    @cached_property
    def _snapshot(self) -> Snapshot:
        return Snapshot(self.model)

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """Put everything of the network and the generators back after the block, whatever happens in it."""
        snapshot = self._snapshot
        with generators_kept(self.model):
            snapshot.clear_gradients()
            try:
                yield
            finally:
                snapshot.restore()


Rule = Callable[[Evidence], Iterator[Finding]]


def number(given: Any) -> float | None:
    """Return a rate as a number; None where it is none."""
    if given is None:  # some of timm's layers have it for 0
        return 0.0
    if isinstance(given, str):
        return None
    try:
        return float(given)
    except (TypeError, ValueError):
        return None


def copied(example: Any, *, twice: bool = False) -> Any:
    """Return a copy of an example whose tensors belong to no graph, or two of it one after the other."""
    if isinstance(example, Tensor):
        return torch.cat([example.detach()] * 2) if twice and example.dim() else example.detach().clone()
    if isinstance(example, Mapping):
        return {name: copied(part, twice=twice) for name, part in example.items()}
    if isinstance(example, tuple | list):
        parts = [copied(part, twice=twice) for part in example]
        return type(example)(*parts) if hasattr(example, "_fields") else type(example)(parts)
    return example


def _within(model: nn.Module) -> nn.Module:
    """Return the network within its wrappers.

    A pass of DistributedDataParallel may wait for other processes, and compiled code cannot be followed.
    """
    while True:
        if isinstance(model, DistributedDataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model
