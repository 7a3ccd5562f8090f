"""What a training is told: one frozen dataclass, whose fields are also the options of the command."""

import dataclasses
import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import FlagCreatePairsOff, Positional, arg
from tyro.constructors import PrimitiveConstructorSpec

from dropkit.callables import name_of
from dropkit.errors import DropkitError, unknown
from dropkit.models.zoo_names import is_zoo

# Fields that say where and how fast, not what is computed: a run may go on with other values of these.
HOW_FIELDS = frozenset({"out", "threads", "device", "stream", "tensorboard"})
# The first version's fields. Of later ones only values other than the default decide what a folder is called and
# whether it holds the same training, so that what that version began is found again, and goes on.
_FIRST_FIELDS = frozenset(
    {"data", "model", "epochs", "patience", "min_steps", "max_epochs", "batch_size", "optimizer", "lr", "momentum"}
    | {"weight_decay", "max_train", "split_seed", "precision", "dropout", "seed"}
)
_DEFAULT_LR = {"adam": 1e-3, "adamw": 1e-3, "sgd": 0.05}
_CHOICES = {
    "optimizer": tuple(_DEFAULT_LR),
    "lr_schedule": ("constant", "cosine", "linear"),
    "precision": ("auto", "float32", "bfloat16"),
    "class_weights": ("none", "balanced"),
    "on_bad_image": ("stop", "skip"),
    "stream": ("auto", "yes", "no"),
}

# How options are shown in the command's help. Where the default depends on other things the field's text tells it.
Count = Annotated[int, arg(metavar="N")]
MaybeCount = Annotated[int | None, arg(metavar="N", help_behavior_hint="")]
Number = Annotated[float, arg(metavar="X")]
MaybeNumber = Annotated[float | None, arg(metavar="X", help_behavior_hint="")]
Text = Annotated[str, arg(metavar="NAME")]


class _Auto(int):
    """A batch size that is still to be found."""

    def __str__(self) -> str:
        return "auto"

    __repr__ = __str__


AUTO, DEFAULT_BATCH = _Auto(), 128


def _batch_size(text: str) -> int:
    """Return a batch size as the command has it.

    >>> _batch_size("auto"), _batch_size("64")
    (auto, 64)
    """
    if text == "auto":
        return AUTO
    try:
        return int(text)
    except ValueError:
        raise DropkitError(f"batch_size must be a whole number or auto, but got {text!r}") from None


_IN_COMMANDS: PrimitiveConstructorSpec[int] = PrimitiveConstructorSpec(
    nargs=1,
    metavar="N|auto",
    instance_from_str=lambda words: _batch_size(words[0]),
    is_instance=lambda value: isinstance(value, int),
    str_from_instance=lambda value: [str(value)],
)
BatchSize = Annotated[int, _IN_COMMANDS]
MaybeText = Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")]
MaybeFolder = Annotated[str | None, arg(metavar="DIR", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How to train, whatever the dropout and the seed."""

    # Each field's text is one line: the command's help would keep the line breaks of longer ones.
    data: Annotated[Positional[str], arg(metavar="DATA", help_behavior_hint="")]
    """digits (embedded), a folder with a sub-folder for each class, an .npz or .parquet file, or hub:ORG/NAME."""

    image_size: Annotated[str | None, arg(metavar="N", help_behavior_hint="")] = None
    """Resize and centre-crop pictures to N, to HEIGHTxWIDTH, or keep them: native (default: 64 for folders)."""

    augment: Annotated[str | None, arg(metavar="LIST", help_behavior_hint="")] = None
    """flip, crop, both as in flip,crop, none, or module:function (default: flip,crop for folders, else none)."""

    class_weights: Annotated[str, arg(metavar="{none,balanced}")] = "none"
    """balanced: in the loss, a picture of a rare class counts for more, so that all classes count alike."""

    group: Annotated[str | None, arg(metavar="REGEX", help_behavior_hint="")] = None
    """Pictures in whose path this finds the same text (or first bracket) show one object: never split apart."""

    on_bad_image: Annotated[str, arg(metavar="{stop,skip}")] = "stop"
    """What to do about files that cannot be read as pictures: stop and list them, or go on without them."""

    model: Text = "cnn"
    """cnn (the tutorial's), bn-cnn, res-cnn, paper-cnn, mlp[:WIDTHS]; timm:NAME, torchvision:NAME; path.py:function."""

    pretrained: FlagCreatePairsOff[bool] = False
    """Take the published weights of a timm or torchvision network, frozen, and train a new head on its features."""

    finetune: FlagCreatePairsOff[bool] = False
    """Take the published weights of a timm or torchvision network, and train all: a new head, the rest at lr / 10."""

    epochs: MaybeCount = None
    """Train for exactly N epochs (default: until the validation loss has not improved for --patience epochs)."""

    patience: Count = 10
    """Epochs without a better validation loss after which training stops; the best epoch's weights are kept."""

    min_steps: Count = 1000
    """Steps that are made before patience may stop the training."""

    max_epochs: Count = 200
    """Epochs after which training stops in any case, unless --epochs says more."""

    batch_size: BatchSize = 128
    """Pictures in a training step; auto takes 128, or as many as fit into the memory where those do not."""

    optimizer: Annotated[str, arg(metavar="{adam,adamw,sgd}")] = "adam"
    """Adam, AdamW, or SGD with Nesterov momentum."""

    lr: MaybeNumber = None
    """Learning rate (default: 0.001 for adam and adamw, 0.05 for sgd)."""

    lr_schedule: Annotated[str, arg(metavar="{constant,cosine,linear}")] = "constant"
    """Learning rate over the --epochs: constant, or falling to 0 as half a cosine or linearly."""

    momentum: Number = 0.9
    """Nesterov momentum of sgd."""

    weight_decay: Number = 0.0
    """L2 penalty (adam, sgd) or decoupled weight decay (adamw)."""

    max_norm: MaybeNumber = None
    """Greatest L2 norm of a unit's incoming weights; after a step, longer ones are scaled down (default: no limit)."""

    schedule: Annotated[str, arg(metavar="SCHEDULE")] = "constant"
    """Dropout rate over the --epochs: constant, linear, linear:UNTIL, early:UNTIL, late:START or curriculum:GAMMA."""

    max_train: MaybeCount = None
    """Train on a stratified subset of N pictures (default: on all)."""

    split_seed: Count = 0
    """Seed of the splits that the data does not come with. Runs that are compared share it."""

    stream: Annotated[str, arg(metavar="{auto,yes,no}")] = "auto"
    """Read pictures from disk while training; auto does so where they would fill more than half of the memory."""

    tensorboard: FlagCreatePairsOff[bool] = False
    """Write event files for TensorBoard into the run's folder too (extra tensorboard)."""

    precision: Annotated[str, arg(metavar="{auto,float32,bfloat16}")] = "auto"
    """bfloat16 computes forward and backward under autocast; auto takes it where the hardware is fast at it."""

    device: Text = "auto"
    """cpu, cuda or mps; auto takes a GPU where there is one."""

    threads: MaybeCount = None
    """CPU threads of one training (default: all, shared out where several trainings run at once)."""

    out: MaybeFolder = None
    """Folder for the results (default: a name made from the options, so the same command finds it again)."""

    def __post_init__(self) -> None:
        """Check every field that can be checked without the data."""
        self._check_paths()
        self._check_batch_size()
        for name in ("epochs", "patience", "max_epochs", "threads", "max_train"):
            require_number(name, getattr(self, name), whole=True, low=1)
        for name in ("min_steps", "split_seed"):
            require_number(name, getattr(self, name), whole=True, low=0)
        require_number("lr", self.lr, low=0.0, low_allowed=False)
        require_number("weight_decay", self.weight_decay, low=0.0)
        require_number("momentum", self.momentum, low=0.0, high=1.0)
        require_number("max_norm", self.max_norm, low=0.0, low_allowed=False)
        self._check_choices()
        for name in ("model", "augment"):
            self._name_function(name)
        for name in ("model", "image_size", "augment", "group", "device"):
            self._check_text(name)
        self._check_schedule()
        self._check_lr_schedule()
        self._check_pretrained()
        if self.epochs is not None and self.max_epochs < self.epochs:
            object.__setattr__(self, "max_epochs", self.epochs)

    def _check_choices(self) -> None:
        """Refuse what is not among the allowed names, or no yes or no."""
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise unknown(name, str(getattr(self, name)), allowed)
        for name in ("pretrained", "finetune", "tensorboard"):
            if not isinstance(getattr(self, name), bool):
                raise DropkitError(f"{name} must be True or False, but got {getattr(self, name)!r}")

    def _check_paths(self) -> None:
        """Take paths as texts, and refuse what is neither."""
        if not isinstance(self.data, str | os.PathLike) or not str(self.data).strip():
            raise DropkitError(f"data must be 'digits', an .npz file or a folder, but got {self.data!r}")
        object.__setattr__(self, "data", os.fspath(self.data))
        if self.out is not None:
            if not isinstance(self.out, str | os.PathLike):
                raise DropkitError(f"out must be the path of a folder, but got {self.out!r}")
            object.__setattr__(self, "out", os.fspath(self.out))

    def _check_batch_size(self) -> None:
        """Take `auto` for what it means, and refuse what is no number of pictures."""
        given: Any = self.batch_size
        if isinstance(given, str):
            object.__setattr__(self, "batch_size", _batch_size(given))
        if given is None:
            raise DropkitError("batch_size must be a whole number or auto, but got None")
        if not self.finds_batch_size:
            require_number("batch_size", self.batch_size, whole=True, low=1)

    def _name_function(self, name: str) -> None:
        """Take a function's name for the function itself, which may be given from Python."""
        given: Any = getattr(self, name)
        if callable(given):
            object.__setattr__(self, name, name_of(name, given))

    def _check_text(self, name: str) -> None:
        """Refuse an empty text; a number given for one (image_size=32) is taken as it would be written."""
        value = getattr(self, name)
        if isinstance(value, int) and not isinstance(value, bool):
            object.__setattr__(self, name, value := str(value))
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise DropkitError(f"{name} must be a text, or left out, but got {value!r}")

    def _check_schedule(self) -> None:
        """Refuse what is no schedule, and one whose end is not known beforehand."""
        if self.schedule == "constant":
            return
        from dropkit.layers.schedule import parse  # here: the command's help needs no torch

        parse(self.schedule)
        if self.epochs is None:
            raise DropkitError(
                f"schedule {self.schedule!r} follows the progress of a training whose length is known beforehand: "
                f"give the number of epochs too (--epochs N)"
            )

    def _check_lr_schedule(self) -> None:
        """Refuse a fall to 0 whose end is not known beforehand."""
        if self.lr_schedule != "constant" and self.epochs is None:
            raise DropkitError(
                f"lr_schedule {self.lr_schedule!r} ends with the training, whose length must be known beforehand: "
                f"give the number of epochs too (--epochs N)"
            )

    def _check_pretrained(self) -> None:
        """Refuse published weights where there are none, and what cannot be done with them."""
        if not self.published_weights:
            return
        if self.pretrained and self.finetune:
            raise DropkitError(
                "give either pretrained, which trains a new head alone, or finetune, which trains all of the network, "
                "not both"
            )
        name = "pretrained" if self.pretrained else "finetune"
        if not is_zoo(self.model):
            raise DropkitError(
                f"{name} takes published weights, and there are none for model {self.model!r}: give a network of a "
                f"library, such as --model timm:resnet18 or --model torchvision:resnet18"
            )
        if self.pretrained and self.augment is not None and self.augment.strip() != "none":
            raise DropkitError(
                f"with pretrained each picture's features are computed once, so that augment {self.augment!r} could "
                f"not act: leave it out, or train all of the network, with finetune"
            )

    @property
    def finds_batch_size(self) -> bool:
        """Whether the batch size is still to be found."""
        return isinstance(self.batch_size, _Auto)

    @property
    def model_name(self) -> str:
        """The network's name, without the folders of the user's own file."""
        return Path(self.model).name

    @property
    def published_weights(self) -> bool:
        """Whether the training begins with weights that a library publishes."""
        return self.pretrained or self.finetune

    @property
    def learning_rate(self) -> float:
        """The learning rate, the optimizer's default where none was given."""
        return _DEFAULT_LR[self.optimizer] if self.lr is None else self.lr

    @property
    def epoch_limit(self) -> int:
        """The most epochs that the training may take."""
        return self.max_epochs if self.epochs is None else self.epochs


@dataclass(frozen=True, kw_only=True)
class DropoutChoice:
    """What differs between the trainings of a comparison."""

    dropout: Annotated[str, arg(metavar="POLICY")] = "fc=0.5"
    """What is dropped where: none, model (as the network was built), or items such as conv=channel:0.1,fc=0.5."""

    seed: Count = 0
    """Seed of the initial weights, the batch order and the masks."""

    fold: Annotated[str | None, arg(metavar="I/K", help_behavior_hint="")] = None
    """Test on the I-th of K equal parts of the pictures and train on the others (default: one split, 70/15/15)."""


# A dataclass lists the fields of its last base first: what is asked for most stands first in the help.
@dataclass(frozen=True, kw_only=True)
class TrainConfig(TrainOptions, DropoutChoice):
    """One training: its data, network, dropout and seed.

    Raises:
        DropkitError: if a field is out of range; the message names it, its value and what is allowed.

    Example:
        >>> TrainConfig(data="digits", dropout="fc=0.5", epochs=10).learning_rate
        0.001
    """

    def __post_init__(self) -> None:
        """Check every field that can be checked without the data."""
        super().__post_init__()
        require_number("seed", self.seed, whole=True, low=0, high=2**63 - 1)
        self._check_text("fold")
        if not isinstance(self.dropout, str) or not self.dropout.strip():
            raise DropkitError(f"dropout must be a policy such as 'fc=0.5' or 'none', but got {self.dropout!r}")

    def identity(self) -> dict[str, Any]:
        """The fields that decide the result; those of later versions only where they are not the default."""
        defaults = default_fields()
        return {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if name not in HOW_FIELDS and (name in _FIRST_FIELDS or value != defaults[name])
        }

    def folder(self) -> Path:
        """Where the run is kept: `out`, or a name that the same options always give."""
        if self.out is not None:
            return Path(self.out)
        digest = short_hash(self.identity())
        return Path("runs") / safe_name(
            f"{Path(self.data).stem}-{self.model_name}-{self.dropout}-seed{self.seed}-{digest}"
        )


def default_fields() -> dict[str, Any]:
    """Return the default of every field of a training that has one."""
    return {f.name: f.default for f in dataclasses.fields(TrainConfig) if f.default is not dataclasses.MISSING}


def short_hash(fields: dict[str, Any]) -> str:
    """Return six hex digits that stand for the fields."""
    text = json.dumps(fields, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def safe_name(text: str) -> str:
    """Return `text` as a file name that every system takes; what it cannot hold becomes a hyphen."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._=+,-") else "-" for c in text).lstrip(".")[:120]


def require_number(
    name: str,
    value: Any,
    *,
    whole: bool = False,
    low: float = -math.inf,
    high: float = math.inf,
    low_allowed: bool = True,
) -> None:
    """Refuse a number that is out of range or of the wrong type. None means not given."""
    if value is None:
        return
    kind = "a whole number" if whole else "a number"
    right_type = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if right_type and math.isfinite(value) and low <= value <= high and (low_allowed or value > low):
        return
    least = f"of at least {low}" if low_allowed else f"greater than {low:g}"
    most = f" and at most {high}" if math.isfinite(high) else ""
    raise DropkitError(f"{name} must be {kind} {least}{most}, but got {value!r}")
