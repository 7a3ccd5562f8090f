"""What successive halving costs and is worth: finished studies' curves looked up, nothing trained.

    python benchmarks/halving.py STUDY [STUDY ...] [--draws 2000] [--trials 28] [--seed 0]

STUDY is the folder of a finished `dropkit compare` over a grid of policies (as benchmarks/rate_grid.py reads it), every
training of as many --epochs; several are the same grid with other seeds. A draw takes one seed for all its trials and
draws their policies from the grid, with replacement. Trials are divided into generations and thinned out as
`dropkit.studies.halving` says, by one criterion or another, or at earlier rungs; of those that come to the end the
lowest loss is chosen. Beside that:

- all whole: no halving;
- fewer whole: as many of the draw's trials, whole, as halving's epochs allow;
- random: the draw's first policy.

Regret: the chosen policy's mean lowest validation loss over the seeds that chose nothing, less the lowest mean that
any policy has over them; the same seeds judge all rows of a draw. That lowest mean is low by chance too, so no row
gets to 0. All seeds share the validation pictures: what suits these pictures alone is no regret here, but shows in
the test loss and error, means over the judging seeds too.
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from dropkit.files import read_json
from dropkit.studies.halving import best_third, generations, rungs

Array = NDArray[np.float64]
Criterion = Callable[[Sequence[float]], float]
Rungs = Callable[[int], tuple[int, ...]]


def heading(losses: Sequence[float]) -> float:
    """Return the mean loss of the last quarter of the epochs, and the change from the quarter before once more."""
    width = max(2, len(losses) // 4)
    late, early = losses[-width:], losses[-2 * width : -width]
    last = math.fsum(late) / len(late)
    return last if not early else 2 * last - math.fsum(early) / len(early)


def earlier(epochs: int) -> tuple[int, ...]:
    """Return the rungs of halving by thirds."""
    return math.ceil(epochs / 9), math.ceil(epochs / 3)


CRITERIA: dict[str, Criterion] = {"last": lambda losses: losses[-1], "lowest so far": min, "heading": heading}
WAYS: dict[str, tuple[Rungs, str]] = {
    "halving, last": (rungs, "last"),
    "halving, lowest so far": (rungs, "lowest so far"),
    "halving, heading": (rungs, "heading"),
    "halving at a ninth and a third, last": (earlier, "last"),
    "halving at a ninth and a third, heading": (earlier, "heading"),
}


@dataclass(frozen=True)
class Grid:
    """The curves of a study, and what they come to.

    Attributes:
        losses: validation loss in nats, [policies, seeds, epochs].
        errors: test error at the epoch with the lowest validation loss, as a fraction, [policies, seeds].
        test_losses: test loss at the same epoch, in nats, [policies, seeds].
        scores: at every rung by every criterion, [policies, seeds].
    """

    losses: Array
    errors: Array
    test_losses: Array
    scores: Mapping[tuple[str, int], Array]

    @property
    def lowest(self) -> Array:
        """The lowest validation loss of each training, [policies, seeds]."""
        return self.losses.min(2)


@dataclass(frozen=True)
class Draw:
    """One search: a policy for each trial, the seed they train with, and the seeds that judge."""

    policies: NDArray[np.int64]
    seed: int
    judges: NDArray[np.int64]


def scored(losses: Array, criterion: Criterion) -> Array:
    """Return what a criterion says of every curve [policies, seeds, epochs]."""
    return np.array([[criterion(curve) for curve in row] for row in losses.tolist()])


def read_grid(folders: Sequence[Path]) -> Grid:
    """Return the curves of studies of the same policies, seeds side by side, or say why they cannot be looked up."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for folder in folders:
        if not (folder / "study.json").is_file():
            raise SystemExit(f"{folder} holds no study.json: give the folder of a finished `dropkit compare`")
        for run in read_json(folder / "study.json")["runs"]:  # a policy's seeds stand in the same order
            runs.setdefault(run["policy"], []).append(run)
    lengths = {len(run["epochs"]) for of_policy in runs.values() for run in of_policy}
    seeds = {tuple(run["seed"] for run in of_policy) for of_policy in runs.values()}
    if len(lengths) != 1 or len(seeds) != 1 or len(set(min(seeds))) < max(2, len(min(seeds))):
        raise SystemExit("give studies whose trainings are all as long, of the same policies, each with other seeds")
    losses = np.array([[[row["val_loss"] for row in run["epochs"]] for run in group] for group in runs.values()])
    tests = [[run["summary"]["test"] for run in group] for group in runs.values()]
    errors, test_losses = (np.array([[test[name] for test in row] for row in tests]) for name in ("error", "nll"))
    epochs = losses.shape[2]
    wanted = {(criterion, rung) for of_epochs, criterion in WAYS.values() for rung in of_epochs(epochs)}
    scores = {(name, rung): scored(losses[:, :, :rung], CRITERIA[name]) for name, rung in wanted}
    return Grid(losses, errors, test_losses, scores)


def drawn(grid: Grid, trials: int, rng: np.random.Generator) -> Draw:
    """Draw a search."""
    policies, seeds = grid.lowest.shape
    order = rng.permutation(seeds)
    return Draw(rng.integers(policies, size=trials), int(order[0]), order[1:])


def halved(grid: Grid, draw: Draw, of_epochs: Rungs, criterion: str) -> tuple[int, int]:
    """Return the policy that halving chooses, and the epochs that it took."""
    finalists, spent, epochs = [], 0, grid.losses.shape[2]
    for generation in generations(len(draw.policies)):
        alive, done = list(generation), 0
        for rung in of_epochs(epochs):
            spent += len(alive) * (rung - done)
            scores = grid.scores[criterion, rung][:, draw.seed]
            alive, done = best_third({trial: float(scores[draw.policies[trial]]) for trial in alive}), rung
        spent += len(alive) * (epochs - done)
        finalists += [int(draw.policies[trial]) for trial in alive]
    return min(sorted(finalists), key=lambda policy: grid.lowest[policy, draw.seed]), spent


def whole(grid: Grid, draw: Draw, count: int) -> tuple[int, int]:
    """Return the policy that the first trials choose if all train to their end, and their epochs."""
    policies = draw.policies[:count]
    return int(policies[grid.lowest[policies, draw.seed].argmin()]), len(policies) * grid.losses.shape[2]


def choices(grid: Grid, draw: Draw) -> dict[str, tuple[int, int]]:
    """Return what each way of searching chooses, and the epochs that it takes."""
    found = {name: halved(grid, draw, *way) for name, way in WAYS.items()}
    affordable = max(1, found["halving, last"][1] // grid.losses.shape[2])
    found["all whole"] = whole(grid, draw, len(draw.policies))
    found["fewer whole"] = whole(grid, draw, affordable)
    found["random"] = whole(grid, draw, 1)
    return found


def judged(grid: Grid, draw: Draw, choice: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return (epochs, regret in nats, test loss in nats, test error as a fraction) of a choice."""
    chosen, epochs = choice
    means = grid.lowest[:, draw.judges].mean(1)
    test_loss, error = (of[chosen, draw.judges].mean() for of in (grid.test_losses, grid.errors))
    return epochs, means[chosen] - means.min(), test_loss, error


def standard_error(values: Array, draws: Sequence[Draw], seeds: int) -> float:
    """Return the standard error of a mean over draws whose unit is the seed.

    Seeds choose and judge. Draws are put together by the seed they train with, and by the seeds that choose nothing;
    the spread of the groups' means, over as many independent values as there are seeds, is an error: the larger counts.
    """
    roles = ([draw.seed for draw in draws], [tuple(sorted(draw.judges)) for draw in draws])
    errors = []
    for role in roles:
        groups: dict[Any, list[float]] = {}
        for group, value in zip(role, values, strict=True):
            groups.setdefault(group, []).append(value)
        means = [np.mean(group) for group in groups.values()]
        errors.append(np.std(means, ddof=1) / math.sqrt(seeds) if len(means) > 1 else math.nan)
    return float(np.fmax(*errors))


def report(grid: Grid, draws: Sequence[Draw]) -> None:
    """Print the table."""
    seeds = grid.lowest.shape[1]
    made = [choices(grid, draw) for draw in draws]
    results = {
        name: np.array([judged(grid, draw, found[name]) for draw, found in zip(draws, made, strict=True)])
        for name in made[0]
    }
    ours = next(iter(results.values()))

    def with_error(values: Array, sign: str = "") -> str:
        return f"{values.mean():{sign}.4f} ±{standard_error(values, draws, seeds):.4f}"

    print("| search | epochs | regret, nats | less last's | test loss, nats | less last's | test error |")
    print("|---" * 7 + "|")
    for name, values in results.items():
        cells = [f"{values[:, 0].mean():.0f}"]
        for column in (1, 2):
            cells += [with_error(values[:, column]), with_error(values[:, column] - ours[:, column], "+")]
        print(f"| {name} | {' | '.join(cells)} | {values[:, 3].mean():.2%} |")
    print(
        f"\n±: one standard error with the seed as the unit. The {len(draws)} draws share {seeds} seeds: more draws do "
        f"not make it smaller, and {seeds} seeds tell it roughly."
    )


def foretold(grid: Grid, epoch: int) -> float:
    """Return how well a training's loss at an epoch ranks the policies: Spearman's correlation with their mean lowest
    loss of the other seeds, mean over the seeds."""
    seeds = range(grid.losses.shape[1])
    others = [grid.lowest[:, [seed for seed in seeds if seed != own]].mean(1) for own in seeds]
    return float(np.mean([spearmanr(grid.losses[:, own, epoch - 1], others[own]).statistic for own in seeds]))


def main() -> None:
    """Read, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, nargs="+")
    for name, default in (("draws", 2000), ("trials", 28), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    if min(given.draws, given.trials) < 1:
        parser.error("give at least 1 draw and at least 1 trial")
    grid = read_grid(given.study)
    policies, seeds, epochs = grid.losses.shape
    rng = np.random.default_rng(given.seed)
    print(f"{policies} policies x {seeds} seeds x {epochs} epochs; {given.trials} trials, rungs {rungs(epochs)}\n")
    report(grid, [drawn(grid, given.trials, rng) for _ in range(given.draws)])
    draws = [drawn(grid, given.trials, np.random.default_rng([given.seed, draw])) for draw in range(given.draws)]
    print("regret of so many whole trials, nats:")
    for count in range(1, given.trials + 1):
        regret = np.mean([judged(grid, draw, whole(grid, draw, count))[1] for draw in draws])
        print(f"  {count:2d} ({count * epochs:5,d} epochs): {regret:.4f}")
    at = sorted({*rungs(epochs), *earlier(epochs), epochs})
    told = ", ".join(f"{foretold(grid, epoch):.2f} at epoch {epoch}" for epoch in at)
    print(f"rank correlation of the last loss with the lowest of other seeds: {told}")
    print(f"numpy {np.__version__}")


if __name__ == "__main__":
    main()
