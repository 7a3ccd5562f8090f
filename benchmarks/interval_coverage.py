"""How often dropkit's verdict is wrong, and how often it finds a real difference. Simulated, no training.

    python benchmarks/interval_coverage.py [--repetitions 1000]

False alarms: two policies that do not differ. Their differences are normal, D[s, i] = a[s] + b[i] + e[s, i]
(the rows say which parts vary, in shares of the mean's variance), or of right and wrong answers that each
seed draws anew. "flips" is the same policy under two names with different seeds; "flips, seeds" has seeds
that also make the whole network better or worse; "flips, pictures" has two policies that are good at
different pictures. The rates must be at most 5%.

Power: the same with a real difference of 2, 3 and 5 standard errors of the mean; the last row is what a judge
would find who knew all variances. With 3 seeds much is missed: nobody can know from 3 how much seeds vary.
"""

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dropkit.studies.statistics import Difference, paired_difference

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Array]
# shares of the variance of the mean: seeds, pictures, the chance of one seed on one picture
NORMAL = {
    "seeds": (1.0, 0.0, 0.0),
    "chance": (0.0, 0.0, 1.0),
    "pictures": (0.0, 1.0, 0.0),
    "seeds+pictures": (0.5, 0.5, 0.0),
    "seeds+chance": (0.5, 0.0, 0.5),
    "pictures+chance": (0.0, 0.5, 0.5),
    "all three": (0.34, 0.33, 0.33),
    "mostly seeds": (0.6, 0.2, 0.2),
}


def normal(shares: tuple[float, float, float], effect: float = 0.0) -> Draw:
    """Differences [S, N] whose mean has variance 1 and expectation `effect`."""

    def draw(rng: np.random.Generator, s: int, n: int) -> Array:
        a, b, e = np.sqrt(shares)
        seeds = a * np.sqrt(s) * rng.standard_normal((s, 1))
        pictures = b * np.sqrt(n) * rng.standard_normal((1, n))
        chance = e * np.sqrt(s * n) * rng.standard_normal((s, n)) if e else 0.0
        return np.asarray(effect + seeds + pictures + chance)

    return draw


def flips(seeds: float = 0.0, pictures: float = 0.0) -> Draw:
    """Differences of two policies with error 15% on average; spreads are of the logit of being wrong."""

    def draw(rng: np.random.Generator, s: int, n: int) -> Array:
        p = rng.beta(0.15, 0.85, n).clip(1e-9, 1 - 1e-9)
        logit = np.log(p / (1 - p))

        def wrong() -> Array:
            shift = seeds * rng.standard_normal((s, 1)) + pictures * rng.standard_normal((1, n))
            return np.asarray(rng.random((s, n)) < 1 / (1 + np.exp(-logit - shift)), dtype=np.float64)

        return wrong() - wrong()

    return draw


def found(draw: Draw, s: int, n: int, repetitions: int, rng: np.random.Generator) -> float:
    """The share of repetitions whose 95% interval excludes 0."""
    nothing = np.zeros((s, n))
    differences = (paired_difference(nothing, draw(rng, s, n)) for _ in range(repetitions))
    return sum(d.low > 0 or d.high < 0 for d in differences) / repetitions


def cases() -> Iterator[tuple[str, Draw]]:
    """Yield the models without a difference."""
    for name, shares in NORMAL.items():
        yield name, normal(shares)
    yield "flips", flips()
    yield "flips, seeds", flips(seeds=0.3)
    yield "flips, pictures", flips(pictures=1.0)


def false_alarms(repetitions: int, rng: np.random.Generator) -> None:
    """Print the table of false alarms."""
    sizes = [(s, n) for s in (3, 5, 10) for n in (100, 1000)]
    print(f"\nfalse alarms, % of {repetitions} repetitions (allowed: 5)\n")
    print(f"{'what varies':<18}" + "".join(f"{f'S={s} N={n}':>13}" for s, n in sizes))
    worst = 0.0
    for name, draw in cases():
        rates = [found(draw, s, n, repetitions, rng) for s, n in sizes]
        worst = max(worst, *rates)
        print(f"{name:<18}" + "".join(f"{100 * rate:>13.1f}" for rate in rates), flush=True)
    error = np.sqrt(0.05 * 0.95 / repetitions)
    print(f"\nworst: {100 * worst:.1f}%; one standard error at 5% is {100 * error:.2f}%")


def as_chosen(d: Difference) -> bool:
    """Whether the project's own interval excludes 0."""
    return d.low > 0 or d.high < 0


def satterthwaite(d: Difference) -> bool:
    """The same with the unbiased variance and Satterthwaite's degrees of freedom, the obvious choice."""
    s, n, spread = d.n_seeds, d.n_pictures, d.spread
    parts = (spread.seeds, s - 1), (spread.pictures, n - 1), (spread.rest, (s - 1) * (n - 1))
    variance = spread.seeds + spread.pictures - spread.rest
    if variance <= 0:
        return d.mean != 0
    df = variance**2 / sum(part**2 / own for part, own in parts)
    return bool(abs(d.mean) > stats.t.ppf(0.975, df) * variance**0.5)


def plain_bootstrap(d: Difference) -> bool:
    """The two-way bootstrap as it stands in Owen (2007), its variance in closed form, with normal quantiles."""
    of_seeds, of_pictures = 1 - 1 / d.n_seeds, 1 - 1 / d.n_pictures
    spread = d.spread
    variance = of_seeds * spread.seeds + of_pictures * spread.pictures + of_seeds * of_pictures * spread.rest
    return abs(d.mean) > 1.96 * variance**0.5


def rules(repetitions: int, rng: np.random.Generator) -> None:
    """Print the false alarms of other rules on the same draws."""
    choices = {"chosen": as_chosen, "Satterthwaite": satterthwaite, "plain bootstrap": plain_bootstrap}
    columns = [f"S={s} {name}" for s in (3, 5) for name in choices]
    print(f"\nfalse alarms of other rules, % of {repetitions} repetitions, N = 200 (allowed: 5)\n")
    print(f"{'what varies':<18}" + "".join(f"{column:>21}" for column in columns))
    for name, shares in NORMAL.items():
        rates = []
        for s in (3, 5):
            nothing, draw = np.zeros((s, 200)), normal(shares)
            drawn = [paired_difference(nothing, draw(rng, s, 200)) for _ in range(repetitions)]
            rates += [np.mean([rule(d) for d in drawn]) for rule in choices.values()]
        print(f"{name:<18}" + "".join(f"{100 * rate:>21.1f}" for rate in rates), flush=True)


def power(repetitions: int, rng: np.random.Generator) -> None:
    """Print how often a real difference is found."""
    effects = (2.0, 3.0, 5.0)
    print(f"\nfound, % of {repetitions} repetitions, N = 200, by the difference in standard errors\n")
    sizes = [(s, effect) for s in (3, 5, 10) for effect in effects]
    print(f"{'what varies':<18}" + "".join(f"{f'S={s} {effect:g}se':>10}" for s, effect in sizes))
    for name, shares in NORMAL.items():
        rates = [found(normal(shares, effect), s, 200, repetitions, rng) for s, effect in sizes]
        print(f"{name:<18}" + "".join(f"{100 * rate:>10.0f}" for rate in rates), flush=True)
    known = [float(np.mean(np.abs(rng.standard_normal(200_000) + effect) > 1.96)) for _, effect in sizes]
    print(f"{'all known':<18}" + "".join(f"{100 * rate:>10.0f}" for rate in known))


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    start = time.perf_counter()
    rng = np.random.default_rng(given.seed)
    false_alarms(given.repetitions, rng)
    rules(given.repetitions, rng)
    power(max(1, given.repetitions // 5), rng)
    print(f"\n{time.perf_counter() - start:.0f} s; numpy {np.__version__}")


if __name__ == "__main__":
    main()
