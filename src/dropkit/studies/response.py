"""What a search learned of its space: the response to each rate, and how much each choice matters.

One Gaussian process (Rasmussen and Williams, 2006, chapter 2) over the choices and the share of a whole training,
fitted to all trials: those that were stopped early tell of their epochs, and the process carries it to the end.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dropkit.studies.space import DECAY, Choice, Params, Space

FEWEST_TRIALS = 8  # with an end or a rung: fewer have little to say about several choices
Z = 1.96  # half a 95% interval in standard deviations
POINTS = 800  # of the space, over which effects are averaged
DRAWS = 200  # functions drawn from the process
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """What one trial showed at one moment.

    Attributes:
        number: of the trial.
        params: what was chosen.
        share: of a whole training, in (0, 1].
        loss: lowest validation loss until then, in nats.
        gap: that loss minus the training loss of the same epoch.
    """

    number: int
    params: Params
    share: float
    loss: float
    gap: float


def seen_in(
    trials: Sequence[Mapping[str, Any]], rows: Sequence[Sequence[Mapping[str, Any]]], rungs: Sequence[int]
) -> list[Seen]:
    """Return what the trials showed: at each rung, and where they ended.

    Args:
        trials: of a search, as its record has them.
        rows: the epochs of each.
        rungs: epochs at which trials were judged.
    """
    found = []
    whole = max((len(each) for each in rows), default=0)
    for trial, epochs in zip(trials, rows, strict=True):
        if trial["params"] is None or trial["status"] == "diverged" or not epochs:
            continue
        for end in sorted({*(rung for rung in rungs if rung < len(epochs)), len(epochs)}):
            best = min(epochs[:end], key=lambda row: float(row["val_loss"]))
            # One that ended by itself would not have become better.
            share = 1.0 if trial["status"] == "finished" and end == len(epochs) else end / whole
            found.append(
                Seen(trial["number"], trial["params"], share, best["val_loss"], best["val_loss"] - best["train_loss"])
            )
    return found


class Surface:
    """A Gaussian process over a space.

    Args:
        space: what may be chosen.
        seen: what trials showed.
        values: the figure of each.
    """

    def __init__(self, space: Space, seen: Sequence[Seen], values: Sequence[float]) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

        self.space = space
        points = self._points([each.params for each in seen], [each.share for each in seen])
        # Few trials can be told as noise alone, which would leave narrow bands around nothing: so the part that depends
        # on the choices keeps its size, and no choice is without any effect.
        kernel = ConstantKernel(1.0, (0.5, 20.0)) * RBF(np.full(points.shape[1], 0.7), (0.2, 6.0))
        kernel += WhiteKernel(0.1, (1e-3, 1.0))
        self._process = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=2, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound: that choice does not matter
            self._process.fit(points, np.asarray(values, dtype=np.float64))

    def at_the_end(self, params: Sequence[Params]) -> tuple[Array, Array]:
        """Return mean and standard deviation [n] of the figure's expectation after whole trainings."""
        mean, std = self._process.predict(self._points(params, [1.0] * len(params)), return_std=True)
        return mean, np.sqrt(np.maximum(std**2 - self._noise_variance(), 0.0))

    def draws(self, params: Sequence[Params]) -> Array:
        """Return functions [DRAWS, n] from the process, after whole trainings."""
        points = self._points(params, [1.0] * len(params))
        mean, covariance = self._process.predict(points, return_cov=True)
        covariance -= self._noise_variance() * np.eye(len(points))
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        normal = np.random.default_rng(0).standard_normal((len(points), DRAWS))
        return np.asarray((mean[:, None] + root @ normal).T)

    def _noise_variance(self) -> float:
        """Return the variance of one training around the expectation, which `predict` adds."""
        scale = float(self._process._y_train_std) ** 2
        return float(self._process.kernel_.k2.noise_level) * scale

    def _points(self, params: Sequence[Params], shares: Sequence[float]) -> Array:
        return np.array([[*self._features(each), math.log(share)] for each, share in zip(params, shares, strict=True)])

    def _features(self, params: Params) -> Iterator[float]:
        for choice in self.space.choices:
            rate = float(params[choice.site]) / choice.most
            yield rate
            if len(choice.kinds) > 1:  # at a rate of 0 all kinds are the same
                yield from (rate * (params[choice.kind_name] == kind) for kind in choice.kinds)
        if len(self.space.decays) > 1:
            order = sorted(self.space.decays)
            yield order.index(params[DECAY]) / (len(order) - 1)


def response(space: Space, seen: Sequence[Seen], chosen: Params) -> list[dict[str, Any]]:
    """Return loss and gap against the rate of each site, with 95% intervals, the other choices as in one policy.

    Args:
        space: of the search.
        seen: what its trials showed.
        chosen: the policy's parameters.

    Returns:
        For each site its rates, and mean, low and high of both figures; nothing where too few trials were seen.
    """
    if len({each.number for each in seen}) < FEWEST_TRIALS:
        return []
    loss, gap = Surface(space, seen, [math.log(s.loss) for s in seen]), Surface(space, seen, [s.gap for s in seen])
    return [_curve(space, choice, chosen, loss, gap) for choice in space.choices]


def _curve(space: Space, choice: Choice, chosen: Params, loss: Surface, gap: Surface) -> dict[str, Any]:
    params = [{**chosen, choice.site: rate} for rate in choice.rates()]
    return {
        "site": choice.site,
        "kind": str(chosen.get(choice.kind_name, choice.kinds[0])),
        "others": space.describe({**chosen, choice.site: 0.0}),
        "rates": choice.rates(),
        "loss": {name: np.exp(line).tolist() for name, line in _band(*loss.at_the_end(params)).items()},
        "gap": _band(*gap.at_the_end(params)),
    }


def _band(mean: Array, std: Array) -> dict[str, list[float]]:
    return {"mean": mean.tolist(), "low": (mean - Z * std).tolist(), "high": (mean + Z * std).tolist()}


def importance(space: Space, seen: Sequence[Seen]) -> list[dict[str, Any]]:
    """Return how much of the variance of the validation loss over the space each choice makes, largest first.

    The share of a choice is that of its main effect, the logarithm of the loss as a function of it alone, averaged
    over the others (Sobol, 1993; of hyperparameters: Hutter et al., ICML 2014). What choices do together is in none
    of the shares, so that they add up to less than 1.

    Args:
        space: of the search.
        seen: what its trials showed.

    Returns:
        Name, share, and low and high of its 95% interval over functions that fit the trials; nothing where too few
        were seen, or there is but one choice.
    """
    names = list(space.levels())
    if len({each.number for each in seen}) < FEWEST_TRIALS or len(names) == 1:
        return []
    points = _spread(space)
    drawn = Surface(space, seen, [math.log(each.loss) for each in seen]).draws(points)
    found = []
    for name in names:
        shares = _main_effect(drawn, [point[name] for point in points])
        low, high = np.quantile(shares, [0.025, 0.975])
        found.append({"name": space.title(name), "share": float(shares.mean()), "low": float(low), "high": float(high)})
    return sorted(found, key=lambda entry: -float(entry["share"]))


def _spread(space: Space) -> list[dict[str, Any]]:
    """Return points all over the space: each level of a choice as often as any other, with others at random."""
    rng, columns = np.random.default_rng(0), {}
    for name, levels in space.levels().items():
        places = np.resize(np.arange(len(levels)), POINTS)
        columns[name] = [levels[place] for place in rng.permutation(places)]
    return [{name: column[i] for name, column in columns.items()} for i in range(POINTS)]


def _main_effect(values: Array, levels: Sequence[Any]) -> Array:
    """Return the share of the variance of values [DRAWS, POINTS] between the levels of a choice.

    It is epsilon squared (Kelley, 1935): what differs between levels by the chance of which points they got is taken
    off.
    """
    order = {level: place for place, level in enumerate(dict.fromkeys(levels))}
    groups = np.array([order[level] for level in levels])
    centred = values - values.mean(axis=1, keepdims=True)
    counts = np.bincount(groups)
    means = np.stack([centred[:, groups == group].mean(axis=1) for group in range(len(counts))], axis=1)
    between, whole = (means**2 * counts).sum(axis=1), (centred**2).sum(axis=1)
    within = (whole - between) / (len(levels) - len(counts))
    share: Array = np.clip((between - (len(counts) - 1) * within) / np.maximum(whole, 1e-12), 0.0, 1.0)
    return share
