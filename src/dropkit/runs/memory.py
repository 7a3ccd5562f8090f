"""What a training step takes of the memory: which batch size fits, and what to say where none was left."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from dropkit.data.memory import available_memory
from dropkit.errors import DropkitError
from dropkit.runs.allocation import ran_out
from dropkit.runs.config import DEFAULT_BATCH, TrainConfig
from dropkit.runs.fitting import Fit

SHARE = 0.7  # of the memory that is available: what is freed and asked for anew leaves holes
COPIES = 2.5  # of what is saved for backward: the gradients beside it, and what operations need meanwhile


def out_of_memory(batch_size: int, device: torch.device) -> DropkitError:
    """Return the error that says which batch size to try.

    >>> print(out_of_memory(96, torch.device("cpu")))
    the memory of cpu is not enough for batches of 96 pictures: try --batch-size 48, or auto, which finds one that \
fits, with a new --out
    >>> print(out_of_memory(1, torch.device("cpu")))
    the memory of cpu is not enough for batches of one picture: take a smaller --model or --image-size
    """
    if batch_size == 1:
        return DropkitError(
            f"the memory of {device} is not enough for batches of one picture: take a smaller --model or --image-size"
        )
    return DropkitError(
        f"the memory of {device} is not enough for batches of {batch_size} pictures: try --batch-size "
        f"{batch_size // 2}, or auto, which finds one that fits, with a new --out"
    )


def sized(config: TrainConfig, make: Callable[[TrainConfig], Fit]) -> TrainConfig:
    """Return the config with a batch size that fits into the memory: 128, or the largest half of it that does.

    Args:
        config: a training, of whatever batch size.
        make: makes it; the fits that are tried are thrown away.

    Raises:
        DropkitError: if not even one picture fits.
    """
    if not config.finds_batch_size:
        return config
    size = DEFAULT_BATCH
    while True:
        tried = replace(config, batch_size=size)
        fit = make(tried)
        if _fits(fit, size):
            return tried
        if size == 1:
            raise out_of_memory(1, fit.device)
        del fit  # before the next one asks for its share
        size //= 2


def _fits(fit: Fit, size: int) -> bool:
    """Whether a step on so many pictures fits: on a GPU it is made; a processor's memory is promised to all who ask."""
    if fit.device.type == "cpu":
        return size * _bytes_a_picture(fit) < SHARE * available_memory()
    try:
        fit.train_epoch(most_steps=1)
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        return False
    return True


def _bytes_a_picture(fit: Fit) -> float:
    """Return about what a picture takes in a step: what two of them save for backward."""
    own = {parameter.untyped_storage().data_ptr() for parameter in fit.model.parameters()}
    seen: dict[int, int] = {}

    def count(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return saved

    pictures = fit.data.read(fit.data.train[:2])[0]
    fit.model.train()
    with saved_tensors_hooks(count, lambda saved: saved):
        logits = fit.model(pictures)
    del logits
    return COPIES * sum(seen.values()) / len(pictures)
