"""The interval against closed forms, against the bootstrap it stands for, and against chance."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dropkit.errors import DropkitError
from dropkit.studies.statistics import (
    Difference,
    Spread,
    holm,
    holm_intervals,
    needed_pictures,
    needed_seeds,
    paired_difference,
    two_way_bootstrap,
)

SEEDS, PICTURES = 5, 211


def against_nothing(d):
    return paired_difference(np.zeros_like(d), d)


def draw(rng, s, n, seeds=0.0, pictures=0.0, chance=0.0):
    """Return differences [S, N] whose mean has variance seeds + pictures + chance."""
    a = math.sqrt(seeds * s) * rng.standard_normal((s, 1))
    b = math.sqrt(pictures * n) * rng.standard_normal((1, n))
    return a + b + math.sqrt(chance * s * n) * rng.standard_normal((s, n))


def made_of(mean, seeds, pictures, rest, s=SEEDS, n=PICTURES):
    """A difference with these variances, made without data."""
    spread = Spread(seeds, pictures, rest)
    half = spread.half_width(s, n, 0.05)
    return Difference(mean, math.sqrt(spread.total), mean - half, mean + half, 0.5, 0.5, 0.5, s, n, spread)


@pytest.mark.parametrize("s", [2, 3, 7])
def test_where_only_seeds_vary_it_is_the_paired_t_test_on_their_means(s):
    d = 0.3 + draw(np.random.default_rng(s), s, PICTURES, seeds=1.0)
    ours, theirs = against_nothing(d), stats.ttest_1samp(d.mean(axis=1), 0)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)), rel=1e-9)
    assert (ours.from_seeds, ours.from_pictures) == pytest.approx((1, 0), abs=1e-12)


@pytest.mark.parametrize("s", [1, 3, 7])
def test_where_only_pictures_vary_it_is_the_paired_t_test_on_theirs(s):
    d = 0.3 + draw(np.random.default_rng(s), s, PICTURES, pictures=1.0)
    ours, theirs = against_nothing(d), stats.ttest_1samp(d.mean(axis=0), 0)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)), rel=1e-9)
    assert (ours.from_seeds, ours.from_pictures) == pytest.approx((0, 1), abs=1e-12)


def test_one_seed_is_over_pictures_alone():
    d = np.random.default_rng(0).standard_normal((1, PICTURES))
    ours, theirs = against_nothing(d), stats.ttest_1samp(d[0], 0)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
    assert (ours.from_seeds, ours.from_pictures) == (0.0, 1.0)


def test_without_interaction_half_widths_add_in_squares():
    d = draw(np.random.default_rng(0), SEEDS, PICTURES, seeds=1.0, pictures=2.0)
    of_seeds = stats.t.ppf(0.975, SEEDS - 1) * d.mean(axis=1).std(ddof=1) / math.sqrt(SEEDS)
    of_pictures = stats.t.ppf(0.975, PICTURES - 1) * d.mean(axis=0).std(ddof=1) / math.sqrt(PICTURES)
    ours = against_nothing(d)
    assert (ours.high - ours.low) / 2 == pytest.approx(math.hypot(of_seeds, of_pictures), rel=1e-9)
    assert ours.mean == pytest.approx(d.mean())


def test_the_chance_of_one_seed_on_one_picture_counts_once():
    """The standard error is that of the model, not Owen's, which would be sqrt(3) times too large here."""
    rng = np.random.default_rng(0)
    squares = [against_nothing(draw(rng, 37, 101, chance=1.0)).standard_error ** 2 for _ in range(50)]
    # the seeds' mean square dominates the noise: relative sd sqrt(2/36) each; a maximum of three adds a bias
    assert 1 - 5 * math.sqrt(2 / 36 / 50) < np.mean(squares) < 1.25


def test_the_mean_squares_by_hand():
    """Seed and picture means 1/2, 0 have variance 1/8. What is left is +-1/4, with one degree of freedom."""
    spread = against_nothing(np.array([[1.0, 0.0], [0.0, 0.0]])).spread
    assert spread == Spread(seeds=1 / 8 / 2, pictures=1 / 8 / 2, rest=4 / 16 / 4)
    d = np.array([[3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])  # left: 1, -.5, -.5 and their negatives: 3 over 2 degrees
    assert against_nothing(d).spread.rest == pytest.approx(3 / 2 / 6)


def test_the_variance_is_the_bootstraps_in_closed_form():
    s, n = 5, 53
    d = draw(np.random.default_rng(1), s, n, seeds=1.0, pictures=1.0, chance=1.0)
    means = two_way_bootstrap(np.zeros_like(d), d, draws=20_000, seed=2)
    spread = against_nothing(d).spread
    fs, fn = (s - 1) / s, (n - 1) / n
    expected = fs * spread.seeds + fn * spread.pictures + fs * fn * spread.rest
    error = np.std((means - means.mean()) ** 2) / math.sqrt(len(means))
    assert abs(means.var() - expected) < 5 * error
    assert abs(means.mean() - d.mean()) < 5 * means.std() / math.sqrt(len(means))
    assert error < 0.02 * expected  # or the comparison would say nothing


def test_the_bootstrap_in_chunks_makes_as_many_draws_and_repeats(monkeypatch):
    monkeypatch.setattr("dropkit.studies.statistics._COUNTS", 2 * PICTURES)
    d = np.random.default_rng(0).standard_normal((SEEDS, PICTURES))
    means = two_way_bootstrap(np.zeros_like(d), d, draws=7, seed=3)
    assert len(set(means)) == 7
    assert np.array_equal(means, two_way_bootstrap(np.zeros_like(d), d, draws=7, seed=3))
    assert not np.array_equal(means, two_way_bootstrap(np.zeros_like(d), d, draws=7, seed=4))


differences = st.builds(
    lambda seed, s, n, shift, parts: shift + draw(np.random.default_rng(seed), s, n, *parts),
    st.integers(0, 10**6),
    st.integers(2, 7),
    st.integers(5, 60),
    st.floats(-6, 6),
    st.tuples(*[st.sampled_from([0.0, 0.1, 1.0])] * 3).filter(any),
)


@given(differences)
def test_the_p_value_is_where_the_interval_ends_at_zero(d):
    ours = against_nothing(d)
    assert (ours.p_value < 0.05) == (ours.low > 0 or ours.high < 0)
    if 1e-9 < ours.p_value < 1:
        low, high = ours.interval(1 - ours.p_value)
        nearer = low if ours.mean > 0 else high
        assert abs(nearer) < 1e-5 * (high - low)


@given(differences)
def test_seeds_that_agree_by_luck_do_not_make_it_narrower_than_pictures_alone(d):
    ours = against_nothing(d)
    alone = against_nothing(d.mean(axis=0, keepdims=True))
    assert ours.high >= alone.high - 1e-9
    assert ours.low <= alone.low + 1e-9
    assert ours.p_value >= alone.p_value * (1 - 1e-9)
    assert ours.from_seeds + ours.from_pictures == 1


@given(differences)
def test_swapping_the_policies_mirrors_the_interval(d):
    there = paired_difference(np.zeros_like(d), d)
    back = paired_difference(d, np.zeros_like(d))
    assert (back.mean, back.low, back.high) == pytest.approx((-there.mean, -there.high, -there.low))
    assert back.p_value == pytest.approx(there.p_value)


def test_equal_answers_are_no_difference():
    wrong = np.random.default_rng(0).random((SEEDS, PICTURES)) < 0.3
    ours = paired_difference(wrong, wrong)
    assert (ours.mean, ours.low, ours.high, ours.p_value) == (0, 0, 0, 1)
    assert ours.from_seeds + ours.from_pictures == 1


def test_a_difference_that_never_varies_is_certain():
    ours = against_nothing(np.full((3, 7), 0.5))
    assert (ours.mean, ours.low, ours.high, ours.p_value) == (0.5, 0.5, 0.5, 0)


def test_lower_is_better():
    assert paired_difference(np.ones((3, 7)), np.zeros((3, 7))).mean == -1


@pytest.mark.parametrize(
    ("base", "other"),
    [
        (np.zeros((3, 7)), np.zeros((3, 5))),
        (np.zeros((3, 7)), np.zeros((1, 7))),
        (np.zeros(7), np.zeros(7)),
        (np.zeros((3, 1)), np.zeros((3, 1))),
        (np.zeros((0, 7)), np.zeros((0, 7))),
    ],
)
def test_shapes_that_do_not_pair_are_refused(base, other):
    with pytest.raises(DropkitError, match=r"give both as \[S, N\]"):
        paired_difference(base, other)


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(DropkitError, match="diverged"):
        against_nothing(np.array([[0.0, np.nan], [0.0, 1.0]]))


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_levels_outside_0_to_1_are_refused(level):
    with pytest.raises(DropkitError, match=f"level={level}"):
        against_nothing(np.eye(3)).interval(level)


# chance


def alarms(repetitions, s, n, effect=0.0, **parts):
    rng = np.random.default_rng(17)
    return np.mean([against_nothing(effect + draw(rng, s, n, **parts)).p_value < 0.05 for _ in range(repetitions)])


@pytest.mark.parametrize("s", [2, 3, 5])
@pytest.mark.parametrize(
    "parts",
    [
        {"seeds": 1.0},
        {"pictures": 1.0},
        {"chance": 1.0},
        {"seeds": 0.5, "pictures": 0.5},
        {"seeds": 0.5, "chance": 0.5},
        {"seeds": 0.6, "pictures": 0.2, "chance": 0.2},
    ],
    ids=str,
)
def test_at_most_5_percent_of_no_differences_are_called_one(s, parts):
    repetitions = 700
    allowed = 0.05 + 4 * math.sqrt(0.05 * 0.95 / repetitions)
    rate = alarms(repetitions, s, 43, **parts)
    assert rate <= allowed
    if parts in ({"seeds": 1.0}, {"pictures": 1.0}):  # there the level is exact
        assert rate >= 0.1 - allowed


def test_the_same_policy_under_two_names_with_different_seeds():
    rng, repetitions = np.random.default_rng(5), 700
    p = rng.beta(0.15, 0.85, 97)
    answers = ((rng.random((3, 97)) < p, rng.random((3, 97)) < p) for _ in range(repetitions))
    rate = np.mean([paired_difference(*pair).p_value < 0.05 for pair in answers])
    assert rate <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / repetitions)


@pytest.mark.parametrize(("s", "effect"), [(5, 4.0), (10, 3.0)])
def test_a_real_difference_is_found_as_often_as_the_seeds_allow(s, effect):
    """Where seeds alone vary the power is that of the t-test, from the noncentral t distribution."""
    repetitions, edge = 500, stats.t.ppf(0.975, s - 1)
    power = stats.nct.sf(edge, s - 1, effect) + stats.nct.cdf(-edge, s - 1, effect)
    rate = alarms(repetitions, s, 43, effect=effect, seeds=1.0)
    assert abs(rate - power) < 5 * math.sqrt(power * (1 - power) / repetitions)


# several comparisons


def test_holm_is_the_worked_example():
    """0.005*4, 0.01*3, 0.03*2 and 0.04*1 raised to the step before (R: p.adjust)."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.04]) == [0.04]


@given(st.lists(differences, min_size=1, max_size=5))
def test_the_intervals_exclude_zero_exactly_where_holm_finds(several):
    found = [against_nothing(d) for d in several]
    adjusted = holm([d.p_value for d in found])
    for d, p, (low, high) in zip(found, adjusted, holm_intervals(found), strict=True):
        assert (p < 0.05) == (low > 0 or high < 0)
        assert low <= d.low + 1e-12
        assert high >= d.high - 1e-12
        assert (low + high) / 2 == pytest.approx(d.mean)


def test_each_interval_has_the_level_of_its_own_step():
    found = [against_nothing(shift + draw(np.random.default_rng(3), 5, 97, seeds=1.0)) for shift in (40, 0, 200, 0.1)]
    adjusted = holm([d.p_value for d in found])
    assert [p < 0.05 for p in adjusted] == [True, False, True, False]
    levels = [1 - 0.05 / 3, 1 - 0.05 / 2, 1 - 0.05 / 4, 1 - 0.05 / 2]
    for got, d, level in zip(holm_intervals(found), found, levels, strict=True):
        assert got == pytest.approx(d.interval(level))


def test_one_comparison_is_the_plain_interval():
    d = against_nothing(draw(np.random.default_rng(0), 5, 97, seeds=1.0, chance=1.0))
    assert holm_intervals([d]) == [(d.low, d.high)]
    assert holm_intervals([]) == []


# planning


def test_as_many_seeds_as_advised_find_the_effect_in_4_of_5_studies():
    s, n, repetitions = 5, 43, 600
    # variances of the mean with 5 seeds: 1 from seeds, 0.1 from chance; and a mean of 1.6
    advised = needed_seeds(made_of(1.6, seeds=1.1, pictures=0.1, rest=0.1, s=s, n=n))
    rate = alarms(repetitions, advised, n, effect=1.6, seeds=1.0 * s / advised, chance=0.1 * s / advised)
    assert abs(rate - 0.8) < 0.05 + 5 * math.sqrt(0.8 * 0.2 / repetitions)


def test_as_many_pictures_as_advised_find_the_effect_in_4_of_5_studies():
    s, n, repetitions = 5, 43, 600
    advised = needed_pictures(made_of(1.6, seeds=0.0, pictures=1.0, rest=0.0, s=s, n=n))
    rate = alarms(repetitions, s, advised, effect=1.6, pictures=1.0 * n / advised)
    assert abs(rate - 0.8) < 0.05 + 5 * math.sqrt(0.8 * 0.2 / repetitions)


def test_no_number_is_advised_where_the_other_source_limits():
    pictures_limit = made_of(1.0, seeds=0.01, pictures=1.0, rest=0.0)
    assert needed_seeds(pictures_limit) is None
    assert needed_pictures(pictures_limit) is not None
    seeds_limit = made_of(1.0, seeds=1.0, pictures=0.01, rest=0.0)
    assert needed_pictures(seeds_limit) is None
    assert needed_seeds(seeds_limit) is not None
    assert needed_seeds(made_of(0.0, 1.0, 1.0, 0.5)) is None
    assert needed_pictures(made_of(0.0, 1.0, 1.0, 0.5)) is None


def test_nothing_is_advised_where_nothing_differs_at_all():
    assert needed_seeds(made_of(0.0, 0.0, 0.0, 0.0)) is None
    assert needed_pictures(made_of(0.0, 0.0, 0.0, 0.0)) is None
