"""One training in several processes: who they are, what they share, and how they agree.

Every process holds the whole network and computes with its share of each batch; after the backward pass the gradients
are summed over all processes, which then make the same step. Masks need no word between them: they are a function of a
sample's place in the whole batch.

The gradients are summed here, in one piece after the backward pass, and not by DistributedDataParallel. That averages
over processes, so that shares of unequal size, a last batch that is smaller than the number of processes, and the
parts of the loss that are no mean over pictures would each need a correction; it stops at parameters without a
gradient unless told beforehand; and it puts a wrapper around the network. The price is that nothing is sent while the
backward pass still runs.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dropkit.data.pictures import Pictures
from dropkit.data.split import Split
from dropkit.errors import DropkitError
from dropkit.runs.config import TrainConfig
from dropkit.runs.torchrun import process_count

T = TypeVar("T")

# The first process may decode pictures or compute features for as long as it takes; who fails is ended by torchrun.
PATIENCE = timedelta(days=7)
FEWEST = 2  # pictures of a share: batch-norm cannot train on one value


@dataclass(frozen=True)
class Share:
    """Which samples of a batch a process computes with: from `start` on, `stop` not included.

    Where `counts` is False there are fewer than two for each process: the first two are then computed once more, so
    that all processes do the same, and count for nothing.
    """

    start: int
    stop: int
    counts: bool = True


@dataclass(frozen=True)
class World:
    """The processes of one training, as one of them sees them. With one process all of this does nothing.

    Attributes:
        rank: which one this is, from 0.
        size: how many there are.
        local_rank: which one of this machine.
        local_size: how many there are on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that reads and writes the folder, and speaks."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is one process."""
        return self.size == 1

    def rows(self, count: int) -> slice:
        """Return which of `count` things in a row are this process's; the numbers differ by one at most.

        >>> [World(rank, 3).rows(8) for rank in range(3)]
        [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
        """
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def share(self, count: int) -> Share:
        """Return this process's share of a batch of `count` samples.

        >>> [World(rank, 3).share(5) for rank in range(2)]
        [Share(start=0, stop=2, counts=True), Share(start=2, stop=5, counts=True)]
        >>> World(2, 3).share(5)
        Share(start=0, stop=2, counts=False)
        """
        busy = min(self.size, max(1, count // FEWEST))
        if self.rank >= busy:
            return Share(0, min(FEWEST, count), counts=False)
        rows = World(self.rank, busy).rows(count)
        return Share(rows.start, rows.stop)

    def require_room(self, batch: int) -> None:
        """Refuse batches that are too small to be shared.

        Args:
            batch: pictures in a step.

        Raises:
            DropkitError: naming both numbers.
        """
        if not self.alone and batch < FEWEST * self.size:
            raise DropkitError(
                f"{self.size} processes share the pictures of a step and need {FEWEST} each, but a step has {batch}: "
                f"start at most {max(1, batch // FEWEST)} with torchrun, or give a larger --batch-size (it counts the "
                f"pictures of all processes)"
            )

    def device_name(self, name: str) -> str:
        """Return the device of this process where `name` was asked for: each process of a machine has its own GPU.

        Raises:
            DropkitError: if there is no GPU left for it, or the device is none that processes can share work on.
        """
        if self.alone or name == "cpu":
            return name
        if name not in ("auto", "cuda"):
            raise DropkitError(
                f"device {name!r} in several processes: allowed are auto, cpu, and cuda, which gives each its own GPU"
            )
        if name == "auto" and not torch.cuda.is_available():
            return "cpu"
        count = torch.cuda.device_count()
        if self.local_size > count:
            raise DropkitError(
                f"{self.local_size} processes on this machine need a GPU each, and it has {count}: start {count} with "
                f"--nproc-per-node, or give --device cpu"
                if count
                else "there is no GPU on this machine: give --device cpu"
            )
        return f"cuda:{self.local_rank}"

    def threads(self, count: int | None) -> int | None:
        """Return how many CPU threads this process is to have: an equal share of the cores unless told otherwise."""
        if self.alone or count is not None:
            return count
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, cores // self.local_size)

    def from_first(self, function: Callable[[], T]) -> T:
        """Call a function in the first process alone, and return what it returned in all.

        Raises:
            DropkitError: in all processes, where the function raised it.
        """
        if self.alone:
            return function()
        answer: list[object] = [None, None]
        if self.first:
            try:
                answer[0] = function()
            except DropkitError as error:
                answer[1] = error
        dist.broadcast_object_list(answer, src=0)
        if isinstance(answer[1], DropkitError):
            raise answer[1]
        value: T = answer[0]  # type: ignore[assignment]
        return value

    def together(self, function: Callable[[], T]) -> T:
        """Call a function in every process; where it fails in one, it fails in all with that one's message.

        Raises:
            DropkitError: where the function raised it in any process.
        """
        if self.alone:
            return function()
        outcome: list[T] = []
        failure: str | None = None
        try:
            outcome.append(function())
        except DropkitError as error:
            failure = str(error)
        for text in self._all(failure):
            if text is not None:
                raise DropkitError(text)
        return outcome[0]

    def require_same(self, what: str, value: object) -> None:
        """Refuse to go on where the processes do not have the same.

        Args:
            what: its name, in the plural.
            value: this process's.

        Raises:
            DropkitError: in all processes, naming the first that differs.
        """
        if self.alone:
            return
        values = self._all(value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise DropkitError(
                    f"process {rank} has other {what} than process 0: all processes of a training need the same"
                )

    def _all(self, value: T) -> list[T]:
        """Return every process's value, in the order of the ranks."""
        values = [value] * self.size
        dist.all_gather_object(values, value)
        return values

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""
        for group in _by_dtype(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in group])
            dist.all_reduce(flat)
            _put_back(flat, group)

    def sum_gradients(self, model: nn.Module, loss: Tensor) -> Tensor:
        """Sum all gradients of the model over the processes, and return the sum of their losses.

        A parameter that has no gradient in any process has none afterwards: the optimizer passes it by, as it does
        in one process.
        """
        if self.alone:
            return loss
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        missing = [parameter.grad is None for parameter in parameters]
        found = torch.ones(len(parameters), device=loss.device)
        if any(missing):
            found -= torch.tensor(missing, dtype=found.dtype, device=loss.device)
            for parameter in parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        total = loss.reshape(1).float()
        # In the same message as the gradients: a second one would wait for the slowest process once more.
        self.sum([total, found, *(parameter.grad for parameter in parameters if parameter.grad is not None)])
        if any(missing):
            for parameter, count in zip(parameters, found.tolist(), strict=True):
                if count == 0:
                    parameter.grad = None
        return total.squeeze()

    def gather(self, rows: Tensor, count: int) -> Tensor:
        """Return all `count` rows in their order, of which each process gives those that `rows(count)` tells it."""
        if self.alone:
            return rows
        places = [World(rank, self.size).rows(count) for rank in range(self.size)]
        lengths = [place.stop - place.start for place in places]
        padded = torch.zeros(max(lengths), *rows.shape[1:], dtype=rows.dtype, device=rows.device)
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(parts, padded)
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    def copy_first(self, model: nn.Module) -> None:
        """Give all processes the first one's parameters and buffers, to the bit."""
        if self.alone:
            return
        tensors = [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]
        for group in _by_dtype(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in group])
            dist.broadcast(flat.view(torch.uint8), src=0)  # as bytes: not every backend knows every type
            _put_back(flat, group)


ALONE = World()


def _by_dtype(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    groups: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.dtype, []).append(tensor)
    return list(groups.values())


def _put_back(flat: Tensor, tensors: list[Tensor]) -> None:
    """Copy the values of one long tensor into those that it was made of."""
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view(tensor.shape))


@contextmanager
def joined(config: TrainConfig) -> Iterator[World]:
    """Yield the processes of a training: those of torchrun, or of the process group that the caller has made.

    The others than the first one give no warnings inside the block. A process group that is made here ends with it;
    after an unexpected error it ends with the process.

    Args:
        config: of the training; all processes need the same.

    Raises:
        DropkitError: if a device is missing, or the processes were given different options.
    """
    own = process_count() > 1 and not dist.is_initialized()
    if own:
        _begin(config)
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        yield ALONE
        return
    world = _this_world(dist.get_rank(), dist.get_world_size())
    with warnings.catch_warnings():
        if not world.first:
            warnings.simplefilter("ignore")
        try:
            world.require_same("options", config.identity())
            yield world
        except DropkitError:  # all processes have it
            _end(own)
            raise
    _end(own)


def _this_world(rank: int, size: int) -> World:
    return World(rank, size, int(os.environ.get("LOCAL_RANK", rank)), int(os.environ.get("LOCAL_WORLD_SIZE", size)))


def _begin(config: TrainConfig) -> None:
    device = _this_world(int(os.environ["RANK"]), process_count()).device_name(config.device)
    backend = "gloo"
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=PATIENCE)


def _end(own: bool) -> None:
    if own:
        dist.destroy_process_group()


def load_in_turn(
    world: World, load: Callable[..., tuple[Pictures, Split]], config: TrainConfig, folder: Path, *, progress: bool
) -> tuple[Pictures, Split]:
    """Return the pictures and their split in every process; what is kept on disk is written by the first alone.

    Args:
        world: the processes.
        load: `dropkit.runs.training.load_data`.
        config: what to load.
        folder: of the run, where decoded pictures are kept if they are streamed.
        progress: show progress on standard error.

    Raises:
        DropkitError: in all processes, where the pictures cannot be used.
    """
    if world.alone:
        return load(config, spool=folder, progress=progress)
    mine: list[tuple[Pictures, Split]] = []

    def load_first() -> bool:
        mine.append(load(config, spool=folder, copies=world.local_size, progress=progress))
        return mine[0][0].images is None

    streams = world.from_first(load_first)

    def load_as_first() -> tuple[Pictures, Split]:
        if mine:
            return mine[0]
        # On another machine the folder may not be there: its processes keep what they decode to themselves.
        spool = folder if folder.is_dir() else None
        return load(replace(config, stream="yes" if streams else "no"), spool=spool)

    return world.together(load_as_first)
