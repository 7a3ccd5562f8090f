"""How well entropy and mutual information tell another data set's pictures: Fashion-MNIST and MNIST, either way.

    python benchmarks/out_of_distribution.py FASHION_MNIST.npz MNIST.npz [--epochs 5] [--seeds 3] [--samples 50]
        [--dropout conv=0.1,fc=0.5] [--out DIR]

Trains the tutorial's network on each of the two, once for each seed, and measures with `dropkit uncertainty`'s function
on its test pictures and as many of the other set: AUROC of the entropy of the single pass (weight scaling), and of the
entropy and the mutual information of n thinned networks. Prints mean and 95% interval (Student's t) over the seeds. The
trainings are kept in DIR and made once.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from dropkit.runs.config import TrainConfig
from dropkit.runs.environment import cpu_name
from dropkit.runs.training import train
from dropkit.runs.uncertainty import measure


def row(values: list[float]) -> str:
    """Return mean and half width of the 95% interval."""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{np.mean(values):.3f} ±{half:.3f}"


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs=2)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--dropout", default="conv=0.1,fc=0.5")
    parser.add_argument("--out", default="studies/out-of-distribution")
    options = parser.parse_args()
    print(f"{cpu_name()}, torch {torch.__version__}; {options.dropout}, {options.epochs} epochs, n = {options.samples}")
    print("\n| trained on | told from | test error | entropy, single pass | entropy, n draws | mutual information |")
    print("|---|---|---|---|---|---|")
    for inside, outside in (options.data, options.data[::-1]):
        found: dict[str, list[float]] = {}
        for seed in range(options.seeds):
            name = f"{Path(inside).stem}-{options.dropout}-{options.epochs}-{seed}"
            config = TrainConfig(
                data=inside,
                dropout=options.dropout,
                epochs=options.epochs,
                seed=seed,
                out=str(Path(options.out) / name),
            )
            run = train(config, progress=sys.stderr.isatty())
            told = measure(run, samples=options.samples, ood=outside, progress=sys.stderr.isatty())["ood"]["auroc"]
            for key, value in told.items():
                found.setdefault(key, []).append(value)
            found.setdefault("error", []).append(100 * run.summary["test"]["error"])
        cells = [row(found[key]) for key in found if key != "error"]
        print(f"| {Path(inside).stem} | {Path(outside).stem} | {row(found['error'])} % | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
