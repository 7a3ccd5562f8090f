"""The training loop: the tutorial's, made right. It knows nothing of files."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim

from dropkit.data.pictures import Pictures
from dropkit.data.split import Split
from dropkit.errors import DropkitError, unknown
from dropkit.layers.keyed import keyed
from dropkit.layers.learned import ConcreteDropout, concrete_loss, learned_rates
from dropkit.layers.schedule import Scheduled, parse
from dropkit.models.max_norm import max_norm
from dropkit.models.networks import build
from dropkit.models.policy import Policy, apply_policy
from dropkit.runs.augment import DEFAULT_OF_FOLDERS, Augmentation
from dropkit.runs.batches import Batches
from dropkit.runs.checkpoint import clone_state
from dropkit.runs.config import TrainConfig

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


@dataclass
class Progress:
    """How far a training has come. Epochs and steps are counted from 1; 0 means none yet."""

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_val_loss: float = math.inf
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)


class Fit:
    """One training in memory: model, optimizer, data on the device, and how far it has come.

    Args:
        config: what to train and how.
        pictures: the data.
        split: which pictures are for training, validation and test.

    Raises:
        DropkitError: if the network, the policy or the device is not available.
    """

    def __init__(self, config: TrainConfig, pictures: Pictures, split: Split) -> None:
        self.config = config
        self.pictures = pictures
        self.split = split
        self.device = pick_device(config.device)
        self.dtype = pick_precision(config.precision, self.device)
        model = build_model(config, pictures.shape, pictures.classes).to(self.device)
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.scheduled = Scheduled(self.model, parse(config.schedule))
        self.learns_rates = bool(learned_rates(self.model))
        self.optimizer = _optimizer(config, self.model)
        augmentation = Augmentation.parse(augmentation_of(config, pictures), config.seed)
        self.data = Batches(pictures, split, self.device, augmentation)
        augmentation.try_out(pictures.read(self.data.train[:2]))
        self.class_weights = self.data.class_weights() if config.class_weights == "balanced" else None
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}

    def run_epoch(self, on_step: OnStep | None = None) -> dict[str, Any]:
        """Train for one epoch, evaluate, remember the weights if they are the best; return the epoch's metrics.

        Raises:
            DivergedError: if a loss is not finite. The best weights so far are kept.
        """
        began = time.perf_counter()
        seen = self.train_epoch(on_step)
        trained = time.perf_counter() - began
        train_loss, train_error = self.evaluate(self.data.train_probe)
        val_loss, val_error = self.evaluate(self.data.val)
        progress = self.progress
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
            "images_per_second": seen / trained,
            "seconds": progress.seconds,
        }
        if self.learns_rates:
            row["learned_rates"] = learned_rates(self.model)
        progress.rows.append(row)
        return row

    def train_epoch(self, on_step: OnStep | None = None, most_steps: int | None = None) -> int:
        """Make the steps of one epoch (or the first `most_steps`); return how many pictures were seen."""
        config, progress = self.config, self.progress
        steps = self.data.steps(config.batch_size)
        losses: list[Tensor] = []
        seen = 0
        self.model.train()
        for number, indices in enumerate(self.data.epoch(config.seed, progress.epoch, config.batch_size), 1):
            losses.append(self.train_step(*self.data.read_to_train(indices, progress.epoch)))
            seen += len(indices)
            progress.step += 1
            if len(losses) == CHECK_EVERY or number in (steps, most_steps):
                _require_finite(losses, progress.step)
                losses.clear()
            if on_step is not None:
                on_step(progress.epoch + 1, number, steps)
            if number == most_steps:
                break
        return seen

    def train_step(self, x: Tensor, y: Tensor) -> Tensor:
        """Make one step on pictures x [n, C, H, W] and labels y [n]; return the loss, detached."""
        self.scheduled.apply(self._done())
        # The block encloses forward and backward: a recomputation in backward needs the same masks.
        with keyed(self.model, seed=self.config.seed, step=self.progress.step):
            with self._precision():
                logits = self.model(x)
            loss = F.cross_entropy(logits.float(), y, self.class_weights)
            if self.learns_rates:
                loss = loss + concrete_loss(self.model, len(self.data.train))
            self.optimizer.zero_grad()
            loss.backward()
        self.optimizer.step()
        if self.config.max_norm is not None:
            max_norm(self.model, self.config.max_norm)
        return loss.detach()

    def predict(self, indices: Tensor, *, exact: bool = False) -> Tensor:
        """Return the logits, float32 [n, classes] on the CPU, of the pictures at `indices`, in eval mode.

        `exact` computes them in float32: bfloat16's 8 bits leave many a picture with two equal largest logits.
        """
        self.model.eval()
        batches = indices.split(EVALUATION_BATCH_CPU if self.device.type == "cpu" else EVALUATION_BATCH)
        with torch.inference_mode(), nullcontext() if exact else self._precision():
            parts = [self.model(self.data.read(part)[0]).float() for part in batches]
        return torch.cat(parts).cpu()

    def evaluate(self, indices: Tensor) -> tuple[float, float]:
        """Return (mean cross-entropy in nats, error as a fraction) of the pictures at `indices`, in eval mode.

        The loss is the one that training lowers: with class weights it is weighted.
        """
        logits, labels = self.predict(indices), self.data.labels[indices.to(self.device)].cpu()
        weights = None if self.class_weights is None else self.class_weights.double().cpu()
        loss = F.cross_entropy(logits.double(), labels, weights).item()
        return loss, (logits.argmax(1) != labels).double().mean().item()

    def finished(self) -> bool:
        """Whether the budget is used up, or patience is."""
        config, progress = self.config, self.progress
        if progress.epoch >= config.epoch_limit:
            return True
        if config.epochs is not None or progress.step < config.min_steps:
            return False
        return progress.epoch - progress.best_epoch >= config.patience

    def _done(self) -> float:
        """Return the share of the training's steps that have been made; steps beyond the last count as its end."""
        steps = self.config.epoch_limit * self.data.steps(self.config.batch_size)
        return min(self.progress.step / steps, 1.0)

    def _precision(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)


def build_model(config: TrainConfig, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return the network with the seed's initial weights and the policy's dropout; the weights do not depend on it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build(config.model, input_shape=shape, num_classes=classes)
    apply_policy(model, Policy.parse(config.dropout))
    return model


def augmentation_of(config: TrainConfig, pictures: Pictures) -> str:
    """Return the augmentation that a training takes: the config's, or what the kind of data makes usual."""
    return config.augment or (DEFAULT_OF_FOLDERS if pictures.is_folder else "none")


def _optimizer(config: TrainConfig, model: nn.Module) -> optim.Optimizer:
    rate, decay = config.learning_rate, config.weight_decay
    # One pass over the parameters instead of a dozen.
    fused = all(parameter.device.type in ("cpu", "cuda", "mps") for parameter in model.parameters())
    if config.optimizer == "sgd":
        nesterov = config.momentum > 0
        return optim.SGD(_groups(model), rate, config.momentum, 0, decay, nesterov, fused=fused)
    family = optim.Adam if config.optimizer == "adam" else optim.AdamW
    return family(_groups(model), rate, weight_decay=decay, fused=fused)


def _groups(model: nn.Module) -> list[dict[str, Any]]:
    """Return the parameters in groups, one with and one without weight decay.

    Decay of the logit of a learned rate would draw the rate to 1/2, and the loss of learned rates already decays the
    weights that read what it drops.
    """
    learned = [module for module in model.modules() if isinstance(module, ConcreteDropout)]
    free = {id(module.p_logit) for module in learned}
    free |= {id(module.reader[0].weight) for module in learned if module.reader is not None}
    decayed = [parameter for parameter in model.parameters() if id(parameter) not in free]
    others = [parameter for parameter in model.parameters() if id(parameter) in free]
    return [{"params": decayed}, *([{"params": others, "weight_decay": 0.0}] if others else [])]


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


def _fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    features: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch that is supported
    return bool(features.get("avx512_bf16") or features.get("amx_bf16") or features.get("bf16"))
