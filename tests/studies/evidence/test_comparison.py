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


def three(evidence_of, policy, error=0.1, decay=0.0, **changes):
    return [evidence_of(policy, error=error + seed / 1000, decay=decay, **changes) for seed in range(3)]


@pytest.fixture
def penalties(evidence_of):
    """Dropout and an L2 penalty, each alone and together."""
    given = [
        ("none", 0.3, 0.0),
        ("fc=0.5", 0.15, 0.0),
        ("none", 0.2, 0.01),
        ("fc=0.5", 0.1, 0.01),
        ("fc=0.5", 0.1, 0.02),
    ]
    return {
        policy + (f";weight_decay={decay}" if decay else ""): three(evidence_of, policy, error, decay)
        for policy, error, decay in given
    }


def test_dropout_is_held_against_what_is_alike_but_for_the_dropout(penalties):
    found = {policy["name"]: policy for policy in compared(penalties)}
    assert {name: policy["base"] for name, policy in found.items()} == {
        "none": None,
        "fc=0.5": "none",
        "none;weight_decay=0.01": "none",
        "fc=0.5;weight_decay=0.01": "none;weight_decay=0.01",
        "fc=0.5;weight_decay=0.02": "none",
    }
    alike, other = (found[f"fc=0.5;weight_decay={decay}"]["claims"][0]["told"] for decay in (0.01, 0.02))
    assert "too" not in alike
    assert other.endswith("; the two differ in weight_decay, too.")


def test_dropout_and_a_penalty_stand_beside_each_of_them_alone(penalties):
    found = {policy["name"]: policy["claims"] for policy in compared(penalties)}
    assert found["none;weight_decay=0.01"] == []
    both = found["fc=0.5;weight_decay=0.01"][-1]
    assert (both["quantity"], both["kind"]) == ("test_error", "measured")
    assert both["difference"] == pytest.approx(-0.1)
    assert "10.00 pp lower than with the same penalty alone" in both["sentence"]
    assert "5.00 pp lower than with the same dropout alone" in both["sentence"]
    assert found["fc=0.5;weight_decay=0.02"][-1]["quantity"] == "gain"  # there is none with that penalty alone
    penalties["none;weight_decay=0.01"][1] = None
    assert compared(penalties)[3]["claims"][-1]["quantity"] == "gain"  # no longer of the same seeds


def test_the_first_policy_need_not_be_the_one_without_dropout(evidence_of):
    groups = {"fc=0.5": three(evidence_of, "fc=0.5", gap=0.1), "none": three(evidence_of, "none", gap=0.5)}
    thinned, plain = compared(groups)
    assert (thinned["base"], plain["base"]) == ("none", "fc=0.5")
    assert thinned["claims"][0]["difference"] == pytest.approx(-0.4)
    assert plain["claims"] == []


def test_without_one_that_drops_nothing_no_claim_is_judged_and_that_is_said(evidence_of):
    groups = {name: three(evidence_of, name) for name in ("fc=0.2", "fc=0.5")}
    for policy in compared(groups):
        assert [claim["kind"] for claim in policy["claims"]] == ["measured"]
        assert policy["notes"] == [
            "no policy without dropout is there to hold it against, so no claim is judged: compare it with none, too"
        ]
    assert compared({"fc=0.5": three(evidence_of, "fc=0.5")})[0]["notes"] == []  # one run alone needs no such words


def test_what_the_study_does_not_judge_is_not_judged_here(groups):
    _, thinned = compared(groups, undertrained={"fc=0.5"})
    assert {claim["kind"] for claim in thinned["claims"]} == {"undertrained", "measured"}


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
