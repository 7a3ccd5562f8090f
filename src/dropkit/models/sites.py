"""A site: one place in a network where dropout acts, and the layer that acts there."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

# The name under which an inserted layer hangs on its host. A child module follows the host's train() and eval(),
# moves with it, is found by dropkit.keyed and, having no parameters, adds no key to the state dict.
SLOT = "site_dropout"


@dataclass(frozen=True)
class Site:
    """Where dropout can act: the output (or the input) of the module at `path`.

    Attributes:
        role: `input`, `conv`, `fc`, `head` or `path`.
        index: the i-th site of its role, in execution order, from 0.
        path: path of the host module, or of the network's own dropout layer.
        own: True when the module at `path` is a dropout layer that the network has had from the start.
        at_input: True when the layer acts on what the host reads, not on what it returns.
        spatial: True when the activation has channels and space, so that whole channels can be dropped.
        act_path: path of the stage's activation, the place that `@act` names; None when the stage has none.
        made_by: path of the layer whose weights make the activation; None for the network's input.
        read_by: path of the layer whose weights read it.
    """

    role: str
    index: int
    path: str
    own: bool = False
    at_input: bool = False
    spatial: bool = False
    act_path: str | None = None
    made_by: str | None = None
    read_by: str | None = None

    @property
    def name(self) -> str:
        """The site as a policy writes it: `conv[1]`; roles that occur once have no index."""
        return f"{self.role}[{self.index}]" if self.role in ("conv", "fc", "path") else self.role


@runtime_checkable
class HasSites(Protocol):
    """A network that says where dropout can act in it."""

    def dropout_sites(self) -> list[Site]:
        """Return the network's sites in execution order."""
        ...


def attach(host: nn.Module, layer: nn.Module, *, at_input: bool) -> None:
    """Let `layer` act on what `host` returns, or on what it reads."""
    host.add_module(SLOT, layer)
    if at_input:
        host.register_forward_pre_hook(_drop_input)
    else:
        host.register_forward_hook(_drop_output)


# Plain functions that look the layer up on the module they are given: a deep copy of the network then uses its own.
def _drop_input(host: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (host.get_submodule(SLOT)(args[0]), *args[1:])


def _drop_output(host: nn.Module, args: tuple[Any, ...], output: Tensor) -> Any:
    return host.get_submodule(SLOT)(output)
