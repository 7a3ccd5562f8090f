"""Rounds: what the trainings of all arms share, so that their differences are paired: a seed, and a fold where there
are folds."""

import dataclasses
from dataclasses import dataclass

from dropkit.runs.config import TrainConfig

FEWEST_FOLDS = 3


@dataclass(frozen=True)
class Round:
    """One training of every arm.

    Attributes:
        seed: of the initial weights, the batch order and the masks.
        repetition: in cross-validation, what is added to split_seed: each repetition divides the pictures anew.
        fold: in cross-validation, "k/K"; None without.
    """

    seed: int
    repetition: int = 0
    fold: str | None = None

    @property
    def name(self) -> str:
        """What a run's folder is called after its arm."""
        if self.fold is None:
            return f"seed{self.seed}"
        return f"repetition{self.repetition}-fold{self.fold.partition('/')[0]}"

    @property
    def words(self) -> str:
        """The same for people."""
        if self.fold is None:
            return f"seed {self.seed}"
        return f"repetition {self.repetition} fold {self.fold}"

    def training(self, config: TrainConfig) -> TrainConfig:
        """Return an arm's training in this round."""
        if self.fold is None:
            return dataclasses.replace(config, seed=self.seed)
        return dataclasses.replace(
            config, seed=self.seed, split_seed=config.split_seed + self.repetition, fold=self.fold
        )


def rounds(first: int, count: int, folds: int | None) -> list[Round]:
    """Return the rounds of a study: `count` seeds from `first` on, or as many repetitions of `folds` folds.

    Every fold has a seed of its own: with a common one the chance of the initial weights would be the same in all folds
    of a repetition, and would look like an effect.

    Example:
        >>> [(r.seed, r.repetition, r.fold) for r in rounds(1, 1, 3)]
        [(3, 1, '1/3'), (4, 1, '2/3'), (5, 1, '3/3')]
    """
    numbers = range(first, first + count)
    if folds is None:
        return [Round(seed) for seed in numbers]
    return [Round(r * folds + k, r, f"{k + 1}/{folds}") for r in numbers for k in range(folds)]


def describe_rounds(count: int, folds: int | None) -> str:
    """Say how many rounds there are: seeds, or repetitions of folds.

    >>> describe_rounds(5, None), describe_rounds(1, 10), describe_rounds(3, 10)
    ('5 seeds', '10 folds', '3 repetitions of 10 folds')
    """
    if folds is None:
        return f"{count} seed{'' if count == 1 else 's'}"
    return f"{folds} folds" if count == 1 else f"{count} repetitions of {folds} folds"
