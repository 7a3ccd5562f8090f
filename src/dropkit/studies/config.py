"""What a comparison is told."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from dropkit.errors import DropkitError
from dropkit.runs.config import (
    HOW_FIELDS,
    Count,
    MaybeCount,
    TrainConfig,
    TrainOptions,
    require_number,
    safe_name,
    short_hash,
)

DEFAULT_POLICIES = ("none", "fc=0.5", "conv=0.1,fc=0.5")
NO_CONVOLUTIONS = {"mlp"}
FEWEST_SEEDS = 3


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is compared, by what, and how often."""

    policies: Annotated[tuple[str, ...] | None, arg(metavar="POLICY [POLICY ...]", help_behavior_hint="")] = None
    """Policies, of which the others are held against the first (default: none fc=0.5 conv=0.1,fc=0.5)."""

    seeds: MaybeCount = None
    """Trainings of each policy, with one seed after the other (default: 5; at least 3). Decide on them beforehand."""

    first_seed: Count = 0
    """Seed of the first training of each policy. A second study with fresh seeds does not repeat the first one's."""

    metric: Annotated[str, arg(metavar="{error,nll}")] = "error"
    """What the verdict is about, declared before any training: share of wrong pictures, or test loss."""

    budget: Annotated[str | None, arg(metavar="TIME", help_behavior_hint="")] = None
    """Take as many seeds as fit into a time such as 20m (never fewer than 3), instead of --seeds."""

    workers: MaybeCount = None
    """Trainings at a time (default: one for each core; one in all where there is a GPU)."""


# The last base's fields come first, as in TrainConfig.
@dataclass(frozen=True, kw_only=True)
class CompareConfig(TrainOptions, Comparison):
    """Which policies to compare, and how each is trained.

    Raises:
        DropkitError: if a field is out of range; the message names it, its value and what is allowed.

    Example:
        >>> [config.dropout for config in CompareConfig(data="digits", policies=("none", "fc=0.5")).configs()]
        ['none', 'fc=0.5']
    """

    def __post_init__(self) -> None:
        """Check every field that can be checked without the data."""
        super().__post_init__()
        require_number("workers", self.workers, whole=True, low=1)

    def configs(self) -> list[TrainConfig]:
        """Return a training for each policy, with the seed still to be set."""
        shared = {field.name: getattr(self, field.name) for field in fields(TrainOptions) if field.name != "out"}
        return [TrainConfig(dropout=policy, **shared) for policy in self.policies or self._default_policies()]

    def _default_policies(self) -> list[str]:
        return [text for text in DEFAULT_POLICIES if self.model not in NO_CONVOLUTIONS or "conv" not in text]


def study_identity(configs: list[TrainConfig], metric: str, first_seed: int) -> dict[str, Any]:
    """Return what decides a comparison's result, except how many seeds it has."""
    shared = {name: value for name, value in configs[0].identity().items() if name not in ("dropout", "seed")}
    return {**shared, "policies": [config.dropout for config in configs], "metric": metric, "first_seed": first_seed}


def study_folder(configs: list[TrainConfig], metric: str, first_seed: int, out: str | Path | None) -> Path:
    """Return where the study is kept: `out`, or a name that the same options always give."""
    if out is not None:
        return Path(out)
    digest = short_hash(study_identity(configs, metric, first_seed))
    return Path("studies") / safe_name(f"{Path(configs[0].data).stem}-{configs[0].model}-{digest}")


def require_comparable(configs: list[TrainConfig]) -> None:
    """Refuse trainings that differ in more than their dropout, or that are the same twice.

    Raises:
        DropkitError: naming what is wrong.
    """
    if len(configs) < 2:
        given = ", ".join(repr(config.dropout) for config in configs) or "none"
        raise DropkitError(
            f"a comparison needs at least two policies, but got {given}: separate them by spaces, "
            f"as in --policies none fc=0.5"
        )
    names = [config.dropout for config in configs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DropkitError(f"the policy {twice[0]!r} is given twice: leave one of them out")
    first = asdict(configs[0])
    for config in configs[1:]:
        other = asdict(config)
        for name, value in first.items():
            if name not in HOW_FIELDS | {"dropout", "seed"} and other[name] != value:
                raise DropkitError(
                    f"the trainings of a comparison differ in their dropout alone, but {name} is {value!r} for "
                    f"{configs[0].dropout!r} and {other[name]!r} for {config.dropout!r}: make it the same"
                )
