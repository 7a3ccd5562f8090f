"""Every verdict by its exact words."""

import math

import numpy as np
import pytest

from dropkit.errors import DropkitError
from dropkit.studies.folds import FoldSpread
from dropkit.studies.statistics import Difference, Spread, paired_difference
from dropkit.studies.verdict import PolicyRuns, Verdict, conclude, judge, recommend


def runs(name="none", mean=0.161, best_epochs=(3, 4, 5, 6, 7), budget=20, **more):
    return PolicyRuns(name=name, mean=mean, best_epochs=best_epochs, budget=budget, **more)


def difference(mean, low, high, s=5, n=1000, from_seeds=0.5, spread=None):
    spread = spread or Spread(1e-5, 1e-5, 1e-5)
    return Difference(mean, 0.003, low, high, 0.5, from_seeds, 1 - from_seeds, s, n, spread)


def say(d, p_holm, metric="error", **more):
    base, other = more.pop("base", runs()), more.pop("other", runs("fc=0.5", 0.149))
    return judge(d, metric=metric, p_holm=p_holm, base=base, other=other, **more)


def test_helps():
    assert say(difference(-0.012, -0.018, -0.006), 0.01) == Verdict(
        "helps",
        "fc=0.5 helps: test error falls by 1.2 points (95% interval 0.6 to 1.8), from 16.1% to 14.9%.",
    )


def test_hurts():
    assert say(difference(0.012, 0.006, 0.018), 0.01, other=runs("fc=0.5", 0.173)) == Verdict(
        "hurts",
        "fc=0.5 hurts: test error rises by 1.2 points (95% interval 0.6 to 1.8), from 16.1% to 17.3%.",
    )


def test_the_loss_is_in_nats():
    verdict = say(
        difference(-0.0312, -0.0501, -0.0123),
        0.01,
        metric="nll",
        base=runs(mean=0.5),
        other=runs("fc=0.5", 0.4688),
    )
    assert verdict.sentence == (
        "fc=0.5 helps: test loss (NLL) falls by 0.031 nats (95% interval 0.012 to 0.050), "
        "from 0.500 nats to 0.469 nats."
    )


def test_small_differences_get_the_digits_they_need():
    verdict = say(difference(-0.0008, -0.0012, -0.0004), 0.01, other=runs("fc=0.5", 0.1602))
    assert verdict.sentence == (
        "fc=0.5 helps: test error falls by 0.08 points (95% interval 0.04 to 0.12), from 16.10% to 16.02%."
    )


def test_several_comparisons_show_holms_interval_and_say_so():
    d = difference(-0.012, -0.018, -0.006)
    verdict = say(d, 0.01, interval=(-0.022, -0.002), comparisons=3)
    assert "(95% interval 0.2 to 2.2, allowing for 3 comparisons)" in verdict.sentence


def test_holms_p_value_decides():
    d = difference(-0.012, -0.018, -0.006)
    assert say(d, 0.06, interval=(-0.025, 0.001), comparisons=3).kind == "none"
    assert say(d, 0.05, interval=(-0.024, 0.0), comparisons=3).kind == "none"


NO_EVIDENCE = (
    "No evidence that fc=0.5 helps or hurts: test error changes by -0.5 points (95% interval -1.4 to 0.4); "
    "if there is an effect it is below 1.4 points. "
)


@pytest.mark.parametrize(
    ("spread", "advice"),
    [
        (
            Spread(seeds=1.5e-5, pictures=2e-7, rest=1e-7),
            "More seeds would settle it sooner than more test pictures: about 27 seeds for an effect of 0.5 points.",
        ),
        (
            Spread(seeds=1e-7, pictures=9e-6, rest=1e-7),
            "More test pictures would settle it sooner than more seeds: about 2,900 for an effect of 0.5 points.",
        ),
        (
            Spread(seeds=1.5e-6, pictures=1e-6, rest=1e-7),
            "More seeds would settle it sooner than more test pictures: about 6 seeds for an effect of 0.5 points.",
        ),
        (
            Spread(seeds=5e-7, pictures=2.8e-6, rest=1e-7),
            "More test pictures would settle it sooner than more seeds: about 1,200 for an effect of 0.5 points.",
        ),
        (
            Spread(seeds=9e-4, pictures=9e-6, rest=1e-7),
            "More seeds would settle it sooner than more test pictures, "
            "but an effect of 0.5 points would take more than 50 seeds.",
        ),
        (
            Spread(seeds=9e-6, pictures=9e-4, rest=1e-7),
            "More test pictures would settle it sooner than more seeds, "
            "but an effect of 0.5 points would take more than 100,000 test pictures.",
        ),
    ],
    ids=[
        "seeds",
        "pictures",
        "either, seeds sooner",
        "either, pictures sooner",
        "too many seeds",
        "too many pictures",
    ],
)
def test_no_evidence_says_what_would_settle_it(spread, advice):
    share = spread.seeds / (spread.seeds + spread.pictures)
    d = difference(-0.005, -0.014, 0.004, spread=spread, from_seeds=share)
    assert say(d, 0.4) == Verdict("none", NO_EVIDENCE + advice)


def test_one_seed_cannot_settle_anything():
    verdict = say(difference(-0.005, -0.014, 0.004, s=1), 0.4)
    assert verdict.sentence == NO_EVIDENCE + ("One seed cannot tell how much seeds matter: compare with 5 seeds.")


def test_equal_answers_change_nothing():
    wrong = np.random.default_rng(0).random((3, 31)) < 0.3
    d = paired_difference(wrong, wrong)
    assert say(d, 1.0) == Verdict(
        "none", "fc=0.5 changes nothing: it is right and wrong on exactly the same test pictures as none."
    )
    assert say(d, 1.0, metric="nll").sentence == (
        "fc=0.5 changes nothing: it has the same loss on the same test pictures as none."
    )


def test_the_balanced_error_is_in_points():
    verdict = say(difference(-0.012, -0.018, -0.006), 0.01, metric="balanced-error")
    assert verdict.sentence == (
        "fc=0.5 helps: balanced test error falls by 1.2 points (95% interval 0.6 to 1.8), from 16.1% to 14.9%."
    )


@pytest.mark.parametrize(
    ("own", "shared", "advice"),
    [
        (
            4e-6,
            0.0,
            "More repetitions, which divide the same pictures anew, would settle it up to a point: "
            "about 2 for an effect of 0.5 points.",
        ),
        (
            2e-6,
            9e-6,
            "More repetitions would not settle it, for they divide the same pictures; "
            "more pictures would: about 5,800 for an effect of 0.5 points.",
        ),
        (
            1e-4,
            9e-3,
            "More repetitions would not settle it, for they divide the same pictures; "
            "more pictures would: more than 100,000.",
        ),
    ],
)
def test_folds_that_show_nothing_say_what_would(own, shared, advice):
    spread = FoldSpread(seeds=own + shared, pictures=0.0, rest=0.0, shared=shared, folds=5)
    assert say(difference(-0.005, -0.014, 0.004, spread=spread), 0.4) == Verdict("none", NO_EVIDENCE + advice)


def test_zero_has_no_minus():
    verdict = say(difference(-0.0001, -0.014, 0.013), 0.9)
    assert "changes by 0.0 points" in verdict.sentence


# too little training

LATE = (19, 20, 19, 3, 4)


def test_undertrained_comes_before_helps_and_names_the_cure():
    d = difference(-0.012, -0.018, -0.006)
    assert say(d, 0.001, other=runs("fc=0.5", 0.149, LATE, fixed=True)) == Verdict(
        "undertrained",
        "Not trained long enough to judge fc=0.5: 3 of 5 runs with fc=0.5 had the best epoch within the last "
        "tenth of the 20 epochs, so training was still getting better. "
        "Train longer: --epochs 40, or leave --epochs out: training then stops by itself.",
    )


def test_undertrained_where_the_limit_and_not_the_epochs_ended_it():
    d = difference(0.012, 0.006, 0.018)
    both = say(d, 0.001, base=runs(best_epochs=(20, 20, 1)), other=runs("fc=0.5", 0.173, LATE))
    assert both == Verdict(
        "undertrained",
        "Not trained long enough to judge fc=0.5: 2 of 3 runs with none and 3 of 5 runs with fc=0.5 had "
        "the best epoch within the last tenth of the 20 epochs, so training was still getting better. "
        "Raise the limit: --max-epochs 40 (a run that no longer improves still ends early).",
    )


@pytest.mark.parametrize(
    ("best", "budget", "late"),
    [
        ((18, 18), 20, False),  # 18 is nine tenths: not beyond
        ((19, 18), 20, True),  # half of the runs is enough
        ((19, 18, 18), 20, False),
        ((10, 10, 9), 10, True),
        ((9, 9, 10), 10, False),
        ((1,), 1, True),
        ((), 20, False),
    ],
)
def test_late_is_beyond_nine_tenths_in_half_of_the_runs(best, budget, late):
    assert runs(best_epochs=best, budget=budget).undertrained is late


# diverged


def test_diverged_comes_first():
    d = difference(-0.012, -0.018, -0.006)
    assert say(d, 0.001, other=runs("fc=0.5", 0.149, (20, 20, 20), diverged=2)) == Verdict(
        "diverged",
        "No verdict on fc=0.5: training diverged (a loss that is not a number) with fc=0.5 in 2 of 5 runs, "
        "and the remaining runs are a biased sample. Lower the learning rate and compare again.",
    )


def test_all_diverged_has_no_difference():
    lost = runs(mean=math.nan, best_epochs=(), diverged=1)
    verdict = say(None, math.nan, base=lost, other=runs("fc=0.5", math.nan, (), diverged=3))
    assert verdict.kind == "diverged"
    assert "with none in 1 of 1 run and fc=0.5 in 3 of 3 runs" in verdict.sentence


def test_a_missing_difference_needs_a_reason():
    with pytest.raises(DropkitError, match=r"no paired difference between none and fc=0\.5"):
        say(None, 0.5)


def test_unknown_metrics_are_refused():
    with pytest.raises(DropkitError, match="Did you mean 'error'"):
        say(difference(0, -1, 1), 0.5, metric="errors")


# the study


def others(*kinds):
    means = {"helps": 0.15, "hurts": 0.18}
    return [(runs(f"fc=0.{i}", means.get(k, 0.16)), Verdict(k, "")) for i, k in enumerate(kinds, 1)]


@pytest.mark.parametrize(
    ("kinds", "sentence"),
    [
        ((), "Keep none: nothing was compared with it."),
        (("none",), "Undecided, so keep none for now: no evidence that dropout pays here."),
        (("none", "hurts"), "Undecided, so keep none for now: no evidence that dropout pays here."),
        (("hurts", "hurts"), "Keep none: dropout hurts here."),
        (
            ("none", "undertrained", "diverged"),
            "Keep none for now: no evidence that dropout pays here, but 2 of 3 policies could not be judged.",
        ),
        (("diverged", "undertrained"), "Keep none for now: no other policy could be judged."),
        (
            ("undertrained", "undertrained"),
            "Train longer before you choose: no policy was trained long enough to be judged.",
        ),
    ],
)
def test_without_help_the_first_policy_is_kept(kinds, sentence):
    advice = recommend(runs(), others(*kinds), metric="error")
    assert (advice.policy, advice.sentence) == ("none", sentence)


def test_the_best_of_those_that_help_is_used_even_where_another_looks_better():
    candidates = [
        (runs("a", 0.150), Verdict("helps", "")),
        (runs("b", 0.140), Verdict("helps", "")),
        (runs("c", 0.130), Verdict("none", "")),
        (runs("d", 0.120), Verdict("undertrained", "")),
    ]
    advice = recommend(runs(), candidates, metric="error")
    assert advice.policy == "b"
    assert advice.sentence == (
        "Use b: test error is 14.0% instead of 16.1% with none. "
        "It is the best of 2 that help; these were not tested against each other."
    )


def test_a_first_policy_other_than_none_is_named():
    advice = recommend(runs("fc=0.5"), others("hurts"), metric="error")
    assert advice.sentence == "Keep fc=0.5: all others hurt."
    advice = recommend(runs("fc=0.5"), others("none"), metric="error")
    assert advice.sentence == "Undecided, so keep fc=0.5 for now: no evidence that another policy pays here."


def test_nothing_is_recommended_where_the_first_policy_diverged():
    advice = recommend(runs(diverged=1), others("diverged"), metric="nll")
    assert advice.sentence == (
        "Choose nothing yet: training with none itself diverged. Lower the learning rate and compare again."
    )


def test_the_conclusion_lists_every_policy_and_recommends():
    text = conclude(
        runs(),
        others("none", "helps", "hurts", "undertrained", "none"),
        metric="error",
        n_seeds=5,
        n_pictures=1797,
    )
    assert text == (
        "fc=0.2 helps; fc=0.3 hurts; "
        "no evidence either way for fc=0.1 and fc=0.5; too little training to judge fc=0.4, "
        "compared with none by test error on 5 seeds and 1,797 test pictures. "
        "Use fc=0.2: test error is 15.0% instead of 16.1% with none."
    )


def test_a_conclusion_that_begins_with_our_word_begins_with_a_capital():
    text = conclude(runs(), others("none"), metric="error", n_seeds=5, n_pictures=7)
    assert text.startswith("No evidence either way for fc=0.1, compared with none by test error on 5 seeds")


def test_a_conclusion_over_folds_says_so():
    ask = {"metric": "error", "n_pictures": 1797, "folds": 5}
    assert "in 5 folds of 1,797 pictures. Use" in conclude(runs(), others("helps"), n_seeds=1, **ask)
    assert "in 3 repetitions of 5 folds of 1,797 pictures." in conclude(runs(), others("none"), n_seeds=3, **ask)


def test_what_varies_more_than_dropout_is_not_called_dropout():
    more = [(runs("none;weight_decay=0.1"), Verdict(kind, "")) for kind in ("hurts", "none")]
    assert recommend(runs(), more[:1], metric="error").sentence == "Keep none: all others hurt."
    assert recommend(runs(), more[1:], metric="error").sentence == (
        "Undecided, so keep none for now: no evidence that another policy pays here."
    )


def test_the_conclusion_without_others_is_the_recommendation():
    text = conclude(runs(), [], metric="nll", n_seeds=1, n_pictures=7)
    assert text == "Keep none: nothing was compared with it."
