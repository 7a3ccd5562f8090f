"""From what a network computes to the sites where dropout can act in it.

A site is a value that weights read, followed back to where a stage made it: past what only rearranges and past dropout,
to an activation, a pooling, a norm, a sum. Where a module returns that value, the site is that module's output; where
functional code made it, it is the input of the layer that reads it.
"""

from dataclasses import replace
from functools import cached_property
from math import prod

from torch import nn

from dropkit.errors import DropkitError
from dropkit.layers.paths import Residual
from dropkit.layers.relu import ReLUDropout
from dropkit.layers.weights import DropConnect
from dropkit.models import operations as ops
from dropkit.models.graph import Graph
from dropkit.models.own import drops_samples, is_dropout, rate_of
from dropkit.models.sites import Site
from dropkit.models.trace import Operation, Value

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)  # they may call each of their children: none can be added


class Stages(Graph):
    """The sites of a network that has been traced."""

    def sites(self) -> list[Site]:
        """Return the sites, in execution order.

        Raises:
            DropkitError: if the example was one sample without a batch.
        """
        self._require_batch()
        found: dict[tuple[Value, str], Site] = {}
        for reader in self.weights:
            for value, site in self._read_by(reader):
                # What functional code made is dropped where it is read: by each reader.
                found.setdefault((value, site.path if site.at_input else ""), site)
        for value, site in self._branches():
            found.setdefault((value, "path"), site)
        ordered = [site for _, site in sorted(found.items(), key=lambda entry: entry[0][0])]
        return _numbered(self._with_shares(ordered))

    def _require_batch(self) -> None:
        for op in self.weights[:1]:
            shape = self.trace.shapes[op.reads[0]]
            if len(shape) < ops.batched_dimensions(op):
                raise DropkitError(
                    f"the example is one sample: the first layer with weights reads {list(shape)}, without a batch. "
                    "Give a batch, such as example.unsqueeze(0)"
                )

    # What reads

    def _read_by(self, reader: Operation) -> list[tuple[Value, Site]]:
        """Return the sites that a weight layer reads, each with the value that it is about."""
        value = self._value_read(reader)
        if not self.makers(value):
            return self._input(reader)
        if value in self.pooled and not self.is_tail(reader):
            return []  # within a gate, as of squeeze and excitation
        # What a convolution reads has its layout; before a fully connected layer maps are flattened.
        stage = self.behind_dropout(value) if ops.is_convolution(reader) else self.behind(value)
        chain = self.chain(stage)
        maker = chain[-1] if chain and ops.has_weights(chain[-1]) else None
        hidden = maker is not None and maker.name == "linear" and any(map(ops.is_activation, chain))
        whole = next((op.reads[0] for op in chain if self.pools_all(op)), None)
        terminal = self.is_terminal(reader)
        found = []
        if whole is not None and self.is_tail(reader):
            found.append((self.behind(whole), "conv"))
        if hidden:
            found.append((stage, "fc"))
        elif terminal and not self.is_spatial(stage):
            found.append((stage, "head"))
        elif whole is None and (ops.is_convolution(reader) or self.is_spatial(stage)):
            found.append((stage, "conv"))
        placed = [(value, self._place(value, role, reader)) for value, role in found]
        return [(value, site) for value, site in placed if site is not None]

    def _value_read(self, reader: Operation) -> Value:
        """Return the value that a weight layer reads; where its module pads it first, what the module reads."""
        value, call = reader.reads[0], self.single.get(reader.module)
        inside = call is not None and call.reads is not None and call.begin < self.time(value)
        return call.reads if call is not None and call.reads is not None and inside else value

    def _input(self, reader: Operation) -> list[tuple[Value, Site]]:
        value = self._value_read(reader)
        host = self._sole_reader(value)
        if host is None and self._can_host("", value):
            host = ""  # several read it, in the network's own code
        if host is None or value not in self._first_values:
            return []
        read_by = self._weight_path(reader)
        where = Site("input", 0, host, at_input=True, spatial=self.is_spatial(value), read_by=read_by)
        shape, before_norm = self.shape(value), self.before_norm(value)
        return [
            (value, replace(where, shape=shape, parameters=0.0, before_norm=before_norm, dropout=self._own(value)[1]))
        ]

    @cached_property
    def _first_values(self) -> set[Value]:
        """The value that the first weights read."""
        first = [self._value_read(op) for op in self.weights if not self.makers(op.reads[0])]
        return set(first[:1])

    # Residual branches

    def _branches(self) -> list[tuple[Value, Site]]:
        """Return the residual branches: what is added to the value, or the projection of it, from which it comes."""
        found = []
        for op in self.trace.operations:
            if not ops.is_add(op):
                continue
            if isinstance(self.modules[op.module], Residual):
                found.append(self._residual(op))
            elif (branch := self._branch(op)) is not None:
                found += self._placed_branch(branch)
        return found

    def _placed_branch(self, branch: Value) -> list[tuple[Value, Site]]:
        """Return the site of a branch. Samples may as well be dropped before it is scaled."""
        site = self._place(branch, "path", None)
        made = self.made.get(branch)
        if site is None and made is not None and ops.is_scaling(made):
            return self._placed_branch(made.reads[0])
        return [] if site is None else [(branch, site)]

    def _residual(self, addition: Operation) -> tuple[Value, Site]:
        """Return the site of dropkit's own residual block."""
        block = self.modules[addition.module]
        assert isinstance(block, Residual)
        value = addition.writes[0]
        described = f"Residual {block.p:g} ({addition.module})" if block.p else None
        shape, spatial = self.shape(value), self.is_spatial(value)
        return value, Site("path", 0, addition.module, own=True, spatial=spatial, shape=shape, dropout=described)

    def _branch(self, addition: Operation) -> Value | None:
        """Return which of two added values is the residual branch; None for other sums."""
        one, two = dict.fromkeys(addition.reads)
        if self.trace.shapes[one] != self.trace.shapes[two] or len(self.trace.shapes[one]) < 3:
            return None
        before = {value: self.before(value) for value in (one, two)}
        forks = ({one} | before[one]) & ({two} | before[two])
        if not forks:
            return None
        fork = max(forks)
        made = [sum(op.begin > self.time(fork) for op in self.weights_before(value, fork)) for value in (one, two)]
        if made[0] == made[1]:
            return None
        return one if made[0] > made[1] else two

    # Where layers can hang

    def _place(self, value: Value, role: str, reader: Operation | None) -> Site | None:
        """Return the site of a value; None where no module returns it and none reads it."""
        makers = self.makers(value)
        shape = self.shape(value)
        end = value if reader is None else self._value_read(reader)
        own, described = self._own(end)
        if own is not None and drops_samples(self.modules[own]) != (role == "path"):
            own = None
        if own is not None and self._reads_as_it_is(own, shape):
            path, at_input = own, False
        elif (host := self._output_host(value)) is not None:
            path, at_input = host, False
        elif (host := self._input_host(value, end, reader)) is not None:
            path, at_input = host, True
        elif (host := self._output_host(value, of_dropout=True)) is not None:
            path, at_input = host, False
        else:
            return None
        return Site(
            role,
            0,
            path,
            path == own,
            at_input,
            self.is_spatial(value),
            act_path=self._activation_host(value) if role == "conv" else None,
            made_by=self._weight_path(makers[-1]) if makers else None,
            read_by=None if reader is None else self._weight_path(reader),
            shape=shape,
            parameters=self._parameters(makers),
            before_norm=self.before_norm(value),
            dropout=described,
        )

    def _reads_as_it_is(self, path: str, shape: tuple[int, ...]) -> bool:
        """Whether a dropout layer reads a stage's output in its own shape, neither flattened nor pooled."""
        read = self.single[path].reads
        return read is not None and self.shape(read) == shape

    def _output_host(self, value: Value, *, of_dropout: bool = False) -> str | None:
        """Return the innermost module (or dropout layer) that returns a value before anything reads it."""
        readers = [op.begin for op in self.read.get(value, [])]
        calls = [
            call
            for call in self.single.values()
            if call.writes == value
            and self._is_host(call.path, of_dropout=of_dropout)
            and all(begin > call.end for begin in readers)
        ]
        making = [call for call in calls if call.begin < self.time(value)] or calls
        return max(making, key=lambda call: call.begin).path if making else None

    def _input_host(self, value: Value, end: Value, reader: Operation | None) -> str | None:
        """Return the module that reads a value first; where others read it too, the reader itself."""
        if reader is None:
            return None
        # Else a pooling lies between, and the reader's input is another activation.
        direct = value in (self.behind(end), self.behind_dropout(end))
        for read in dict.fromkeys((value, end) if direct else (value,)):
            if (host := self._sole_reader(read)) is not None:
                return host
        return reader.module if direct and self._can_host(reader.module, self._value_read(reader)) else None

    def _sole_reader(self, value: Value) -> str | None:
        """Return the outermost module that reads a value first, if everything else that reads it is inside."""
        begins = [op.begin for op in self.read.get(value, [])]
        calls = [
            call
            for call in self.single.values()
            if call.reads == value and self._is_host(call.path) and all(call.begin < b < call.end for b in begins)
        ]
        return min(calls, key=lambda call: call.begin).path if calls else None

    def _can_host(self, path: str, value: Value) -> bool:
        """Whether a module, perhaps the network itself, reads a value first."""
        fits = self._is_host(path) if path else not isinstance(self.model, _CONTAINERS)
        return path in self.single and self.single[path].reads == value and fits

    def _is_host(self, path: str, *, of_dropout: bool = False) -> bool:
        module = self.modules[path]
        return path != "" and not isinstance(module, _CONTAINERS) and is_dropout(module) == of_dropout

    def _activation_host(self, value: Value) -> str | None:
        """Return the module that returns a stage's activation."""
        activation = next((op for op in self.chain(value) if ops.is_activation(op)), None)
        return None if activation is None else self._output_host(activation.writes[0])

    def _weight_path(self, operation: Operation) -> str | None:
        """Return the module whose weights an operation uses; None where functional code has them."""
        return operation.module if operation.module in self.single else None

    def _own(self, value: Value) -> tuple[str | None, str | None]:
        """Return the path of the network's own dropout layer in the chain that makes a value, and what drops there."""
        dropped = [op for op in self.chain(value) if ops.is_dropout(op) or self._drops_too(op)]
        layers = [op.module for op in dropped if op.layer and op.module in self.single]
        if not dropped:
            return None, None
        op = dropped[0]
        if op.layer or self._drops_too(op):
            module = self.modules[op.module]
            text = f"{type(module).__name__} {rate_of(module):g} ({op.module})"
        else:
            text = f"{op.name} {ops.argument(op, 1, 'p', 0.5)} in {op.module or 'forward'}"
        return (layers[0] if layers else None), text

    def _drops_too(self, operation: Operation) -> bool:
        """Whether it is in a layer that drops and does something else besides."""
        module = self.modules[operation.module]
        return isinstance(module, ReLUDropout | DropConnect) and module.p > 0

    # Shares

    def _parameters(self, makers: list[Operation]) -> float:
        total = sum(parameter.numel() for parameter in self.model.parameters()) or 1
        own = {id(p): p.numel() for op in makers for p in self.modules[op.module].parameters(recurse=False)}
        return float(sum(own.values()) / total)

    def _with_shares(self, sites: list[Site]) -> list[Site]:
        total = sum(prod(site.shape or ()) for site in sites) or 1
        return [replace(site, activations=prod(site.shape or ()) / total) for site in sites]


def _numbered(sites: list[Site]) -> list[Site]:
    """Return the sites with the index of each among those of its role."""
    counts: dict[str, int] = {}
    numbered = []
    for site in sites:
        counts[site.role] = counts.get(site.role, -1) + 1
        numbered.append(replace(site, index=counts[site.role]))
    return numbered
