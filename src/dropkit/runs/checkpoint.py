"""A checkpoint: everything that a training needs to go on, in one safetensors file. No pickle."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn, optim

from dropkit.errors import DropkitError
from dropkit.files import write_atomic


def save_checkpoint(
    path: Path,
    model: nn.Module,
    best: dict[str, Tensor],
    optimizer: optim.Optimizer,
    progress: dict[str, Any],
) -> None:
    """Write weights, best weights, the optimizer's state and the progress, whole or not at all."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items() if value is not None}
    write_tensors(path, tensors, {"progress": json.dumps(progress)})


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: optim.Optimizer
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Bring `model` and `optimizer` to where the checkpoint was taken; return (best weights, progress).

    Raises:
        DropkitError: if the file is damaged.
    """
    tensors, meta = read_tensors(path)
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
    return groups["best"], json.loads(meta["progress"])


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """Return the value in the parameter's memory format: fused optimizers walk both as they lie in memory."""
    if value.shape != parameter.shape:
        return value  # the count of steps
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def write_tensors(path: Path, tensors: dict[str, Tensor], meta: dict[str, str] | None = None) -> None:
    """Write named tensors as one safetensors file, whole or not at all."""
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_atomic(path, save(plain, metadata=meta))


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
    except SafetensorError as error:
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
