"""Is the verdict honest? Real trainings of networks whose difference is known beforehand.

1. Null: the SAME policy under two names with different seeds, on a small set drawn anew each time. Whatever differs is
   chance, so "helps" or "hurts" may come in at most 5% of the repetitions.
2. Planted: two policies that do differ. "helps" or "hurts" must come as often as the size of the difference and the
   number of seeds and pictures allow: what is predicted comes from a normal model with the mean and the variance
   components (seeds, pictures, rest) that all repetitions together show.

    python benchmarks/verdict_honesty.py [--repetitions 200] [--seeds 5 3] [--data digits] [--jobs 2]
    python benchmarks/verdict_honesty.py --folds 5 [--repetitions 200] [--seeds 1]

Each repetition draws training, validation and test pictures anew, without overlap, and trains 2 x seeds networks. The
planted differences are looked for with the first number of seeds alone.

With --folds the verdict is that of `dropkit compare --folds`: each repetition draws as many pictures in all, and
divides them by cross-validation, `seeds` times anew. What the t-test without the correction for shared training
pictures would find stands beside it. The policy under two names differs by its seeds alone, which the folds do not
share: it is found even more rarely than the correction promises.
"""

import argparse
import os
import platform
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from joblib import Parallel, delayed
from scipy.stats import binomtest, ttest_rel

import dropkit
from dropkit.data.pictures import Part, Pictures, join, load
from dropkit.data.split import Split, make_split
from dropkit.runs.config import TrainConfig
from dropkit.runs.environment import cpu_name
from dropkit.runs.fitting import Fit
from dropkit.runs.metrics import per_picture
from dropkit.studies.folds import fold_difference
from dropkit.studies.rounds import rounds
from dropkit.studies.statistics import Difference, paired_difference
from dropkit.studies.verdict import PolicyRuns, judge

NULL = ("fc=0.5", "fc=0.5")
PLANTED = (("none", "input=0.3"), ("none", "input=0.5"))


@dataclass(frozen=True)
class Outcome:
    """One repetition: what was decided, and the mean squares behind it; for folds also by the plain t-test."""

    verdict: str
    p_value: float
    mean: float
    seeds: float
    pictures: float
    rest: float
    plain_p_value: float = 1.0


def repetition(pictures: Pictures, names: tuple[str, str], number: int, args: argparse.Namespace) -> Outcome:
    """Train both policies with every seed on pictures of this repetition's own, and judge."""
    torch.set_num_threads(1)
    split = draw_split(len(pictures), number, args)
    same = names[0] == names[1]
    values, facts = [], []
    for side, name in enumerate(names):
        # Under the null the seeds differ between the two names: with equal ones the difference would be exactly 0.
        first = number * 1000 + (500 * side if same else 0)
        fits = [train(pictures, split, name, seed, args) for seed in range(first, first + args.current_seeds)]
        values.append(np.stack([per_test_picture(fit) for fit in fits]))
        best = [fit.progress.best_epoch for fit in fits]
        facts.append(PolicyRuns(name=f"{name} ({side})", mean=float(values[-1].mean()), best_epochs=best, budget=200))
    return outcome(paired_difference(*values), facts)


def outcome(difference: Difference, facts: list[PolicyRuns], plain_p_value: float = 1.0) -> Outcome:
    """Judge a difference as a study does."""
    verdict = judge(difference, metric="error", p_holm=difference.p_value, base=facts[0], other=facts[1])
    spread = (difference.spread.seeds, difference.spread.pictures, difference.spread.rest)
    return Outcome(verdict.kind, difference.p_value, difference.mean, *spread, plain_p_value)


def fold_repetition(pictures: Pictures, names: tuple[str, str], number: int, args: argparse.Namespace) -> Outcome:
    """Train both policies on every fold of pictures of this repetition's own, and judge."""
    torch.set_num_threads(1)
    drawn = draw_pictures(pictures, number, args.train + args.val + args.test)
    turns = rounds(0, args.current_seeds, args.folds)
    splits = [make_split(drawn, seed=number * 1000 + turn.repetition, fold=turn.fold) for turn in turns]
    same = names[0] == names[1]
    values, facts = [], []
    for side, name in enumerate(names):
        first = number * 1000 + (500 * side if same else 0)  # as in `repetition`
        fits = [train(drawn, split, name, first + turn.seed, args) for turn, split in zip(turns, splits, strict=True)]
        values.append([per_test_picture(fit) for fit in fits])
        mean = float(np.mean([each.mean() for each in values[-1]]))
        best = [fit.progress.best_epoch for fit in fits]
        facts.append(PolicyRuns(name=f"{name} ({side})", mean=mean, best_epochs=best, budget=200))
    n_train = float(np.mean([len(split.train) for split in splits]))
    difference = fold_difference(*values, folds=args.folds, n_train=n_train, n_pictures=len(drawn))
    means = [[each.mean() for each in of_side] for of_side in values]
    return outcome(difference, facts, float(np.nan_to_num(ttest_rel(*means).pvalue, nan=1.0)))


def draw_pictures(pictures: Pictures, number: int, count: int) -> Pictures:
    """Return so many of the pictures, as a set of their own without splits."""
    chosen = np.sort(np.random.default_rng([number, 7]).permutation(len(pictures))[:count])
    images, labels = pictures.read(chosen).numpy(), pictures.labels.numpy()[chosen]
    part = Part(None, images, labels, tuple(pictures.ids[i] for i in chosen))
    return join(pictures.name, [part], pictures.class_names)


def draw_split(count: int, number: int, args: argparse.Namespace) -> Split:
    """Return pictures for training, validation and test, drawn without overlap."""
    chosen = np.random.default_rng([number, 7]).permutation(count)[: args.train + args.val + args.test]
    parts = [np.sort(part) for part in np.split(chosen, [args.train, args.train + args.val])]
    return Split(*parts, seed=number, how="drawn for this repetition")


def train(pictures: Pictures, split: Split, policy: str, seed: int, args: argparse.Namespace) -> Fit:
    """Train one network to its plateau, as `dropkit train` does, and bring back its best weights."""
    config = TrainConfig(
        data=args.data, model=args.model, dropout=policy, seed=seed, batch_size=32, precision="float32"
    )
    fit = Fit(replace(config, patience=args.patience, min_steps=args.min_steps), pictures, split)
    while not fit.finished():
        fit.run_epoch()
    fit.model.load_state_dict(fit.best)
    return fit


def per_test_picture(fit: Fit) -> np.ndarray:
    """Return 0 or 1 for each test picture: whether it is misclassified."""
    return per_picture(fit.predict(fit.data.test).numpy(), fit.data.labels[fit.data.test].numpy(), "error")


def predicted_power(outcomes: list[Outcome], n_seeds: int, n_pictures: int, draws: int = 2000) -> float:
    """Return how often a normal model with these outcomes' mean and variance components would be found."""
    cells = n_seeds * n_pictures
    rest = cells * float(np.mean([outcome.rest for outcome in outcomes]))
    of_seed = max(0.0, n_seeds * float(np.mean([o.seeds for o in outcomes])) - rest / n_pictures)
    of_picture = max(0.0, n_pictures * float(np.mean([o.pictures for o in outcomes])) - rest / n_seeds)
    # Mean squares say how much the mean varies within a repetition's split; the split itself varies it too.
    observed = np.array([outcome.mean for outcome in outcomes])
    within = of_seed / n_seeds + of_picture / n_pictures + rest / cells
    of_split = max(0.0, float(observed.var(ddof=1)) - within)
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(draws):
        d = observed.mean() + of_split**0.5 * rng.standard_normal()
        d = d + of_seed**0.5 * rng.standard_normal((n_seeds, 1)) + of_picture**0.5 * rng.standard_normal(n_pictures)
        d = d + rest**0.5 * rng.standard_normal((n_seeds, n_pictures))
        found += paired_difference(np.zeros_like(d), d).p_value < 0.05
    return found / draws


def main() -> None:
    """Run all repetitions and print one line for each case."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--model", default="mlp")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", help="5 3; with --folds repetitions of it: 1")
    parser.add_argument("--folds", type=int, help="judge by cross-validation with so many folds")
    parser.add_argument("--train", type=int, default=200)
    parser.add_argument("--val", type=int, default=100)
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--patience", type=int, default=3)
    parser.add_argument("--min-steps", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    args = parser.parse_args()
    args.seeds = args.seeds or ([5, 3] if args.folds is None else [1])

    pictures = load(args.data)
    versions = f"dropkit {dropkit.__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    print(f"{versions}, {cpu_name()}, {args.jobs} jobs")
    print(describe(args) + "\n")
    unit, last = ("seeds", "predicted") if args.folds is None else ("repetitions", "found without the correction")
    print(f"| policies | {unit} | difference, points | found (p < .05) | 95% interval | {last} | verdicts |")
    print("|---|---|---|---|---|---|---|")
    began = time.perf_counter()
    for n_seeds in args.seeds:
        args.current_seeds = n_seeds
        for names in (NULL, *PLANTED) if n_seeds == args.seeds[0] else (NULL,):
            repeat = repetition if args.folds is None else fold_repetition
            work = (delayed(repeat)(pictures, names, number, args) for number in range(args.repetitions))
            report(names, list(Parallel(n_jobs=args.jobs)(work)), args)
    print(f"\n{time.perf_counter() - began:.0f} s")


def describe(args: argparse.Namespace) -> str:
    """Say what is trained on what."""
    drawn = f"drawn anew in each of {args.repetitions} repetitions; patience {args.patience}"
    if args.folds is not None:
        total = args.train + args.val + args.test
        return f"{args.data}, {args.model}: {args.folds} folds of {total} pictures {drawn}"
    sizes = f"{args.train} training, {args.val} validation, {args.test} test pictures"
    return f"{args.data}, {args.model}: {sizes}, {drawn}"


def last_column(outcomes: list[Outcome], same: bool, args: argparse.Namespace) -> str:
    """Return what is predicted; for folds what the plain t-test finds."""
    if args.folds is not None:
        return f"{np.mean([outcome.plain_p_value < 0.05 for outcome in outcomes]):.3f}"
    return "at most .05" if same else f"{predicted_power(outcomes, args.current_seeds, args.test):.2f}"


def report(names: tuple[str, str], outcomes: list[Outcome], args: argparse.Namespace) -> None:
    """Print one case as a row of the table."""
    found = sum(outcome.p_value < 0.05 for outcome in outcomes)
    interval = binomtest(found, len(outcomes)).proportion_ci()
    same = names[0] == names[1]
    predicted = last_column(outcomes, same, args)
    kinds = {
        kind: sum(outcome.verdict == kind for outcome in outcomes)
        for kind in ("helps", "hurts", "none", "undertrained")
    }
    label = f"{names[0]} twice, different seeds" if same else " against ".join(reversed(names))
    mean = 100 * np.mean([outcome.mean for outcome in outcomes])
    print(
        f"| {label} | {args.current_seeds} | {mean:+.2f} | {found / len(outcomes):.3f} | "
        f"{interval.low:.3f} to {interval.high:.3f} | {predicted} | "
        + ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
        + " |",
        flush=True,
    )


if __name__ == "__main__":
    main()
