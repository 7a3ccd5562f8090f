"""Which of torch's operations have weights, normalise, activate, pool, or only rearrange."""

from typing import Any

from dropkit.models.trace import Operation

_NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm")
_ACTIVATIONS = {
    *("relu", "relu6", "hardtanh", "gelu", "silu", "hardswish", "leaky_relu", "elu", "selu", "celu", "prelu", "rrelu"),
    *("mish", "softplus", "tanh", "sigmoid", "hardsigmoid", "softsign", "threshold", "relu_", "glu"),
}
_VIEWS = {
    *("flatten", "reshape", "view", "permute", "transpose", "squeeze", "unsqueeze", "contiguous", "clone", "to"),
    *("type_as", "float", "half", "bfloat16", "swapaxes", "movedim", "reshape_as", "view_as", "unflatten", "ravel"),
}
_PRODUCTS = {"mul", "__mul__", "__rmul__", "__imul__", "multiply"}
_REDUCTIONS = {"mean", "amax", "max", "sum"}


def plain(name: str) -> str:
    """Return an operation's name without the mark of the operations in place: `relu_` is relu."""
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def has_weights(operation: Operation) -> bool:
    """Whether it is a convolution or a fully connected layer."""
    return is_convolution(operation) or operation.name in ("linear", "bilinear")


def is_convolution(operation: Operation) -> bool:
    """Whether it is a convolution, transposed or not."""
    return operation.name.startswith(("conv1d", "conv2d", "conv3d", "conv_transpose"))


def strides_over(operation: Operation, shape: tuple[int, ...]) -> bool:
    """Whether a convolution's stride is wider than the maps [N, C, ...] that it reads."""
    stride = argument(operation, 3, "stride", 1)
    sides = shape[2:]
    strides = stride if isinstance(stride, tuple | list) else (stride,) * len(sides)
    return any(step > side for step, side in zip(strides, sides, strict=False))


def batched_dimensions(operation: Operation) -> int:
    """Return how many dimensions a batch has, at least, that a convolution or fully connected layer reads."""
    return 2 + int(operation.name.partition("d")[0][-1]) if is_convolution(operation) else 2


def is_norm(operation: Operation) -> bool:
    """Whether it normalises."""
    return plain(operation.name) in _NORMS


def is_batch_norm(operation: Operation) -> bool:
    """Whether it normalises by statistics of the batch."""
    return operation.name == "batch_norm"


def is_activation(operation: Operation) -> bool:
    """Whether it is an activation function."""
    return plain(operation.name) in _ACTIVATIONS


def is_view(operation: Operation) -> bool:
    """Whether it only rearranges, or changes the type."""
    return plain(operation.name) in _VIEWS


def is_dropout(operation: Operation) -> bool:
    """Whether it drops."""
    return "dropout" in operation.name


def is_add(operation: Operation) -> bool:
    """Whether it adds two values."""
    return plain(operation.name) in ("add", "__add__", "__radd__", "__iadd__") and len(set(operation.reads)) == 2


def is_scaling(operation: Operation) -> bool:
    """Whether it multiplies a value by a number or by parameters."""
    return plain(operation.name) in _PRODUCTS and len(operation.reads) == 1


def is_product(operation: Operation) -> bool:
    """Whether it multiplies two values."""
    return plain(operation.name) in _PRODUCTS and len(operation.reads) == 2


def pools_all(operation: Operation, before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether it takes one number from each whole feature map."""
    name = plain(operation.name)
    if not (name in _REDUCTIONS or "pool" in name) or len(before) < 3 or len(after) < 2:
        return False
    return after[:2] == before[:2] and all(side == 1 for side in after[2:])


def argument(operation: Operation, position: int, name: str, default: Any = None) -> Any:
    """Return an argument of an operation, given by place or by name."""
    if name in operation.kwargs:
        return operation.kwargs[name]
    return operation.args[position] if len(operation.args) > position else default
