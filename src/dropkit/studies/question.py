"""What a study asks: which arms, by which metric, in how many rounds; and the command that asks it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dropkit.errors import DropkitError, unknown
from dropkit.runs.config import TrainConfig, require_number, safe_name, short_hash
from dropkit.runs.metrics import METRICS
from dropkit.runs.run import changed_options, effective
from dropkit.studies.arms import arm_names, require_comparable, shared_config, varied_fields
from dropkit.studies.rounds import FEWEST_FOLDS, Round, describe_rounds, rounds
from dropkit.studies.sweep import Sweep

FEWEST_SEEDS = 3


@dataclass(frozen=True)
class Question:
    """A study, before anything is trained.

    Attributes:
        configs: a training of each arm; the first is what the others are held against.
        metric: what the verdict is about.
        first_seed: of the rounds.
        folds: K of a cross-validation; None for the one split.
        sweep: where the arms are the rates of a sweep.

    Raises:
        DropkitError: if the trainings cannot be compared, or an option is out of range.
    """

    configs: Sequence[TrainConfig]
    metric: str = "error"
    first_seed: int = 0
    folds: int | None = None
    sweep: Sweep | None = None

    def __post_init__(self) -> None:
        """Check everything that can be checked without the data."""
        require_comparable(self.configs)
        if self.metric not in METRICS:
            raise unknown("metric", str(self.metric), METRICS)
        require_number("first_seed", self.first_seed, whole=True, low=0)
        require_folds(self.folds)
        if self.folds is not None and self.configs[0].fold is not None:
            raise DropkitError(
                f"folds={self.folds} trains on every fold, but the trainings name fold {self.configs[0].fold!r}: "
                f"leave one of the two out"
            )

    @cached_property
    def names(self) -> list[str]:
        """What the arms are called."""
        return arm_names(self.configs)

    def rounds(self, count: int) -> list[Round]:
        """Return the rounds of `count` seeds, or repetitions."""
        return rounds(self.first_seed, count, self.folds)

    def describe_rounds(self, count: int) -> str:
        """Say how many rounds there are."""
        return describe_rounds(count, self.folds)

    def identity(self) -> dict[str, Any]:
        """Return what decides the study's result, except how many rounds it has."""
        apart = {"dropout", "seed", *varied_fields(self.configs)}
        shared = {name: value for name, value in self.configs[0].identity().items() if name not in apart}
        folds = {} if self.folds is None else {"folds": self.folds}
        return {**shared, "policies": self.names, "metric": self.metric, "first_seed": self.first_seed, **folds}

    def folder(self, out: str | Path | None) -> Path:
        """Return where the study is kept: `out`, or a name that the same options always give."""
        if out is not None:
            return Path(out)
        first = self.configs[0]
        return Path("studies") / safe_name(f"{Path(first.data).stem}-{first.model_name}-{short_hash(self.identity())}")

    def with_epochs_doubled(self) -> "Question":
        """Return the question with twice the epochs, or twice their limit, in every arm."""
        return replace(self, configs=[_with_epochs_doubled(config) for config in self.configs])

    def with_lower_rates(self) -> "Question":
        """Return the question with a tenth of the learning rate in every arm."""
        return replace(self, configs=[replace(c, lr=c.learning_rate / 10) for c in self.configs])

    def command(self, count: int, out: Path) -> str:
        """Return the command that makes the study with `count` seeds, or repetitions."""
        plain = replace(shared_config(self.configs), seed=0, out=None, threads=None)
        arms = ["--sweep", self.sweep.text] if self.sweep is not None else ["--policies", *self.names]
        words = ["dropkit", "compare", plain.data, *changed_options(plain), *arms]
        words += ["--folds", str(self.folds)] if self.folds is not None else []
        words += ["--seeds", str(count)]
        words += ["--first-seed", str(self.first_seed)] if self.first_seed else []
        return shlex.join([*words, "--metric", self.metric, "--out", str(out)])


def _with_epochs_doubled(config: TrainConfig) -> TrainConfig:
    twice = 2 * config.epoch_limit
    return replace(config, max_epochs=twice) if config.epochs is None else replace(config, epochs=twice)


def require_folds(folds: int | None) -> None:
    """Refuse a number of folds that leaves too few differences, or too little to train on."""
    require_number("folds", folds, whole=True, low=FEWEST_FOLDS)


def shared_fields(configs: Sequence[TrainConfig]) -> dict[str, Any]:
    """Return the fields that the trainings share, for people to read; those in which the arms differ say so."""
    varied = varied_fields(configs)
    aside = ("dropout", "seed", "out", "fold")
    fields = {name: value for name, value in effective(configs[0]).items() if name not in aside}
    return {name: "see the policies" if name in varied else value for name, value in fields.items()}
