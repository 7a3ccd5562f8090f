"""The forms in which a network is exported, ONNX and torch's .pt2: its bytes, what is in them, how they are run."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from dropkit.errors import DropkitError, missing_extra

INPUT, OUTPUT = "pictures", "logits"
METADATA = "dropkit.json"
"""The name of the .pt2 file's extra file."""

Metadata = dict[str, Any]  # what JSON holds
Network = Callable[[Tensor], Tensor]

# A .onnx file is one protobuf message, which has a limit; what is not weights is small.
_MOST_ONNX_BYTES = 2**31 - 2**24
_RANDOM_IN_ONNX = frozenset(
    {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_LOGGERS = ("torch.export", "torch.fx", "torch.onnx", "torch._export", "onnx_ir", "onnxscript")


@dataclass(frozen=True)
class Form:
    """One form of a file.

    Attributes:
        require: raises where a package that it needs is missing.
        content: the file's bytes, of a program and the metadata that go with it.
        opened: what is in a file's bytes, by the program that others would run it with.
    """

    require: Callable[[], None]
    content: Callable[[ExportedProgram, Metadata], bytes]
    opened: Callable[[bytes], "Opened"]


@dataclass(frozen=True)
class Opened:
    """A file, read back.

    Attributes:
        network: pictures uint8 [N, C, H, W] -> logits float32 [N, K].
        random: names of its operations that draw random numbers, sorted.
    """

    network: Network
    random: list[str]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep off the terminal what torch and onnxscript tell of their own code; what fails is raised all the same.

    On a failure torch prints the whole program, besides raising.
    """
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


# ---------------------------------------------------------------- .pt2


def random_operations(program: ExportedProgram) -> list[str]:
    """Return the names of a program's operations that draw random numbers or drop units, sorted.

    An operation that could, but is told not to, is none: attention whose dropout is 0, for one.
    """
    graphs = [module for module in program.graph_module.modules() if isinstance(module, torch.fx.GraphModule)]
    found = {str(node.target) for graph in graphs for node in graph.graph.nodes if _draws(node)}
    return sorted(name.removesuffix(".default") for name in found)


def _draws(node: torch.fx.Node) -> bool:
    operator = node.target
    if not isinstance(operator, torch._ops.OpOverload):
        return False
    if operator.namespace == "dropkit":
        return True
    return torch.Tag.nondeterministic_seeded in operator.tags and not _is_told_not_to(node, operator)


def _is_told_not_to(node: torch.fx.Node, operator: torch._ops.OpOverload) -> bool:
    """Whether the arguments say that this is no training, or that nothing is dropped."""
    given: dict[str, Any] = {
        argument.name: argument.default_value for argument in operator._schema.arguments if argument.has_default_value()
    }
    given |= dict(zip((argument.name for argument in operator._schema.arguments), node.args, strict=False))
    given |= node.kwargs
    return any(given.get(name) is False for name in ("train", "training")) or given.get("dropout_p") == 0


def _pt2_content(program: ExportedProgram, metadata: Metadata) -> bytes:
    file = io.BytesIO()
    with quiet():
        torch.export.save(program, file, extra_files={METADATA: json.dumps(metadata)})
    return file.getvalue()


def _opened_by_torch(content: bytes) -> Opened:
    with quiet():
        program = torch.export.load(io.BytesIO(content))
    module = program.module()

    def run(pictures: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = module(pictures)
        return logits

    return Opened(run, random_operations(program))


# ---------------------------------------------------------------- ONNX


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise missing_extra("--to onnx", "export") from None


def _onnx_content(program: ExportedProgram, metadata: Metadata) -> bytes:
    weights = sum(value.nbytes for value in program.state_dict.values())
    if weights > _MOST_ONNX_BYTES:
        raise DropkitError(
            f"a .onnx file holds less than 2 GiB, and the network's weights take {weights / 2**30:.1f}: export it with "
            "--to pt2"
        )
    model = _translated(program).model_proto
    for name, value in metadata.items():
        model.metadata_props.add(key=name, value=value if isinstance(value, str) else json.dumps(value))
    content: bytes = model.SerializeToString()
    return content


def _translated(program: ExportedProgram) -> Any:
    try:
        with quiet():
            return torch.onnx.export(
                program,
                (),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes={INPUT: {0: "batch"}},  # only its name: the program knows that the size is free
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter raises what the operation or onnxscript lead it to
        raise DropkitError(
            f"the network has no form in ONNX ({_first_cause(error)}): export it with --to pt2"
        ) from error


def _first_cause(error: BaseException) -> str:
    """Return the first line of the error that led to all the others."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).partition("\n")[0] or type(error).__name__


def _graphs(model: Any) -> Iterator[Any]:
    """Yield every part of an ONNX model that has nodes: the graph, the functions, and the graphs within."""
    waiting = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        attributes = [attribute for node in graph.node for attribute in node.attribute]
        waiting += [inner for attribute in attributes for inner in (attribute.g, *attribute.graphs) if inner.node]


def random_in_onnx(model: Any) -> list[str]:
    """Return the types of an ONNX model's operations that draw random numbers, sorted."""
    return sorted({node.op_type for graph in _graphs(model) for node in graph.node} & _RANDOM_IN_ONNX)


def _opened_by_onnxruntime(content: bytes) -> Opened:
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(pictures: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: pictures.numpy()})[0])

    return Opened(run, random_in_onnx(onnx.load_model_from_string(content)))


FORMS = {
    "onnx": Form(_require_onnx, _onnx_content, _opened_by_onnxruntime),
    "pt2": Form(lambda: None, _pt2_content, _opened_by_torch),
}
