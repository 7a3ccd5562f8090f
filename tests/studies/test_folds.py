"""The corrected resampled t-test: by hand, against scipy's uncorrected one, and against chance."""

import math

import numpy as np
import pytest
from scipy import stats

from dropkit.errors import DropkitError
from dropkit.studies.folds import FoldSpread, fold_difference, needed_repetitions
from dropkit.studies.statistics import Difference, holm_intervals, needed_pictures, paired_difference

K, TEST, TRAIN = 5, 13, 47


def over_folds(d, *, folds=K, n_train=TRAIN, n_pictures=None):
    """The difference of these values, a list of arrays, to nothing."""
    n_pictures = sum(map(len, d)) if n_pictures is None else n_pictures
    return fold_difference([np.zeros_like(each) for each in d], d, folds=folds, n_train=n_train, n_pictures=n_pictures)


def spread_out(means, within, n=TEST):
    """Folds of n pictures with these means and a small spread within."""
    return [mean + within * np.linspace(-1, 1, n) for mean in means]


def test_by_hand():
    """Fold means -.2, -.1, -.3 have s^2 = .01; J = 3, n_test = 2, n_train = 4: variance (1/3 + 1/2) / 100."""
    base = [[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    other = [[0.8, 0.8], [0.9, -0.1], [-0.3, 0.7]]
    d = fold_difference(base, other, folds=3, n_train=4, n_pictures=6)
    assert d.mean == pytest.approx(-0.2)
    assert d.standard_error == pytest.approx(math.sqrt((1 / 3 + 1 / 2) * 0.01))
    half = 4.302652729911275 * d.standard_error  # Student's t with 2 degrees of freedom
    assert (d.low, d.high) == pytest.approx((-0.2 - half, -0.2 + half))
    assert d.p_value == pytest.approx(2 * stats.t.sf(0.2 / d.standard_error, 2))
    assert (d.n_seeds, d.n_pictures) == (3, 6)
    assert d.from_seeds == pytest.approx(0.4)  # (1/3) / (1/3 + 1/2)


def test_without_shared_pictures_it_is_the_t_test():
    d = spread_out([0.1, 0.3, -0.2, 0.4, 0.2], 1e-4)
    ours, theirs = over_folds(d, n_train=1e12), stats.ttest_1samp([each.mean() for each in d], 0)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-6)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)), rel=1e-6)


def test_the_p_value_and_the_interval_decide_alike():
    d = spread_out([0.1, 0.3, -0.2, 0.4, 0.2], 1e-4)
    found = over_folds(d)
    at_zero = over_folds([each - found.low for each in d])
    assert at_zero.p_value == pytest.approx(0.05)
    assert holm_intervals([found, found])[0][0] < found.low


def test_folds_that_agree_by_chance_are_not_certain():
    """Every fold has one more right of ten: the folds do not vary, but the pictures do."""
    d = [np.array([-1.0] + [0.0] * 9)] * 3
    found = over_folds(d, folds=3, n_train=17)
    pictures = stats.ttest_1samp(np.concatenate(d), 0)
    assert found.p_value == pytest.approx(pictures.pvalue)
    assert found.p_value > 0.05
    assert (found.low, found.high) == pytest.approx(tuple(pictures.confidence_interval(0.95)))


def test_one_policy_under_two_names_is_found_in_a_twentieth():
    """Folds correlated as the formula says, n_test / (n_test + n_train): exactly 5% then, and far more without it."""
    repetitions, rng = 1000, np.random.default_rng(0)
    correlation = TEST / (TEST + TRAIN)
    found = plain = 0
    for _ in range(repetitions):
        means = math.sqrt(correlation) * rng.standard_normal() + math.sqrt(1 - correlation) * rng.standard_normal(K)
        found += over_folds(spread_out(means, 1e-6)).p_value < 0.05
        plain += stats.ttest_1samp(means, 0).pvalue < 0.05
    error = math.sqrt(0.05 * 0.95 / repetitions)
    assert abs(found / repetitions - 0.05) < 4 * error
    assert plain / repetitions > 0.05 + 8 * error


def nearest_mean_is_wrong(x, y, train, test):
    """A classifier that trains in no time: which test pictures lie nearer to the other class's mean."""
    zero, one = (x[train][y[train] == label].mean(axis=0) for label in (0, 1))
    distance = [((x[test] - mean) ** 2).sum(axis=1) for mean in (zero, one)]
    return (distance[0] > distance[1]) != y[test]


def test_equally_good_learners_on_shared_pictures_are_rarely_told_apart():
    """Two learners, alike by symmetry: each sees half of the features, of pictures drawn anew each time. Whichever had
    the luckier pictures is ahead in most folds of every repetition, which the plain t-test takes for an effect."""
    n, k, times, studies, rng = 61, 5, 3, 250, np.random.default_rng(0)
    found = plain = 0
    for _ in range(studies):
        y = rng.permutation(np.arange(n) % 2)
        x = rng.standard_normal((n, 10)) + 0.5 * y[:, None]
        parts = [rng.permutation(np.arange(n) % k) == fold for _ in range(times) for fold in range(k)]
        first, second = (
            [nearest_mean_is_wrong(half, y, ~part, part).astype(float) for part in parts]
            for half in (x[:, :5], x[:, 5:])
        )
        found += fold_difference(first, second, folds=k, n_train=n * (k - 1) / k, n_pictures=n).p_value < 0.05
        means = [[each.mean() for each in side] for side in (first, second)]
        plain += stats.ttest_rel(*means).pvalue < 0.05
    assert found / studies < 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)
    assert plain / studies > 0.15


def test_more_repetitions_help_up_to_a_point_and_more_pictures_without_end():
    spread = over_folds(spread_out([0.1, 0.3, -0.2, 0.4, 0.2], 1e-4)).spread
    much = spread.grown(1e9, 1.0)
    assert much.seeds == pytest.approx(spread.shared)
    assert much.folds == K
    assert spread.grown(1.0, 4.0).seeds == pytest.approx(spread.seeds / 4)
    assert spread.grown(1.0, 4.0).pictures == pytest.approx(spread.pictures / 4)


def made_of(mean, own, shared, n=211):
    spread = FoldSpread(seeds=own + shared, pictures=0.0, rest=0.0, shared=shared, folds=K)
    return Difference(mean, math.sqrt(spread.total), -1.0, 1.0, 0.5, 0.5, 0.5, K, n, spread)


def test_the_repetitions_that_are_needed():
    # With R repetitions: variance 4e-4 / R. Found with power .8 once .05 >= (t(5R - 1) + .8416) * .02 / sqrt(R).
    d = made_of(0.05, own=4e-4, shared=0.0)
    enough = next(r for r in range(2, 9) if (stats.t.ppf(0.975, 5 * r - 1) + 0.8416) * 0.02 / math.sqrt(r) <= 0.05)
    assert needed_repetitions(d) == enough == 2
    assert needed_repetitions(made_of(0.05, own=1e-4, shared=9e-4)) is None  # whatever is done about the first part
    rng = np.random.default_rng(0)
    assert needed_repetitions(paired_difference(rng.random((3, 7)), rng.random((3, 7)))) is None


def test_the_pictures_that_are_needed():
    d = made_of(0.05, own=1e-4, shared=9e-4)
    times = ((stats.t.ppf(0.975, K - 1) + 0.8416) / 0.05) ** 2 * 1e-3
    assert needed_pictures(d) == pytest.approx(211 * times, rel=0.1)


@pytest.mark.parametrize(
    ("base", "other", "message"),
    [
        ([[1.0, 0.0]], [[1.0, 0.0]], "over 1 and 1 folds"),
        ([[1.0], [0.0]], [[1.0], [0.0], [0.0]], "over 2 and 3 folds"),
        ([[1.0, 0.0], [0.0]], [[1.0], [0.0]], "same ones in the same order"),
        ([[1.0], [math.nan]], [[1.0], [0.0]], "not finite"),
    ],
)
def test_values_that_cannot_be_compared(base, other, message):
    with pytest.raises(DropkitError, match=message):
        fold_difference(base, other, folds=3, n_train=7, n_pictures=11)
