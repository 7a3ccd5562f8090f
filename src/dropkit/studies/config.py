"""What a comparison, a search and a reproduction are told."""

from dataclasses import dataclass, fields
from typing import Annotated, Any

from tyro.conf import Positional, arg

from dropkit.errors import DropkitError
from dropkit.runs.config import Count, MaybeCount, MaybeFolder, TrainConfig, TrainOptions, require_number

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


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Where the trainings of a study compute: in processes of this machine, or on the nodes of a Ray cluster."""

    workers: MaybeCount = None
    """Trainings at a time (default: one for each core, one in all where there is a GPU; as many as a cluster holds)."""

    ray: Annotated[str | None, arg(metavar="ADDRESS", help_behavior_hint="")] = None
    """Train on a running Ray cluster: auto, HOST:PORT or ray://HOST:PORT (extra ray)."""

    cpus_per_trial: Annotated[float | None, arg(metavar="N", help_behavior_hint="")] = None
    """With --ray: CPUs of each training, and its threads (default: 1)."""

    gpus_per_trial: Annotated[float | None, arg(metavar="N", help_behavior_hint="")] = None
    """With --ray: GPUs of each training, or a share such as 0.25 (default: 0, which trains on the CPU)."""

    def execution(self) -> dict[str, Any]:
        """Return these fields alone, as `dropkit.compare` takes them."""
        return {field.name: getattr(self, field.name) for field in fields(Execution)}


# The last base's fields come first, as in TrainConfig.
@dataclass(frozen=True, kw_only=True)
class CompareConfig(TrainOptions, Execution, Comparison):
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
        alone = (
            self.pretrained or self.model.partition(":")[0] in NO_CONVOLUTIONS
        )  # there is nothing but a head, or no convolution
        return tuple(text for text in DEFAULT_POLICIES if not alone or "conv" not in text)


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What is searched, for how long, and how it is confirmed."""

    trials: MaybeCount = None
    """Policies to try on the validation pictures, no dropout and fc=0.5 among them (default: 30)."""

    budget: Annotated[str | None, arg(metavar="TIME", help_behavior_hint="")] = None
    """As many trials as fit into a time such as 20m, with the confirmation's trainings, instead of --trials."""

    sites: Annotated[str | None, arg(metavar="SITE,SITE", help_behavior_hint="")] = None
    """Where to drop, as a policy names sites (default: conv,fc; head in place of fc where there is only that)."""

    kinds: Annotated[str | None, arg(metavar="KIND,KIND", help_behavior_hint="")] = None
    """What may be dropped, as far as it can act at a site (default: unit,channel,dropblock)."""

    weight_decays: Annotated[str | None, arg(metavar="X,X", help_behavior_hint="")] = None
    """Weight decays to choose from beside --weight-decay (default: 0,1e-5,1e-4,1e-3)."""

    seeds: MaybeCount = None
    """Fresh seeds with which the best policy is held against none and fc=0.5 (default: 5; at least 3)."""

    first_seed: Count = 0
    """Seed of the search; the seeds after it confirm."""

    metric: Annotated[str, arg(metavar="{error,nll,balanced-error}")] = "error"
    """What the verdict is about, declared beforehand: wrong pictures, test loss, or wrong pictures a class."""

    storage: Annotated[str | None, arg(metavar="URL", help_behavior_hint="")] = None
    """Where optuna keeps the trials, such as postgresql://USER@HOST/DATABASE (default: a file in the folder)."""


@dataclass(frozen=True, kw_only=True)
class TuneConfig(TrainOptions, Execution, Tuning):
    """What to search, and how each trial is trained.

    Raises:
        DropkitError: if a field is out of range; the message names it, its value and what is allowed.

    Example:
        >>> TuneConfig(data="digits", kinds="unit, channel", weight_decays="0,1e-4").choices()
        {'sites': None, 'kinds': ('unit', 'channel'), 'weight_decays': (0.0, 0.0001)}
    """

    def config(self) -> TrainConfig:
        """Return the training that every trial varies."""
        options = {field.name: getattr(self, field.name) for field in fields(TrainOptions) if field.name != "out"}
        return TrainConfig(**options, dropout="none", seed=self.first_seed)

    def choices(self) -> dict[str, Any]:
        """Return sites, kinds and weight decays, as `dropkit.tune` takes them."""
        decays = _parts(self.weight_decays, "weight_decays")
        return {
            "sites": _parts(self.sites, "sites"),
            "kinds": _parts(self.kinds, "kinds"),
            "weight_decays": None if decays is None else tuple(_decay(text) for text in decays),
        }


@dataclass(frozen=True, kw_only=True)
class ReproductionChoice:
    """What is made again, and from which pictures."""

    paper: Annotated[Positional[str], arg(metavar="PAPER", help_behavior_hint="")]
    """srivastava2014: Srivastava et al., Dropout, JMLR 15 (2014)."""

    table: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """Of srivastava2014: table-4, table-9, table-10, figure-8, figure-9 or figure-11."""

    budget: Annotated[str, arg(metavar="{quick,paper}")] = "quick"
    """quick: minutes on two cores, with few pictures and small networks; paper: the paper's, for a GPU."""

    data: MaybeFolder = None
    """Folder of mnist.npz and cifar10.npz (default: ../shared/data if they are there, else the hub: extra hub)."""

    seeds: MaybeCount = None
    """Trainings of each row, with seeds 0, 1, ... (default: the recipe's 3 or 5)."""

    out: MaybeFolder = None
    """Folder for the results (default: a name made from the options, so the same command finds it again)."""


# The last base's fields come first, as in TrainConfig.
@dataclass(frozen=True, kw_only=True)
class ReproduceConfig(Execution, ReproductionChoice):
    """Which table or figure of a paper to make again, and where it computes.

    Raises:
        DropkitError: if a number is out of range.

    Example:
        >>> ReproduceConfig(paper="srivastava2014", table="table-9").budget
        'quick'
    """

    def __post_init__(self) -> None:
        """Check every field that can be checked without the data."""
        for name in ("seeds", "workers"):
            require_number(name, getattr(self, name), whole=True, low=1)


def _parts(text: str | None, name: str) -> tuple[str, ...] | None:
    if text is None:
        return None
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise DropkitError(f"{name} must be names separated by commas, but got {text!r}")
    return parts


def _decay(text: str) -> float:
    try:
        decay = float(text)
    except ValueError:
        raise DropkitError(f"weight_decays must be numbers separated by commas, but got {text!r}") from None
    require_number("weight_decays", decay, low=0.0)
    return decay
