"""What a recipe is made of: rows with their trainings, the paper's values, and what the paper's order claims."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from dropkit.errors import DropkitError, unknown
from dropkit.runs.config import TrainConfig, safe_name

BUDGETS = ("quick", "paper")
_FEWEST_PICTURES = 200  # of a recipe that is scaled down: 20 of each of ten classes


@dataclass(frozen=True)
class PaperValue:
    """A figure of the paper, in the unit of its row's measure.

    Attributes:
        value: the figure; a fraction for errors.
        spread: what stands behind the paper's plus-minus sign; None where it gives none.
        about: True where the paper gives the figure in words ("about 2.0"), not in a table.
    """

    value: float
    spread: float | None = None
    about: bool = False


def percent(value: float, spread: float | None = None) -> PaperValue:
    """Return an error that the paper gives in percent.

    >>> percent(1.08, 0.04)
    PaperValue(value=0.0108, spread=0.0004, about=False)
    """
    return PaperValue(round(value / 100, 12), None if spread is None else round(spread / 100, 12))


@dataclass(frozen=True)
class Measure:
    """What is measured of a training.

    Attributes:
        kind: "error" (share of wrong test pictures), "average" (the same, of an average of thinned networks),
            "activation" (mean activation of the first hidden layer) or "zeros" (share of its activations that are
            exactly 0).
        draws: of an average, how many thinned networks.
    """

    kind: str = "error"
    draws: int = 0

    def __post_init__(self) -> None:
        """Refuse what is not measured."""
        if self.kind not in WORDS:
            raise unknown("measure", self.kind, WORDS)
        if (self.kind == "average") != (self.draws > 0):
            raise DropkitError(f"a measure {self.kind!r} of {self.draws} draws: an average has 1 or more, others none")

    @property
    def words(self) -> str:
        """What it is called."""
        return WORDS[self.kind]

    @property
    def is_error(self) -> bool:
        """Whether it is a share of wrong test pictures."""
        return self.kind in ("error", "average")


WORDS = {
    "error": "test error",
    "average": "test error",
    "activation": "mean activation",
    "zeros": "share of activations that are 0",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table, or one point of a figure.

    Attributes:
        name: what it is called.
        config: how it is trained; its data are the name of a source ("mnist" or "cifar10"), its seed does not count.
        measure: what is measured.
        paper: the paper's figure; None where it gives none.
        series: the curve that the point belongs to; "" for a row of a table.
        x: where on the axis of the recipe the point lies.
    """

    name: str
    config: TrainConfig
    measure: Measure = field(default_factory=Measure)
    paper: PaperValue | None = None
    series: str = ""
    x: float | None = None


@dataclass(frozen=True)
class Claim:
    """What the paper's figures imply of two rows: that one is lower than the other, or as low.

    Attributes:
        lower: name of the row that the paper finds lower.
        higher: name of the other one.
        alike: True where the paper finds them alike: then a difference would speak against it.
    """

    lower: str
    higher: str
    alike: bool = False


@dataclass(frozen=True)
class Mark:
    """What the means of a recipe are to reach.

    Attributes:
        sentence: what is asked for.
        rows: names of the rows that it is about; nothing is said before all of them have a mean.
        reached: from the means of the rows, by name, to whether it is.
    """

    sentence: str
    rows: tuple[str, ...]
    reached: Callable[[Mapping[str, float]], bool]


@dataclass(frozen=True)
class Sizes:
    """How many of a source's training pictures are trained on, and how many choose the epoch. All are tested on."""

    train: int
    val: int


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that a table or figure of a paper is made again from.

    Attributes:
        paper: the paper's short name.
        table: the table's or figure's, such as "table-9".
        budget: "quick" or "paper".
        title: what it is about.
        where: where it stands in the paper.
        rows: in the paper's order.
        pictures: how many of each source are taken.
        claims: what the paper's order implies.
        why: a clause: what, in this budget, keeps the figures from the paper's.
        differences: what is not as in the paper, a sentence each.
        marks: what the means are to reach.
        seeds: trainings of each row.
        axis: what x is, where rows are points.
        logarithmic: whether x is drawn by its logarithm.

    Raises:
        DropkitError: if rows share a name, or a claim or a mark names none.
    """

    paper: str
    table: str
    budget: str
    title: str
    where: str
    rows: tuple[Row, ...]
    pictures: Mapping[str, Sizes]
    claims: tuple[Claim, ...]
    why: str
    differences: tuple[str, ...]
    marks: tuple[Mark, ...] = ()
    seeds: int = 3
    axis: str = ""
    logarithmic: bool = False

    def __post_init__(self) -> None:
        """Check that names are told apart, and that all that refers to one finds it."""
        names = [row.name for row in self.rows]
        if len(set(names)) < len(names) or len(set(self.trainings())) < len(set(map(training_of, self.rows))):
            raise DropkitError(f"two rows of {self.table} have one name: {', '.join(names)}")
        asked = [name for claim in self.claims for name in (claim.lower, claim.higher)]
        asked += [name for mark in self.marks for name in mark.rows]
        for name in asked:
            if name not in names:
                raise unknown(f"row of {self.table}", name, names)

    def row(self, name: str) -> Row:
        """Return the row of a name."""
        return next(row for row in self.rows if row.name == name)

    def trainings(self) -> dict[str, TrainConfig]:
        """Return the different trainings, by the name of their folder; rows that share one measure it in several ways.

        The name is that of the first row that is trained so.
        """
        first: dict[TrainConfig, str] = {}
        for row in self.rows:
            first.setdefault(training_of(row), safe_name(row.name))
        return {name: config for config, name in first.items()}

    def scaled(self, factor: float) -> "Recipe":
        """Return the recipe with a share of its pictures and epochs, to try out in seconds what takes hours."""
        rows = tuple(dataclasses.replace(row, config=_shorter(row.config, factor)) for row in self.rows)
        pictures = {
            name: Sizes(*(max(_FEWEST_PICTURES, math.ceil(count * factor)) for count in (sizes.train, sizes.val)))
            for name, sizes in self.pictures.items()
        }
        return dataclasses.replace(self, rows=rows, pictures=pictures)


def training_of(row: Row) -> TrainConfig:
    """Return how a row is trained, with the seed still to be set."""
    return dataclasses.replace(row.config, seed=0, out=None)


def _shorter(config: TrainConfig, factor: float) -> TrainConfig:
    assert config.epochs is not None  # a recipe says how long it trains
    epochs = max(1, math.ceil(config.epochs * factor))
    return dataclasses.replace(config, epochs=epochs, max_epochs=epochs)


def at_most(row: str, limit: float) -> Mark:
    """Return the mark that a row's mean error is at or under a limit in percent."""
    return Mark(f"{row}: at or under {limit:g}%", (row,), lambda means: 100 * means[row] <= limit)


def near_paper(rows: tuple[Row, ...], points: float) -> Mark:
    """Return the mark that every row's mean error is within so many points of the paper's, or better."""
    known = {row.name: row.paper.value for row in rows if row.paper is not None}

    def reached(means: Mapping[str, float]) -> bool:
        return all(100 * (means[name] - value) <= points + 1e-9 for name, value in known.items())

    return Mark(f"every row within {points:g} points of the paper's, or better", tuple(known), reached)


def falling(*rows: str) -> Mark:
    """Return the mark that the rows' means fall from each to the next."""

    def reached(means: Mapping[str, float]) -> bool:
        values = [means[name] for name in rows]
        return all(a > b for a, b in pairwise(values))

    return Mark(f"in the paper's order: {' > '.join(rows)}", rows, reached)


def no_worse(row: str, other: str) -> Mark:
    """Return the mark that a row's mean is no higher than another's."""
    return Mark(f"{row} no worse than {other}", (row, other), lambda means: means[row] <= means[other])
