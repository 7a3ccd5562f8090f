"""A run's network as one file that other programs run, without dropkit: a checked file, or none."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

import dropkit
from dropkit.errors import DropkitError, unknown
from dropkit.files import write_atomic
from dropkit.models.zoo import first_line
from dropkit.runs.export_forms import FORMS, INPUT, OUTPUT, Form, Metadata, Network, quiet, random_operations
from dropkit.runs.reread import reread_test_pictures
from dropkit.runs.run import Run

PICTURES = 64
BATCH = 32  # beside batches of one picture and of what is left over: three sizes
TOLERANCE = 1e-4  # of the largest logit: float32 has 7 digits, and deep networks lose two or three to another order


@dataclass(frozen=True)
class Exported:
    """A file that was written, and what its check found.

    Attributes:
        file: where it is.
        form: `onnx` or `pt2`.
        run: the folder of the run whose network it holds.
        shape: (C, H, W) of the pictures that it takes.
        classes: K, the length of the logits.
        size: of the file, in bytes.
        pictures: how many it was checked on.
        real: whether these are the run's test pictures; else they are random.
        difference: the largest between a logit of the file and the network's.
        allowed: the largest difference with which the file would have been kept.
    """

    file: Path
    form: str
    run: Path
    shape: tuple[int, int, int]
    classes: int
    size: int
    pictures: int
    real: bool
    difference: float
    allowed: float

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain JSON values."""
        return {**vars(self), "file": str(self.file), "run": str(self.run), "shape": list(self.shape)}

    def __str__(self) -> str:
        """Say what was written, and how near it comes to the network."""
        which = "test pictures of the run" if self.real else "random pictures"
        why = "" if self.real else "; the run's test pictures are not where they were"
        shape = ", ".join(map(str, self.shape))
        return (
            f"{self.file}: {_in_words(self.size)}\n"
            f"input {INPUT}: uint8 [N, {shape}], 0 to 255, not normalised; output {OUTPUT}: [N, {self.classes}]; "
            "no dropout\n"
            f"checked on {self.pictures} {which}: logits within {self.difference:.1e} of the "
            f"network's, where {self.allowed:.1e} is allowed{why}"
        )


def export_run(run: Run, *, to: str = "onnx", out: str | Path | None = None) -> Exported:
    """Write a run's network, with the weights of its best epoch, into one file, and check it before it is kept.

    The file takes pictures uint8 [N, C, H, W] of any number N and gives logits [N, K], as the network does in eval
    mode. Normalisation is inside; dropout is gone. It must hold no random operation, and its logits must equal the
    network's, in float32 and for several N, to within 1e-4 of the largest logit. Otherwise nothing is written, and a
    file that is there already stays.

    Args:
        run: a finished run.
        to: `onnx`, which needs the extra `export`, or `pt2`, which torch alone reads (`torch.export.load`).
        out: the file, which ends with .onnx or .pt2, in a folder that is there; `model.onnx` or `model.pt2` in the
            run's folder when not given. One that is there is replaced.

    Raises:
        DropkitError: if the run has no network, the network cannot be exported, the check fails, or the file cannot be
            written.

    Example:
        >>> import tempfile
        >>> from dropkit.runs.config import TrainConfig
        >>> from dropkit.runs.training import train
        >>> run = train(TrainConfig(data="digits", model="mlp", epochs=1, out=tempfile.mkdtemp()), progress=False)
        >>> exported = export_run(run, to="pt2")
        >>> exported.file.name, exported.shape, exported.pictures
        ('model.pt2', (1, 8, 8), 64)
    """
    if to not in FORMS:
        raise unknown("form", to, FORMS)
    form = FORMS[to]
    form.require()
    file = _place(run, to, out)
    if run.summary["test"] is None:
        raise DropkitError(f"the run in {str(run.folder)!r} diverged before an epoch was finished: it has no network")
    data = run.summary["data"]
    shape = (data["shape"][0], data["shape"][1], data["shape"][2])
    found = reread_test_pictures(run, PICTURES)
    pictures = _random_pictures(shape) if found is None else found
    network = run.model().requires_grad_(False)
    mean, std = (torch.tensor(data[name]).view(-1, 1, 1) for name in ("mean", "std"))
    try:
        expected = expected_logits(network, (pictures.float() - mean) / std)
        content, opened = written_and_opened(PictureNetwork(network, mean, std), shape, form, _metadata(run))
        difference, allowed = compare(opened, pictures, expected)
    except DropkitError as error:
        raise DropkitError(f"{error}. Nothing was written") from error
    _write(file, content)
    sizes = {"size": len(content), "pictures": len(pictures), "classes": data["classes"]}
    return Exported(
        file, to, run.folder, shape, real=found is not None, difference=difference, allowed=allowed, **sizes
    )


class PictureNetwork(nn.Module):
    """A network with the normalisation of its pictures inside.

    Args:
        network: normalised pictures [N, C, H, W] -> logits [N, K]; it is put into eval mode.
        mean: [C, 1, 1], of values from 0 to 255. Where it has three channels, a grey picture becomes a coloured one.
        std: [C, 1, 1], by which the values are then divided.

    Shape: uint8 [N, C, H, W] -> float32 [N, K].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.eval()

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the logits [N, K] of pictures uint8 [N, C, H, W]."""
        return self.network((pictures.float() - self.mean) / self.std)  # type: ignore[no-any-return]


def written_and_opened(
    network: nn.Module, shape: tuple[int, int, int], form: Form, metadata: Metadata
) -> tuple[bytes, Network]:
    """Return the file's bytes for a network of pictures uint8 [N, *shape], and what is read back from them.

    Raises:
        DropkitError: if it cannot be exported, draws random numbers, or cannot be read back.
    """
    program = traced(network, shape)
    _refuse_random(random_operations(program))  # a form that has no such operations would say something else
    content = form.content(program, metadata)
    try:
        opened = form.opened(content)
    except Exception as error:  # the program that reads the file raises its own
        raise DropkitError(f"the file cannot be read back ({first_line(error)})") from error
    _refuse_random(opened.random)
    return content, opened.network


def traced(network: nn.Module, shape: tuple[int, int, int]) -> ExportedProgram:
    """Return a network of pictures uint8 [N, *shape] as a program of torch's operations, for any N.

    Raises:
        DropkitError: if torch cannot follow its code.
    """
    example = torch.zeros(2, *shape, dtype=torch.uint8)
    try:
        with quiet():
            followed = torch.export.export(network, (example,), dynamic_shapes={INPUT: {0: Dim("batch")}})
            # Dropout that is off becomes nothing.
            program: ExportedProgram = followed.run_decompositions({})
    except Exception as error:  # torch raises what the network's own code leads it to
        raise DropkitError(
            f"the network cannot be exported: torch cannot follow its code ({first_line(error)}). Its "
            "forward may neither branch on values nor fix the number of pictures"
        ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names folders of this machine, and would be in the file
    return program


def _refuse_random(operations: list[str]) -> None:
    if operations:
        raise DropkitError(
            f"the network draws random numbers in eval mode too ({', '.join(operations)}), and a file that does can "
            "equal nothing: `dropkit check` says where it does"
        )


def expected_logits(network: nn.Module, normalised: Tensor) -> list[Tensor]:
    """Return the network's logits of each batch of normalised pictures [n, C, H, W].

    Raises:
        DropkitError: if one is not finite: nothing could be compared with it.
    """
    with torch.no_grad():
        logits: list[Tensor] = [network(part) for part in in_batches(normalised)]
    if not all(batch.isfinite().all() for batch in logits):
        raise DropkitError("the network's own logits are not all finite: train it again, with a lower --lr")
    return logits


def compare(file: Network, pictures: Tensor, expected: list[Tensor]) -> tuple[float, float]:
    """Return (largest difference, largest that is allowed) between a file's logits and those that are expected.

    Args:
        file: the network as it was read back.
        pictures: uint8 [n, C, H, W].
        expected: the logits of each batch of them.

    Raises:
        DropkitError: if they differ by more, or the file cannot be run on one of the batches.
    """
    allowed = TOLERANCE * max(1.0, *(batch.abs().max().item() for batch in expected))
    difference = 0.0
    for part, wanted in zip(in_batches(pictures), expected, strict=True):
        try:
            found = file(part)
        except Exception as error:  # the program that reads the file raises its own
            raise DropkitError(f"the file cannot be run on a batch of {len(part)} ({first_line(error)})") from error
        if found.shape != wanted.shape:
            raise DropkitError(f"the file's logits are {list(found.shape)}, the network's {list(wanted.shape)}")
        gap = (found - wanted).abs().max().item()
        if not gap <= allowed:  # a gap that is NaN is none that is allowed
            raise DropkitError(
                f"the file's logits differ from the network's by {gap:.1e}, where {allowed:.1e} is allowed: the "
                "network is not the same from call to call, or not for every number of pictures"
            )
        difference = max(difference, gap)
    return difference, allowed


def in_batches(pictures: Tensor) -> list[Tensor]:
    """Return the first picture alone, and the others in batches."""
    return [pictures[:1], *pictures[1:].split(BATCH)] if len(pictures) > 1 else [pictures, pictures.repeat(2, 1, 1, 1)]


def _random_pictures(shape: tuple[int, int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (PICTURES, *shape), dtype=torch.uint8, generator=generator)


def _place(run: Run, to: str, out: str | Path | None) -> Path:
    """Return where the file goes. No file of a run's own ends as it must.

    Raises:
        DropkitError: if a folder is in the way or missing, or the name is that of another form, or of none.
    """
    usual = f"model.{to}"
    file = run.folder / usual if out is None else Path(out)
    try:
        in_the_way = file.is_dir()
    except OSError as error:  # such as a name that is too long
        raise _unwritable(file, error) from None
    if in_the_way:
        raise DropkitError(f"{str(file)!r} is a folder: give a file with --out, such as {str(file / usual)!r}")
    end = file.suffix.lower().removeprefix(".")
    if end != to:
        cure = f"add --to {end}, or give" if end in FORMS else "give"
        raise DropkitError(f"{str(file)!r} would hold the form {to}: {cure} a name with .{to}, such as {usual}")
    if not file.parent.is_dir():
        raise DropkitError(
            f"there is no folder {str(file.parent)!r} for the network: make it, or give another name with --out"
        )
    if not os.access(file.parent, os.W_OK):
        raise DropkitError(
            f"cannot write to the folder {str(file.parent)!r}, where the network is to stand: change its permissions, "
            "or name a file in another folder with --out"
        )
    return file


def _write(file: Path, content: bytes) -> None:
    try:
        write_atomic(file, content)
    except OSError as error:
        raise _unwritable(file, error) from None


def _unwritable(file: Path, error: OSError) -> DropkitError:
    return DropkitError(f"cannot write {str(file)!r}: {error.strerror}. Give another file with --out")


def _metadata(run: Run) -> Metadata:
    data = run.summary["data"]
    order = "grey" if data["shape"][0] == 1 else "red, green, blue"
    return {
        "dropkit": dropkit.__version__,
        "model": run.config.model_name,
        "dropout": run.config.dropout,
        "data": data["name"],
        "class_names": data["class_names"],
        "input": f"{INPUT}: uint8 [N, {', '.join(map(str, data['shape']))}], {order}, 0 to 255, not normalised",
        "output": f"{OUTPUT}: float32 [N, {data['classes']}], whose softmax are the classes' probabilities",
    }


def _in_words(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
