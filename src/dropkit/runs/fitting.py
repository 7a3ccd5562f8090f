"""The training loop: the tutorial's, made right. It knows nothing of files."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dropkit.data.pictures import Pictures
from dropkit.data.split import Split
from dropkit.errors import DropkitError, unknown
from dropkit.layers.keyed import keyed
from dropkit.layers.learned import concrete_loss, learned_rates
from dropkit.layers.schedule import Scheduled, parse
from dropkit.models.conversion import converted
from dropkit.models.head import Head, require_head_policy
from dropkit.models.max_norm import max_norm
from dropkit.models.networks import build, build_finetuned, is_built_in
from dropkit.models.operations import is_convolution, strides_over
from dropkit.models.policy import Policy
from dropkit.models.sites import HasSites
from dropkit.models.surgery import convert, insert
from dropkit.models.trace import trace
from dropkit.models.zoo import preprocessing
from dropkit.runs.allocation import ran_out
from dropkit.runs.augment import DEFAULT_OF_FOLDERS, Augmentation, seeded
from dropkit.runs.batches import Batches
from dropkit.runs.checkpoint import clone_state
from dropkit.runs.config import TrainConfig
from dropkit.runs.distributed import ALONE, World
from dropkit.runs.features import Features, coloured, features_in_memory
from dropkit.runs.optimizer import LearningRate, make_optimizer

EVALUATION_BATCH = 1024
EVALUATION_BATCH_CPU = 128  # larger ones leave a processor's caches
CHECK_EVERY = 50  # steps between two looks at the losses: each look waits for the device

DEVICES = ("auto", "cpu", "cuda", "mps", "xpu")

OnStep = Callable[[int, int, int], None]  # epoch, step within the epoch, steps of an epoch


class DivergedError(Exception):
    """The loss became NaN or infinite."""

    def __init__(self, step: int, which: str = "training") -> None:
        super().__init__(f"the {which} loss is not finite at step {step}")
        self.step = step


class StoppedError(Exception):
    """The training was asked to stop, and has, after a whole step: it can go on from where it is."""


@dataclass
class Progress:
    """How far a training has come. Epochs and steps are counted from 1; 0 means none yet.

    Steps beyond those of the whole epochs are of the one under way.
    """

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_val_loss: float = math.inf
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        """Say where the training is."""
        last = self.rows[-1]["step"] if self.rows else 0
        return f"epoch {self.epoch}" + (f" and {self.step - last} steps of the next" if self.step > last else "")


class Fit:
    """One training in memory: model, optimizer, data on the device, and how far it has come.

    Args:
        config: what to train and how.
        pictures: the data.
        split: which pictures are for training, validation and test.
        features: what the frozen network of a `pretrained` training makes of the pictures; computed where not given.
        fresh: False where a checkpoint's weights are to replace the initial ones: none are downloaded then.
        world: the processes that share each batch.

    Raises:
        DropkitError: if the network, the policy or the device is not available.
    """

    def __init__(
        self,
        config: TrainConfig,
        pictures: Pictures,
        split: Split,
        features: Features | None = None,
        *,
        fresh: bool = True,
        world: World = ALONE,
    ) -> None:
        world.require_room(min(config.batch_size, len(split.train)))
        self.world = world
        self.config = config
        self.pictures = pictures
        self.split = split
        self.device = pick_device(world.device_name(config.device))
        self.dtype = pick_precision(config.precision, self.device)
        if config.pretrained and features is None:
            features = features_in_memory(config.model, pictures, split, self.device)
        if features is None:
            options = {} if fresh else {"download": False}
            model = build_model(config, pictures.shape, pictures.classes, **options)
        else:
            model = build_head(config, features.values.shape[1], pictures.classes)
        if config.precision == "auto" and loses_bfloat16(model, pictures.shape, self.device):
            self.dtype = torch.float32
        self.model = model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # A constant rate needs nothing done, and a network's own layers of torch.nn have no other.
        self.scheduled = None if config.schedule == "constant" else Scheduled(self.model, parse(config.schedule))
        self.learns_rates = bool(learned_rates(self.model))
        self.optimizer = make_optimizer(config, self.model)
        self.learning_rate = LearningRate(config, self.optimizer)
        augmentation = Augmentation.parse(augmentation_of(config, pictures), config.seed)
        self.data = Batches(
            pictures,
            split,
            self.device,
            augmentation,
            statistics=statistics_of(config),
            features=None if features is None else features.values,
        )
        augmentation.try_out(pictures.read(self.data.train[:2]))
        self.class_weights = self.data.class_weights() if config.class_weights == "balanced" else None
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self.asked_to_stop: Callable[[], bool] = lambda: False

    def run_epoch(self, on_step: OnStep | None = None) -> dict[str, Any]:
        """Train to the end of an epoch, evaluate, remember the weights if they are the best; return its metrics.

        Raises:
            DivergedError: if a loss is not finite. The best weights so far are kept.
            StoppedError: if it was asked to stop before the end.
        """
        began, progress = time.perf_counter(), self.progress
        try:
            seen = self.train_epoch(on_step)
            trained = time.perf_counter() - began
            self.world.copy_first(self.model)  # statistics of batch-norm are each process's own until here
            train_loss, train_error = self.evaluate(self.data.train_probe)
            val_loss, val_error = self.evaluate(self.data.val)
        except StoppedError:
            progress.seconds += time.perf_counter() - began
            raise
        if not math.isfinite(val_loss):
            raise DivergedError(progress.step, "validation")
        progress.epoch += 1
        if val_loss < progress.best_val_loss:
            progress.best_val_loss, progress.best_epoch = val_loss, progress.epoch
            self.best = clone_state(self.model)
        progress.seconds += time.perf_counter() - began
        row: dict[str, Any] = {
            "epoch": progress.epoch,
            "step": progress.step,
            "train_loss": train_loss,
            "train_error": train_error,
            "val_loss": val_loss,
            "val_error": val_error,
            "images_per_second": seen / max(trained, 1e-9),  # 0 where the epoch's steps had been made before
            "seconds": progress.seconds,
        }
        if self.learns_rates:
            row["learned_rates"] = learned_rates(self.model)
        progress.rows.append(row)
        return row

    def train_epoch(self, on_step: OnStep | None = None, most_steps: int | None = None) -> int:
        """Make the steps that an epoch lacks (or `most_steps` of them); return how many pictures were seen.

        Raises:
            DivergedError: if a loss is not finite.
            StoppedError: if it was asked to stop before the last of them.
        """
        config, progress = self.config, self.progress
        steps = self.data.steps(config.batch_size)
        done = progress.step - progress.epoch * steps
        last = steps if most_steps is None else min(done + most_steps, steps)
        losses: list[Tensor] = []
        seen = 0
        self.model.train()
        batches = enumerate(self.data.epoch(config.seed, progress.epoch, config.batch_size), 1)
        for number, indices in islice(batches, done, last):
            losses.append(self._step_on(indices))
            seen += len(indices)
            progress.step += 1
            stopped = number < last and self.asked_to_stop()
            if len(losses) == CHECK_EVERY or number == last or stopped:
                _require_finite(losses, progress.step)
                losses.clear()
            if on_step is not None:
                on_step(progress.epoch + 1, number, steps)
            if stopped:
                raise StoppedError
        return seen

    def _step_on(self, indices: Tensor) -> Tensor:
        """Make one step on the batch of these pictures, of which each process reads its share; return the loss."""
        epoch = self.progress.epoch
        if self.world.alone:
            return self.train_step(*self.data.read_to_train(indices, epoch))
        share = self.world.share(len(indices))
        x, y = self.data.read_to_train(indices[share.start : share.stop], epoch)
        weight = self.data.weight_of(share, indices, self.class_weights)
        return self.train_step(x, y, first_sample=share.start, weight=weight)

    def train_step(self, x: Tensor, y: Tensor, *, first_sample: int = 0, weight: Tensor | None = None) -> Tensor:
        """Make one step on pictures x [n, C, H, W] and labels y [n]; return the whole batch's loss, detached.

        Args:
            x: the pictures, of this process's share of the batch.
            y: their labels.
            first_sample: place of the first one in the batch: masks depend on it.
            weight: what the share's mean loss counts for in the batch's; None for all.
        """
        self.learning_rate.apply(self._done())
        if self.scheduled is not None:
            self.scheduled.apply(self._done())
        # The block encloses forward and backward: a recomputation in backward needs the same masks.
        seed, step = self.config.seed, self.progress.step
        with keyed(self.model, seed=seed, step=step, first_sample=first_sample), self._seeded():
            with self._precision():
                logits = self.model(x)
            loss = F.cross_entropy(logits.float(), y, self.class_weights)
            if weight is not None:
                loss = weight * loss
            if self.learns_rates:  # in every process, and once in the sum
                loss = loss + concrete_loss(self.model, len(self.data.train)) / self.world.size
            self.optimizer.zero_grad()
            loss.backward()
        loss = self.world.sum_gradients(self.model, loss.detach())
        self.optimizer.step()
        if self.config.max_norm is not None:
            max_norm(self.model, self.config.max_norm)
        return loss

    def predict(self, indices: Tensor, *, exact: bool = False) -> Tensor:
        """Return the logits, float32 [n, classes] on the CPU, of the pictures at `indices`, in eval mode.

        `exact` computes them in float32: bfloat16's 8 bits leave many a picture with two equal largest logits.
        """
        self.model.eval()
        rows = self.world.rows(len(indices))
        # A process without a share computes one picture, so that it knows how long the logits are.
        mine = indices[rows] if rows.stop > rows.start else indices[:1]
        batches = mine.split(EVALUATION_BATCH_CPU if self.device.type == "cpu" else EVALUATION_BATCH)
        with torch.inference_mode(), nullcontext() if exact else self._precision():
            parts = [self._logits(part) for part in batches]
        return self.world.gather(torch.cat(parts)[: rows.stop - rows.start], len(indices)).cpu()

    def _logits(self, indices: Tensor) -> Tensor:
        if self.asked_to_stop():
            raise StoppedError
        try:
            logits: Tensor = self.model(self.data.read(indices)[0])
            return logits.float()
        except (RuntimeError, MemoryError) as error:
            if len(indices) == 1 or not ran_out(error):
                raise
        # No result of an evaluation depends on the rest of its batch. Not in the handler, whose error holds memory.
        return torch.cat([self._logits(part) for part in indices.split(-(-len(indices) // 2))])

    def evaluate(self, indices: Tensor) -> tuple[float, float]:
        """Return (mean cross-entropy in nats, error as a fraction) of the pictures at `indices`, in eval mode.

        The loss is the one that training lowers: with class weights it is weighted.
        """
        logits, labels = self.predict(indices), self.data.labels[indices.to(self.device)].cpu()
        weights = None if self.class_weights is None else self.class_weights.double().cpu()
        loss = F.cross_entropy(logits.double(), labels, weights).item()
        error = (logits.argmax(1) != labels).double().mean().item()
        return self.world.from_first(lambda: (loss, error))  # what all decide by: a processor may round otherwise

    def follow_first(self) -> None:
        """Bring this process to where the first one is: its weights, optimizer and progress."""
        if self.world.alone:
            return
        self.world.copy_first(self.model)
        best, optimizer, progress = self.world.from_first(
            lambda: (_on_cpu(self.best), _on_cpu(self.optimizer.state_dict()), vars(self.progress))
        )
        if not self.world.first:
            self.best = {name: value.to(self.device) for name, value in best.items()}
            self.optimizer.load_state_dict(optimizer)
            vars(self.progress).update(progress)

    def finished(self) -> bool:
        """Whether the budget is used up, or patience is."""
        config, progress = self.config, self.progress
        if progress.epoch >= config.epoch_limit:
            return True
        steps = progress.epoch * self.data.steps(config.batch_size)  # not those of an epoch that was stopped midway
        if config.epochs is not None or steps < config.min_steps:
            return False
        return progress.epoch - progress.best_epoch >= config.patience

    def _done(self) -> float:
        """Return the share of the training's steps that have been made; steps beyond the last count as its end."""
        steps = self.config.epoch_limit * self.data.steps(self.config.batch_size)
        return min(self.progress.step / steps, 1.0)

    def _seeded(self) -> AbstractContextManager[None]:
        """Make what a network of another's draws in its own code a function of (seed, step, rank)."""
        if self.config.pretrained or is_built_in(self.config.model):
            return nullcontext()
        entropy = [self.config.seed, self.progress.step] + ([self.world.rank] if self.world.rank else [])
        return seeded(int(np.random.SeedSequence(entropy).generate_state(1)[0]))

    def _precision(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)


def _on_cpu(state: Any) -> Any:
    """Return nested dictionaries of tensors on the CPU: those of a GPU would be opened on the first one by all."""
    if isinstance(state, dict):
        return {name: _on_cpu(value) for name, value in state.items()}
    return state.cpu() if isinstance(state, Tensor) else state


def build_model(config: TrainConfig, shape: tuple[int, int, int], classes: int, *, download: bool = True) -> nn.Module:
    """Return the network with the seed's initial weights and the policy's dropout; the weights do not depend on it.

    Args:
        config: what is trained.
        shape: (C, H, W) of a picture.
        classes: K, the length of the logits.
        download: False leaves published weights aside, where others are loaded anyway.
    """
    with _initial(config.seed):
        if config.finetune:
            shape = coloured(shape)
            model = build_finetuned(config.model, input_shape=shape, num_classes=classes, download=download)
        else:
            model = build(config.model, input_shape=shape, num_classes=classes)
    policy = Policy.parse(config.dropout)
    if not policy.untouched:
        insert(model, policy, None if isinstance(model, HasSites) else torch.zeros(2, *shape))
    elif any(converted(module) is not None for module in model.modules()):
        convert(model)  # the same rates, but masks that a resumed training draws again
    return model


def build_head(config: TrainConfig, features: int, classes: int) -> nn.Module:
    """Return what a `pretrained` training trains: a head on [n, F] features, with the policy's dropout."""
    policy = Policy.parse(config.dropout)
    require_head_policy(policy)
    with _initial(config.seed):
        head = Head(features, classes)
    insert(head, policy)
    return head


@contextmanager
def _initial(seed: int) -> Iterator[None]:
    """Draw initial weights from the seed alone inside the block."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def statistics_of(config: TrainConfig) -> tuple[Sequence[float], Sequence[float]] | None:
    """Return the mean and the standard deviation that published weights expect; None without such weights."""
    if not config.published_weights:
        return None
    expected = preprocessing(config.model)
    return expected.mean, expected.std


def augmentation_of(config: TrainConfig, pictures: Pictures) -> str:
    """Return the augmentation that a training takes: the config's, or what the kind of data makes usual."""
    usual = DEFAULT_OF_FOLDERS if pictures.is_folder and not config.pretrained else "none"
    return config.augment or usual


def _require_finite(losses: list[Tensor], last_step: int) -> None:
    """Raise DivergedError at the first step whose loss is not finite; the last of `losses` is step `last_step`."""
    finite = torch.stack(losses).isfinite().tolist()
    if not all(finite):
        raise DivergedError(last_step - len(losses) + 1 + finite.index(False))


def pick_device(name: str) -> torch.device:
    """Return the device that `name` means; `auto` is a GPU where there is one.

    Raises:
        DropkitError: if there is no such device here.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator if accelerator is not None else torch.device("cpu")
    if name.partition(":")[0] not in DEVICES:
        raise unknown("device", name, DEVICES)
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise DropkitError(f"device {name!r} is not available here ({reason}): use --device cpu or auto") from None
    return device


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype of forward and backward; `auto` is bfloat16 where the hardware is fast at it."""
    if name == "auto":
        return torch.bfloat16 if _fast_bfloat16(device) else torch.float32
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def loses_bfloat16(model: nn.Module, shape: tuple[int, int, int], device: torch.device) -> bool:
    """Whether bfloat16 is not to be trusted for a network: on a processor, where a stride is wider than its maps.

    There torch 2.13's gradient of a convolution's weights differs from call to call and is at times not a number
    (seen for channels-last maps with AVX-512). Small pictures in deep networks get there; dropkit's own never do.
    """
    if device.type != "cpu" or isinstance(model, HasSites):
        return False
    seen = trace(model, torch.zeros(2, *shape), training=False)
    return any(strides_over(op, seen.shapes[op.reads[0]]) for op in seen.operations if is_convolution(op))


def _fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    features: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch that is supported
    return bool(features.get("avx512_bf16") or features.get("amx_bf16") or features.get("bf16"))
