"""Runs side by side: pairs of equal seeds, runs that diverged, the claim that needs a policy of its own."""

import pytest

from dropkit.runs.intervals import mean_interval
from dropkit.studies.evidence.comparison import DRAWN, compared, without_pictures


@pytest.fixture
def groups(evidence_of):
    """Three seeds of no dropout and of dropout, of which the second diverged."""
    plain = [evidence_of("none", gap=gap) for gap in (0.5, 0.8, 0.7)]
    drops = evidence_of.layer(rate=0.5, cost=0.01)
    thinned = [evidence_of("fc=0.5", gap=gap, layers=[drops]) for gap in (0.1, 0.3)]
    return {"none": plain, "fc=0.5": [thinned[0], None, thinned[1]]}


def test_figures_are_of_all_runs_and_differences_of_pairs(groups):
    plain, thinned = compared(groups)
    assert (plain["name"], plain["n"], plain["diverged"], plain["drops"]) == ("none", 3, 0, False)
    assert (thinned["name"], thinned["n"], thinned["diverged"], thinned["drops"]) == ("fc=0.5", 2, 1, True)
    mean, low, high = mean_interval([0.5, 0.8, 0.7], 0.0)
    assert plain["figures"]["gap"] == {"mean": mean, "low": low, "high": high}
    assert plain["differences"]["gap"] is None
    assert thinned["differences"]["gap"]["mean"] == pytest.approx(-0.4)  # .1 - .5 and .3 - .7
    assert thinned["layers"][0]["differences"]["cost"]["mean"] == pytest.approx(-0.04)
    assert thinned["layers"][0]["figures"]["cost"]["mean"] == pytest.approx(0.01)
    assert (plain["figures"]["one"], thinned["figures"]["one"]["mean"]) == (None, pytest.approx(0.2))


def test_claims_are_of_what_drops(groups):
    plain, thinned = compared(groups)
    assert plain["claims"] == []
    assert [claim["quantity"] for claim in thinned["claims"]] == ["gap", "excess", "cost", "zero", "mean", "gain"]
    assert {claim["n"] for claim in thinned["claims"]} == {2}


def test_a_policy_of_which_every_run_diverged_is_left_out(groups):
    assert [policy["name"] for policy in compared({**groups, "conv=0.9": [None, None, None]})] == ["none", "fc=0.5"]


def test_dropout_is_held_against_the_same_l2_penalty_alone(evidence_of):
    def three(policy, error, decay):
        return [evidence_of(policy, error=error + seed / 1000, decay=decay) for seed in range(3)]

    groups = {
        "none": three("none", 0.3, 0.0),
        "none;weight_decay=0.01": three("none", 0.2, 0.01),
        "fc=0.5;weight_decay=0.01": three("fc=0.5", 0.1, 0.01),
        "fc=0.5;weight_decay=0.02": three("fc=0.5", 0.1, 0.02),
    }
    found = {policy["name"]: [claim["quantity"] for claim in policy["claims"]] for policy in compared(groups)}
    assert found["none;weight_decay=0.01"] == []
    assert found["fc=0.5;weight_decay=0.01"][-1] == "test_error"
    assert "test_error" not in found["fc=0.5;weight_decay=0.02"]  # there is none with that penalty alone
    claim = compared(groups)[2]["claims"][-1]
    assert claim["difference"] == pytest.approx(-0.1)
    assert "lower than with none;weight_decay=0.01" in claim["sentence"]


def test_folds_widen_the_intervals(groups):
    narrow, wide = compared(groups)[0]["figures"]["gap"], compared(groups, shared=0.5)[0]["figures"]["gap"]
    assert wide["mean"] == narrow["mean"]
    assert wide["high"] > narrow["high"]


def test_what_is_only_drawn_is_not_kept_of_every_run(groups):
    run = groups["none"][0]
    kept = without_pictures(run)
    assert not set(DRAWN) & set(kept["layers"][0]["activity"])
    assert set(DRAWN) <= set(run["layers"][0]["activity"])
    assert kept["layers"][0]["activity"]["mean"] == run["layers"][0]["activity"]["mean"]
