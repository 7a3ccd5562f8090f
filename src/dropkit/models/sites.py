"""A site: one place in a network where dropout acts."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


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
        made_by: path of the layer whose weights make the activation (the last one, where several do); None for the
            network's input.
        read_by: path of the layer whose weights read it.
        shape: of the activation of one sample, such as (C, H, W); None where the network never ran.
        parameters: the share of the network's parameters that are in the layers which make the activation.
        activations: the share of all sites' units that are this one's.
        before_norm: True when the layer that reads it, or one before that, feeds a batch-norm.
        dropout: what the network itself drops there, such as `unit 0.5 (classifier.2)`; None for nothing.
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
    shape: tuple[int, ...] | None = None
    parameters: float | None = None
    activations: float | None = None
    before_norm: bool | None = None
    dropout: str | None = None

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
