"""What a comparison is told."""

from dataclasses import dataclass, fields
from typing import Annotated

from tyro.conf import arg

from dropkit.errors import DropkitError
from dropkit.runs.config import Count, MaybeCount, TrainConfig, TrainOptions, require_number

DEFAULT_POLICIES = ("none", "fc=0.5", "conv=0.1,fc=0.5")
NO_CONVOLUTIONS = {"mlp"}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is compared, by what, and how often."""

    policies: Annotated[tuple[str, ...] | None, arg(metavar="POLICY [POLICY ...]", help_behavior_hint="")] = None
    """Held against the first; "fc=0.5;lr=0.01" varies more than dropout (default: none fc=0.5 conv=0.1,fc=0.5)."""

    sweep: Annotated[str | None, arg(metavar="POLICY", help_behavior_hint="")] = None
    """Instead of --policies, one with a range of rates START:STOP:STEP, as in fc=0:0.8:0.1."""

    seeds: MaybeCount = None
    """Trainings of each policy, with one seed after the other (default: 5; at least 3). Decide on them beforehand."""

    folds: MaybeCount = None
    """For small sets: test on each of N equal parts in turn (at least 3); --seeds are then repetitions (default: 1)."""

    first_seed: Count = 0
    """Seed of the first training of each policy. A second study with fresh seeds does not repeat the first one's."""

    metric: Annotated[str, arg(metavar="{error,nll,balanced-error}")] = "error"
    """What the verdict is about, declared beforehand: wrong pictures, test loss, or wrong pictures a class."""

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
        if self.sweep is not None and self.policies is not None:
            raise DropkitError("give either policies or a sweep, not both")

    def configs(self) -> list[TrainConfig]:
        """Return a training for each policy, with the seed still to be set."""
        from dropkit.studies.arms import arm_config  # here: the command's help needs no torch
        from dropkit.studies.sweep import Sweep

        options = {field.name: getattr(self, field.name) for field in fields(TrainOptions) if field.name != "out"}
        arms = Sweep.parse(self.sweep).policies if self.sweep is not None else self.policies or self._default_policies()
        return [arm_config(TrainConfig(**options), text) for text in arms]

    def _default_policies(self) -> tuple[str, ...]:
        alone = self.pretrained or self.model in NO_CONVOLUTIONS  # there is nothing but a head, or no convolution
        return tuple(text for text in DEFAULT_POLICIES if not alone or "conv" not in text)
