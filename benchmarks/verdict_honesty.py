"""Is the verdict honest? Real trainings of networks whose difference is known beforehand.

1. Null: the SAME policy under two names with different seeds, on a small set drawn anew each time. Whatever differs is
   chance, so "helps" or "hurts" may come in at most 5% of the repetitions.
2. Planted: two policies that do differ. "helps" or "hurts" must come as often as the size of the difference and the
   number of seeds and pictures allow: what is predicted comes from a normal model with the mean and the variance
   components (seeds, pictures, rest) that all repetitions together show.

    python benchmarks/verdict_honesty.py [--repetitions 200] [--seeds 5 3] [--data digits] [--jobs 2]

Each repetition draws training, validation and test pictures anew, without overlap, and trains 2 x seeds networks. The
planted differences are looked for with the first number of seeds alone.
"""

import argparse
import os
import platform
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from joblib import Parallel, delayed
from scipy.stats import binomtest

import dropkit
from dropkit.runs.config import TrainConfig
from dropkit.runs.environment import cpu_name
from dropkit.runs.fitting import Fit
from dropkit.runs.metrics import per_picture
from dropkit.runs.pictures import Pictures, load
from dropkit.runs.split import Split
from dropkit.studies.statistics import paired_difference
from dropkit.studies.verdict import PolicyRuns, judge

NULL = ("fc=0.5", "fc=0.5")
PLANTED = (("none", "input=0.3"), ("none", "input=0.5"))


@dataclass(frozen=True)
class Outcome:
    """One repetition: what was decided, and the mean squares behind it."""

    verdict: str
    p_value: float
    mean: float
    seeds: float
    pictures: float
    rest: float


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
    difference = paired_difference(*values)
    verdict = judge(difference, metric="error", p_holm=difference.p_value, base=facts[0], other=facts[1])
    spread = difference.spread
    return Outcome(verdict.kind, difference.p_value, difference.mean, spread.seeds, spread.pictures, spread.rest)


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
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 3])
    parser.add_argument("--train", type=int, default=200)
    parser.add_argument("--val", type=int, default=100)
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--patience", type=int, default=3)
    parser.add_argument("--min-steps", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    args = parser.parse_args()

    pictures = load(args.data)
    versions = f"dropkit {dropkit.__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    print(f"{versions}, {cpu_name()}, {args.jobs} jobs")
    print(
        f"{args.data}, {args.model}: {args.train} training, {args.val} validation, {args.test} test pictures, drawn "
        f"anew in each of {args.repetitions} repetitions; patience {args.patience}\n"
    )
    print("| policies | seeds | difference, points | found (p < .05) | 95% interval | predicted | verdicts |")
    print("|---|---|---|---|---|---|---|")
    began = time.perf_counter()
    for n_seeds in args.seeds:
        args.current_seeds = n_seeds
        for names in (NULL, *PLANTED) if n_seeds == args.seeds[0] else (NULL,):
            work = (delayed(repetition)(pictures, names, number, args) for number in range(args.repetitions))
            report(names, list(Parallel(n_jobs=args.jobs)(work)), args)
    print(f"\n{time.perf_counter() - began:.0f} s")


def report(names: tuple[str, str], outcomes: list[Outcome], args: argparse.Namespace) -> None:
    """Print one case as a row of the table."""
    found = sum(outcome.p_value < 0.05 for outcome in outcomes)
    interval = binomtest(found, len(outcomes)).proportion_ci()
    same = names[0] == names[1]
    predicted = "at most .05" if same else f"{predicted_power(outcomes, args.current_seeds, args.test):.2f}"
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
