"""Derivatives of the operators. Only the key and the rate are saved for them, or the output where it tells the mask.

Each function here is linear in its first argument (ReLU + dropout: piecewise), so that its tangent is itself.
"""

from typing import Any

import torch
from torch import Tensor

from dropkit.masks.private_torch import SingleLevelFunction, below_autograd, is_plain
from dropkit.masks.words import AnyKey, Draw

ops = torch.ops.dropkit


class Linear(SingleLevelFunction):
    """An operator f(x, key, *rest) that is linear in x and symmetric: its gradient and its tangent are itself."""

    @staticmethod
    def forward(operator: Any, x: Tensor, key: Tensor, words: Tensor, *rest: bool) -> Any:
        """Compute the operator; `words` is the rate or the deviation."""
        with below_autograd():
            return operator(x, key, words, *rest)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the two small tensors, and the key once more to compare."""
        ctx.operator, _, key, words, *ctx.rest = inputs
        ctx.key = key
        if key.is_cuda:  # a CUDA graph's, which the next step overwrites in place, perhaps before the backward pass
            key = key.clone()
        ctx.save_for_backward(key, words)
        ctx.save_for_forward(key, words)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Mask the gradient as the input was masked."""
        key, words = ctx.saved_tensors
        check_recomputed(ctx.key, key)
        return None, ctx.operator(dy, key, words, *ctx.rest), None, None, *[None] * len(ctx.rest)

    @staticmethod
    def jvp(ctx: Any, _: None, dx: Tensor, *others: None) -> Any:
        """Mask the tangent as the input was masked."""
        key, words = ctx.saved_tensors
        return ctx.operator(dx, key, words, *ctx.rest)


class ReluDrop(SingleLevelFunction):
    """relu_drop: its output is positive exactly where a unit was positive and kept."""

    @staticmethod
    def forward(x: Tensor, key: Tensor, rate: Tensor) -> Any:
        """Compute the operator."""
        with below_autograd():
            return ops.relu_drop(x, key, rate)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the output, which the next layer keeps anyway."""
        ctx.save_for_backward(output, inputs[2])
        ctx.save_for_forward(output, inputs[2])

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, None, None]:
        """Pass the gradient where the output is positive."""
        y, rate = ctx.saved_tensors
        return ops.where_positive(dy, y, rate), None, None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, *_: None) -> Any:
        """Pass the tangent where the output is positive."""
        y, rate = ctx.saved_tensors
        return ops.where_positive(dx, y, rate)


class WherePositive(SingleLevelFunction):
    """where_positive: linear in the gradient, and flat in the output almost everywhere."""

    @staticmethod
    def forward(dy: Tensor, y: Tensor, rate: Tensor) -> Any:
        """Compute the operator."""
        with below_autograd():
            return ops.where_positive(dy, y, rate)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep what tells the places."""
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, ddx: Tensor) -> tuple[Any, None, None]:
        """Pass the second gradient in the same places."""
        return ops.where_positive(ddx, *ctx.saved_tensors), None, None

    @staticmethod
    def jvp(ctx: Any, ddy: Tensor, *_: None) -> Any:
        """Pass the tangent in the same places."""
        return ops.where_positive(ddy, *ctx.saved_tensors)


class DrawnLinear(SingleLevelFunction):
    """`Linear` for tensors that no transform wraps, without the dispatcher: the larger part of a small mask's cost.

    `again` is the operator as a function, `compute` what it computes. The key has been read: no tensor is saved.
    """

    @staticmethod
    def forward(ctx: Any, again: Any, compute: Any, x: Tensor, draw: Draw, words: Tensor, *rest: bool) -> Any:
        """Compute, and keep the numbers that the mask is made of."""
        ctx.again, ctx.draw, ctx.words, ctx.rest = again, draw, words, rest
        return compute(x, draw, words, *rest)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Mask the gradient as the input was masked."""
        return None, None, ctx.again(dy, ctx.draw, ctx.words, *ctx.rest), None, None, *[None] * len(ctx.rest)


class EagerLinear(SingleLevelFunction):
    """The same where somebody watches what is saved, and for keys on a GPU: a recomputation's key can be compared."""

    @staticmethod
    def forward(ctx: Any, again: Any, compute: Any, x: Tensor, key: Tensor, words: Tensor, *rest: bool) -> Any:
        """Compute, and keep the two small tensors."""
        y = compute(x, key, words, *rest)
        ctx.again, ctx.rest, ctx.key = again, rest, key
        ctx.save_for_backward(key.clone() if key.is_cuda else key, words)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Mask the gradient as the input was masked."""
        key, words = ctx.saved_tensors
        check_recomputed(ctx.key, key)
        return None, None, ctx.again(dy, key, words, *ctx.rest), None, None, *[None] * len(ctx.rest)


class EagerReluDrop(SingleLevelFunction):
    """`ReluDrop` in the same way; `gradient` is `where_positive` as a function."""

    @staticmethod
    def forward(ctx: Any, gradient: Any, compute: Any, x: Tensor, key: AnyKey, rate: Tensor) -> Any:
        """Compute, and keep the output."""
        y = compute(x, key, rate)
        ctx.gradient, ctx.rate = gradient, rate
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        """Pass the gradient where the output is positive."""
        (y,) = ctx.saved_tensors
        return None, None, ctx.gradient(dy, y, ctx.rate), None, None


def check_recomputed(given: Tensor, found: Tensor) -> None:
    """Raise if activation checkpointing computed the forward again under another key than the forward's.

    The gradient would be that of another mask. Traced and transformed tensors have no values to compare, and a key on a
    GPU would have to be waited for.
    """
    if found is given or given.is_cuda or not (is_plain(given) and is_plain(found)):
        return
    if not torch.equal(given, found):
        raise RuntimeError(
            f"a forward that was computed again for its backward pass had another key ({found.tolist()}) than at first "
            f"({given.tolist()}: seed, site, step, first sample), so its gradient would be that of another mask: let "
            "the `dropkit.keyed` block enclose forward and backward, and let activation checkpointing preserve the "
            "state of the random generator"
        )
