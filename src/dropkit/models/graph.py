"""What a network computed, as a graph: who makes a value, who reads it, and the ways between."""

from functools import cached_property
from math import prod

from torch import nn

from dropkit.models import operations as ops
from dropkit.models.trace import ModuleCall, Operation, Trace, Value


class Graph:
    """A trace, with the ways through it.

    Args:
        model: the network.
        trace: what it computed.
    """

    def __init__(self, model: nn.Module, trace: Trace) -> None:
        self.model = model
        self.trace = trace
        self.modules = dict(model.named_modules())
        self.made: dict[Value, Operation] = {}
        self.read: dict[Value, list[Operation]] = {}
        for operation in trace.operations:
            self.made.update(dict.fromkeys(operation.writes, operation))
            for value in set(operation.reads):
                self.read.setdefault(value, []).append(operation)
        self.weights = [operation for operation in trace.operations if ops.has_weights(operation)]
        counted: dict[str, list[ModuleCall]] = {}
        for call in trace.calls:
            counted.setdefault(call.path, []).append(call)
        self.single = {path: calls[0] for path, calls in counted.items() if len(calls) == 1}

    def behind(self, value: Value) -> Value:
        """Follow a value back past dropout and what only rearranges."""
        while (op := self.made.get(value)) is not None and (ops.is_view(op) or ops.is_dropout(op)):
            value = op.reads[0]
        return value

    def chain(self, value: Value) -> list[Operation]:
        """Return the operations that made a value, one after the other, back to a weight layer or to a join."""
        chain = []
        while (op := self.made.get(value)) is not None:
            sources = self.sources(op)
            if len(sources) != 1:
                break
            chain.append(op)
            if ops.has_weights(op):
                break
            value = sources[0]
        return chain

    def sources(self, operation: Operation) -> list[Value]:
        """Return the values that an operation works on; of a map and its gate, the map."""
        values = list(dict.fromkeys(operation.reads))
        if ops.is_product(operation) and len(values) == 2:
            sizes = [prod(self.trace.shapes[value]) for value in values]
            if sizes[0] != sizes[1]:
                return [values[sizes.index(max(sizes))]]
        return values

    def makers(self, value: Value) -> list[Operation]:
        """Return the weight layers from which a value comes without further weights between."""
        found, waiting, seen = {}, [value], {value}
        while waiting:
            op = self.made.get(waiting.pop())
            if op is None:
                continue
            if ops.has_weights(op):
                found[op.begin] = op
                continue
            fresh = [source for source in self.sources(op) if source not in seen]
            seen.update(fresh)
            waiting += fresh
        return [found[begin] for begin in sorted(found)]

    def after(self, value: Value) -> list[Operation]:
        """Return every operation that depends on a value."""
        found, waiting = {}, [value]
        while waiting:
            for op in self.read.get(waiting.pop(), []):
                if op.begin not in found:
                    found[op.begin] = op
                    waiting += op.writes
        return list(found.values())

    def is_terminal(self, reader: Operation) -> bool:
        """Whether no weights read what comes of a weight layer: it is a classifier."""
        return not any(ops.has_weights(op) for op in self.after(reader.writes[0]))

    def is_tail(self, reader: Operation) -> bool:
        """Whether no feature map comes of a layer any more."""
        after = self.after(reader.writes[0])
        return not any(ops.is_convolution(op) or self._is_gate(op) for op in after)

    def _is_gate(self, operation: Operation) -> bool:
        return ops.is_product(operation) and len(self.sources(operation)) == 1

    def pools_all(self, operation: Operation) -> bool:
        """Whether an operation takes one number from each whole feature map."""
        before, after = (self.trace.shapes[v[0]] for v in (operation.reads, operation.writes))
        return ops.pools_all(operation, before, after)

    @cached_property
    def pooled(self) -> set[Value]:
        """The values that hold one number of each whole map."""
        found: set[Value] = set()
        for op in self.trace.operations:
            if self.pools_all(op) or all(value in found for value in op.reads):
                found.update(op.writes)
        return found

    def before_norm(self, value: Value) -> bool:
        """Whether a batch-norm follows, with at most one weight layer between."""
        waiting, seen = [(value, 0)], {(value, 0)}
        while waiting:
            current, passed = waiting.pop()
            for op in self.read.get(current, []):
                if ops.is_batch_norm(op):
                    return True
                through = passed + ops.has_weights(op)
                if through > 1 or ops.is_norm(op):
                    continue
                fresh = {(written, through) for written in op.writes} - seen
                seen |= fresh
                waiting += fresh
        return False

    def before(self, value: Value) -> set[Value]:
        """Return every value that a value depends on."""
        return self._ancestors.setdefault(value, self._find_before(value))

    @cached_property
    def _ancestors(self) -> dict[Value, set[Value]]:
        return {}

    def _find_before(self, value: Value) -> set[Value]:
        found: set[Value] = set()
        waiting = [value]
        while waiting:
            op = self.made.get(waiting.pop())
            fresh = [] if op is None else [source for source in op.reads if source not in found]
            found.update(fresh)
            waiting += fresh
        return found

    def weights_before(self, value: Value, fork: Value) -> list[Operation]:
        """Return the operations with weights on the ways from one value to another."""
        found, waiting, seen = {}, [value], {value}
        while waiting:
            current = waiting.pop()
            op = self.made.get(current)
            if op is None or current == fork:
                continue
            if ops.has_weights(op) or op.name == "multi_head_attention_forward":
                found[op.begin] = op
            fresh = [source for source in op.reads if source not in seen and source >= fork]
            seen.update(fresh)
            waiting += fresh
        return list(found.values())

    def time(self, value: Value) -> int:
        """Return when a value was made; 0 for one that the network was given."""
        return self.made[value].begin if value in self.made else 0

    def behind_dropout(self, value: Value) -> Value:
        """Follow a value back past dropout."""
        while (op := self.made.get(value)) is not None and ops.is_dropout(op):
            value = op.reads[0]
        return value

    def is_spatial(self, value: Value) -> bool:
        """Whether a value has channels and space, in this order: it is what a convolution makes, or what one reads."""
        if len(self.trace.shapes[value]) < 3 or value in self.pooled:
            return False
        return self._meets_convolution(value, ahead=False) or self._meets_convolution(value, ahead=True)

    def _meets_convolution(self, value: Value, *, ahead: bool) -> bool:
        """Whether a convolution is met on the way back, or ahead, before weights or a change of layout."""
        waiting, seen = [value], {value}
        while waiting:
            current = waiting.pop()
            made = [self.made[current]] if current in self.made else []
            for op in self.read.get(current, []) if ahead else made:
                if ops.is_convolution(op):
                    return True
                if ops.has_weights(op) or ops.is_view(op) or op.name == "__getitem__":
                    continue
                fresh = [found for found in (op.writes if ahead else self.sources(op)) if found not in seen]
                seen.update(fresh)
                waiting += fresh
        return False

    def shape(self, value: Value) -> tuple[int, ...]:
        """Return the shape of one sample of a value."""
        return self.trace.shapes[value][1:]
