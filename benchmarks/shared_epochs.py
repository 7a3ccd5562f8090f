"""Can the trials of a search share their first epochs? Trainings from the start against trainings from a branch.

    python benchmarks/shared_epochs.py DATA [--epochs 40] [--shared 5] [--seeds 3] [--policies conv=0.2,fc=0.5 ...]
        [--model cnn] [--max-train N] [--threads N]

For each seed one training without dropout makes the first `--shared` epochs. Each policy is then trained twice: from
the start with its rates, and from there on with its rates; weights, optimizer and order of the data go on as they
were. A training is worth the lowest validation loss of its epochs, the shared ones among them.

Prints means over the seeds, the paired differences (branch less start, in nats) with 95% intervals (Student's t over
the seeds), and Spearman's rank correlations between orders of the policies. One seed's order from the start against
another's says how well an order repeats at all; start and branch of one seed have its initial weights and data order
in common, two seeds do not. And whether the shared epochs are what each policy's network does at rate 0 to the bit.
"""

import argparse
import copy
import math
import time
from collections.abc import Callable
from itertools import combinations

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from dropkit import set_rate
from dropkit.data.pictures import Pictures
from dropkit.data.split import Split
from dropkit.errors import DropkitError
from dropkit.models.policy import Policy
from dropkit.runs.config import TrainConfig
from dropkit.runs.environment import cpu_name
from dropkit.runs.fitting import DivergedError, Fit
from dropkit.runs.intervals import mean_interval
from dropkit.runs.training import load_data

POLICIES = ("fc=0.25", "fc=0.8", "conv=0.2,fc=0.5", "conv=0.2,fc=0.8", "conv=0.5,fc=0.25", "conv=0.5,fc=0.5")

Array = NDArray[np.float64]
Make = Callable[[str, int], Fit]  # a training of (policy, seed), none of its epochs made


def train_until(fit: Fit, epoch: int) -> Fit:
    """Train until an epoch is done, or the loss is not finite: what came before counts."""
    try:
        while fit.progress.epoch < epoch:
            fit.run_epoch()
    except DivergedError:
        print(f"{fit.config.dropout}, seed {fit.config.seed}: diverged in epoch {fit.progress.epoch + 1}")
    return fit


def branched(fit: Fit, trunk: Fit) -> Fit:
    """Bring a training to where another one is."""
    fit.model.load_state_dict(trunk.model.state_dict())
    fit.optimizer.load_state_dict(copy.deepcopy(trunk.optimizer.state_dict()))  # it would share the tensors
    fit.progress = copy.deepcopy(trunk.progress)
    return fit


def distance_at_rate_0(fit: Fit, trunk: Fit) -> float:
    """Return the largest difference of a weight between the trunk and a policy's network trained at rate 0."""
    if not Policy.parse(fit.config.dropout).items:
        return 0.0
    set_rate(fit.model, 0.0)
    train_until(fit, trunk.progress.epoch)
    pairs = zip(fit.model.state_dict().values(), trunk.model.state_dict().values(), strict=True)
    return max((a.double() - b.double()).abs().max().item() for a, b in pairs)


def lowest_losses(make: Make, policies: list[str], seeds: int, epochs: int, shared: int) -> tuple[Array, Array]:
    """Return the lowest validation losses from the start and from the branch, each [policies, seeds]."""
    start, branch = np.empty((2, len(policies), seeds))
    for seed in range(seeds):
        trunk = train_until(make("none", seed), shared)
        for row, policy in enumerate(policies):
            start[row, seed] = train_until(make(policy, seed), epochs).progress.best_val_loss
            branch[row, seed] = train_until(branched(make(policy, seed), trunk), epochs).progress.best_val_loss
            print(f"{policy}, seed {seed}: {start[row, seed]:.4f} {branch[row, seed]:.4f}", flush=True)
    return start, branch


def rank_correlation(a: Array, b: Array) -> float:
    """Return Spearman's rank correlation; NaN of fewer than two different values."""
    return float(spearmanr(a, b).statistic) if min(len(np.unique(a)), len(np.unique(b))) > 1 else math.nan


def shown(differences: Array) -> str:
    """Return a mean difference and its 95% interval."""
    mean, low, high = mean_interval(list(differences))
    return f"{mean:+.4f}" if low is None else f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"


def report(policies: list[str], start: Array, branch: Array) -> None:
    """Print the table, the mean over all policies and the rank correlations."""
    print("\n| policy | from the start | from the branch | branch less start |\n|---|---|---|---|")
    for policy, own, others in zip(policies, start, branch, strict=True):
        print(f"| {policy} | {own.mean():.4f} | {others.mean():.4f} | {shown(others - own)} |")
    print(f"| all {len(policies)} | {start.mean():.4f} | {branch.mean():.4f} | {shown((branch - start).mean(0))} |")
    seeds = range(start.shape[1])
    own = [rank_correlation(start[:, seed], branch[:, seed]) for seed in seeds]
    repeats = [rank_correlation(start[:, a], start[:, b]) for a, b in combinations(seeds, 2)]
    print(
        f"\nrank correlation, start and branch, means over seeds: {rank_correlation(start.mean(1), branch.mean(1)):.2f}"
    )
    print(f"the same within a seed, mean of {len(own)}: {np.mean(own):.2f}")
    if repeats:
        print(f"start and start of two seeds, mean of {len(repeats)} pairs: {np.mean(repeats):.2f}")
    chosen = start[branch.mean(1).argmin()].mean() - start.mean(1).min()
    print(f"the policy that is lowest from the branch, less the lowest, both from the start: {chosen:+.4f}")


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    for name, default in (("epochs", 40), ("shared", 5), ("seeds", 3), ("max-train", None), ("threads", None)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--policies", nargs="+", default=list(POLICIES))
    parser.add_argument("--model", default="cnn")
    return parser


def maker(given: argparse.Namespace) -> Make:
    """Return what makes trainings on the data."""
    fixed = {"data": given.data, "model": given.model, "epochs": given.epochs, "max_train": given.max_train}
    data: tuple[Pictures, Split] = load_data(TrainConfig(**fixed))
    return lambda policy, seed: Fit(TrainConfig(**fixed, dropout=policy, seed=seed), *data)


def main() -> None:
    """Train and print."""
    parser = arguments()
    given = parser.parse_args()
    if not 1 <= given.shared < given.epochs or given.seeds < 1:
        parser.error("give at least 1 seed, at least 1 shared epoch, and more epochs than shared ones")
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    began = time.perf_counter()
    try:
        make = maker(given)
        fits = [make(policy, 0) for policy in given.policies]
    except DropkitError as error:
        parser.error(str(error))
    trunk = train_until(make("none", 0), given.shared)
    off = max(distance_at_rate_0(fit, trunk) for fit in fits)
    print(f"the policies' networks at rate 0, less none, after the shared epochs: {off or 'equal to the bit'}")
    start, branch = lowest_losses(make, given.policies, given.seeds, given.epochs, given.shared)
    report(given.policies, start, branch)
    each = len(given.policies) * given.seeds
    whole, saved = each * given.epochs, (each - given.seeds) * given.shared
    print(f"epochs: {whole} from the start, {whole - saved} from branches ({saved / whole:.0%} fewer)")
    print(f"{time.perf_counter() - began:.0f} s; {cpu_name()}, {torch.get_num_threads()} threads, {fits[0].dtype}")
    print(f"torch {torch.__version__}, numpy {np.__version__}, scipy {scipy.__version__}")


if __name__ == "__main__":
    main()
