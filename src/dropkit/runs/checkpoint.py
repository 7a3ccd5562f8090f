"""A checkpoint: everything that a training needs to go on, in one safetensors file. No pickle.

It says which version of this format it is, and carries a checksum of all that it holds. The one before it is kept, too:
where the newest turns out damaged, the training goes on from there.
"""

import json
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn, optim

from dropkit.errors import DropkitError
from dropkit.files import write_atomic, writing

VERSION = 2  # version 1 had neither version nor checksum


def previous_of(path: Path) -> Path:
    """Return where the checkpoint before the one at `path` is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def save_checkpoint(
    path: Path,
    model: nn.Module,
    best: dict[str, Tensor],
    optimizer: optim.Optimizer,
    progress: dict[str, Any],
) -> None:
    """Write weights, best weights, the optimizer's state and the progress, whole or not at all; keep the one before."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items() if value is not None}
    told = json.dumps(progress)
    plain = _plain(tensors)
    _keep_previous(path)
    write_tensors(path, plain, {"progress": told, "version": str(VERSION), "crc32": str(_checksum(plain, told))})


def _keep_previous(path: Path) -> None:
    """Keep the checkpoint at `path` as the previous one, too; at every moment there is a whole one at `path`."""
    if not path.is_file():
        return
    previous = previous_of(path)
    part = previous.with_name(f".{previous.name}.{os.getpid()}.part")
    with writing(previous):
        part.unlink(missing_ok=True)
        try:
            os.link(path, part)
        except OSError:  # a file system without links
            write_atomic(previous, path.read_bytes())
            return
        part.replace(previous)
        part.unlink(missing_ok=True)  # renaming one name of a file to another of its names leaves both


def load_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: optim.Optimizer,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Bring `model` and `optimizer` to where the checkpoint was taken; return (best weights, progress).

    Args:
        path: the newest checkpoint. Where it is missing or damaged, the one before it is taken, and the damaged one
            removed.
        model: the network.
        optimizer: of the network's parameters.
        say: is told which file was damaged.

    Raises:
        DropkitError: if neither can be used, or a later version of dropkit wrote it.
    """
    tensors, told = _newest(path, model, say)
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
    for key, value in tensors.items():
        group, name = key.split(".", 1)
        groups[group][name] = value
    model.load_state_dict(groups["model"])
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in groups["optimizer"].items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = _laid_out_as(parameters[int(index)], value)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return groups["best"], json.loads(told)


def _newest(path: Path, model: nn.Module, say: Callable[[str], None]) -> tuple[dict[str, Tensor], str]:
    """Return the tensors and the progress of the newest whole checkpoint of the network."""
    previous = previous_of(path)
    try:
        return _of_network(path, model)
    except LaterVersionError:
        raise
    except DropkitError as damage:
        reason = damage.args[0].partition(": delete")[0]
        try:
            found = _of_network(previous, model)
        except LaterVersionError:
            raise
        except DropkitError:
            raise DropkitError(
                f"{reason}, and there is no whole one before it: delete both, {path.name} and {previous.name}, and the "
                f"same command begins the training anew"
            ) from None
        if path.is_file():
            say(f"note: {reason}; going on from the checkpoint before it")
            path.unlink()  # else it would be kept as the one before the next
        return found


def _of_network(path: Path, model: nn.Module) -> tuple[dict[str, Tensor], str]:
    """Return a checkpoint, if it is one of the network.

    Raises:
        DropkitError: as `read_checkpoint`, and if it is another network's.
    """
    tensors, told = read_checkpoint(path)
    wanted = {f"model.{name}": value.shape for name, value in model.state_dict().items()}
    there = {name: value.shape for name, value in tensors.items() if name.startswith("model.")}
    groups = {name.partition(".")[0] for name in tensors}
    if there != wanted or not groups <= {"model", "best", "optimizer"}:
        raise DropkitError(f"{path} is damaged (it is another network's): delete its folder and run the command again")
    return tensors, told


class LaterVersionError(DropkitError):
    """A checkpoint that this version of dropkit does not know how to read."""


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], str]:
    """Return (tensors, progress as JSON) of a checkpoint.

    Raises:
        LaterVersionError: if a later version of dropkit wrote it.
        DropkitError: if it is missing, damaged, or none.
    """
    tensors, meta = read_tensors(path)
    version = meta.get("version", "1")
    if version.isdecimal() and int(version) > VERSION:
        raise LaterVersionError(
            f"{path} was written by a later version of dropkit (checkpoint version {version}, known are up to "
            f"{VERSION}): go on with that version, or give a new folder with --out"
        )
    told = meta.get("progress")
    if told is None or (version != "1" and meta.get("crc32") != str(_checksum(tensors, told))):
        reason = "its checksum is another one" if told is not None else "it is no checkpoint"
        raise DropkitError(f"{path} is damaged ({reason}): delete its folder and run the command again")
    return tensors, told


def _checksum(tensors: Mapping[str, Tensor], told: str) -> int:
    """Return the CRC-32 of names, kinds, shapes and bytes of the tensors, and of the progress."""
    found = zlib.crc32(told.encode())
    for name in sorted(tensors):
        value = tensors[name]
        found = zlib.crc32(f"{name} {value.dtype} {tuple(value.shape)}".encode(), found)
        found = zlib.crc32(value.reshape(-1).view(torch.uint8).numpy().data, found)
    return found


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """Return the value in the parameter's memory format: fused optimizers walk both as they lie in memory."""
    if value.shape != parameter.shape:
        return value  # the count of steps
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def write_tensors(path: Path, tensors: dict[str, Tensor], meta: dict[str, str] | None = None) -> None:
    """Write named tensors as one safetensors file, whole or not at all."""
    write_atomic(path, save(_plain(tensors), metadata=meta))


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous copies on the CPU, none of which shares memory with another."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return (tensors, metadata) of a safetensors file.

    Raises:
        DropkitError: if the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError:
        raise DropkitError(f"{path} is missing: delete its folder and run the command again") from None
    except (OSError, SafetensorError) as error:
        raise DropkitError(f"{path} is damaged ({error}): delete its folder and run the command again") from None


def read_metadata(path: Path) -> dict[str, str]:
    """Return a safetensors file's metadata, without its tensors.

    Raises:
        DropkitError: if the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise DropkitError(f"{path} is damaged ({error}): delete its folder and run the command again") from None


def load_weights(model: nn.Module, path: Path, name: str) -> None:
    """Give the network called `name` the weights in a file.

    Raises:
        DropkitError: if the file is missing or damaged, or its weights are another network's.
    """
    tensors = read_tensors(path)[0]
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise DropkitError(
            f"the weights in {path} do not fit the network that model {name!r} builds now ({reason}): restore its "
            f"code, or the versions in environment.json beside the weights"
        ) from None


def clone_state(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the model's state that later training does not change."""
    with torch.no_grad():
        return {name: value.clone() for name, value in model.state_dict().items()}
