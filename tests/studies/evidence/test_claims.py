"""Each claim is judged on its own side of 0, at the layers where the policy drops, and only with an interval."""

import pytest

from dropkit.runs.intervals import mean_interval
from dropkit.studies.evidence.claims import CLAIMS, deciding_layers, ensemble, judged, with_l2

GAP, EXCESS, COST, ZERO, MEAN = CLAIMS


def runs_with(evidence_of, values, policy="fc=0.5", rate=0.5, **named):
    """Runs whose layer has these values of a number, or whose gap has."""
    made = []
    for value in values:
        layer = evidence_of.layer(rate=rate, **dict.fromkeys(named, value))
        made.append(evidence_of(policy, layers=[layer], **({} if named else {"gap": value})))
    return made


def test_a_claim_is_shown_where_the_interval_is_on_its_side(evidence_of):
    before = runs_with(evidence_of, [0.5, 0.6, 0.7], policy="none", rate=0.0)
    lower = runs_with(evidence_of, [0.2, 0.31, 0.42])
    found = judged(GAP, lower, before, beside="with none")
    expected = mean_interval([-0.3, -0.29, -0.28], 0.0)
    assert (found["difference"], found["low"], found["high"]) == pytest.approx(expected)
    assert (found["kind"], found["n"]) == ("shown", 3)
    assert found["sentence"] == (
        "Less overfitting: shown. The gap is 0.290 nats lower than with none "
        "(95% interval −0.315 to −0.265 nats; n = 3)."
    )
    assert judged(GAP, before, lower, beside="with fc=0.5")["kind"] == "opposite"
    wide = runs_with(evidence_of, [0.1, 0.9, 0.4])
    found = judged(GAP, wide, before, beside="with none")
    assert found["kind"] == "not shown"
    assert "not shown. The gap is" in found["sentence"]


def test_more_zeros_are_what_is_claimed(evidence_of):
    few = runs_with(evidence_of, [0.3, 0.31, 0.33], policy="none", rate=0.0, zero=True)
    many = runs_with(evidence_of, [0.6, 0.62, 0.66], zero=True)
    assert judged(ZERO, many, few, beside="with none")["kind"] == "shown"
    found = judged(ZERO, few, many, beside="with fc=0.5")
    assert found["kind"] == "opposite"
    assert "at fc[0]: the opposite is shown" in found["sentence"]
    assert " pp " in found["sentence"]


def test_one_seed_judges_nothing(evidence_of):
    found = judged(GAP, runs_with(evidence_of, [0.2]), runs_with(evidence_of, [0.5], policy="none"), beside="with none")
    assert found["kind"] == "unjudged"
    told = "Less overfitting: the gap is 0.300 nats lower than with none; one seed proves nothing."
    assert found["sentence"] == told


def test_what_is_not_known_of_every_run_is_not_judged(evidence_of):
    known, unknown = evidence_of("fc=0.5"), evidence_of("fc=0.5", layers=[evidence_of.layer(rectified=False)])
    assert judged(ZERO, [known, unknown], [known, known], beside="with none") is None
    assert ensemble([evidence_of("none")], 20) is None
    assert judged(GAP, [], [], beside="with none") is None


def test_the_ensemble_is_measured_beside_one_and_beside_the_pass_and_not_judged(evidence_of):
    """Averages err less than their members, however the networks were trained: that shows nothing of dropout."""
    runs = [evidence_of("fc=0.5", one=one, average=0.1, error=0.09) for one in (0.2, 0.21, 0.22)]
    found = ensemble(runs, 20)
    assert found["difference"] == pytest.approx(-0.11)
    assert found["kind"] == "measured"
    assert found["sentence"] == (
        "An ensemble of thinned networks: the error of their average is 11.00 pp lower than that of one of 20 "
        "(95% interval −13.48 to −8.52 pp; n = 3); the error of their average is 1.00 pp higher than that of one pass "
        "with all units (95% interval +1.00 to +1.00 pp; n = 3)."
    )


def test_with_l2_both_differences_are_measured(evidence_of):
    both, alone, dropout = ([evidence_of(error=error + seed / 100) for seed in range(3)] for error in (0.1, 0.2, 0.15))
    found = with_l2(both, alone, dropout)
    assert found["kind"] == "measured"
    assert found["sentence"] == (
        "Together with L2: the test error is 10.00 pp lower than with the same penalty alone (95% interval −10.00 to "
        "−10.00 pp; n = 3); the test error is 5.00 pp lower than with the same dropout alone (95% interval −5.00 to "
        "−5.00 pp; n = 3); the study's verdict allows for the test pictures, too."
    )
    assert "dropout alone" not in with_l2(both, alone, None)["sentence"]


def test_mean_activations_are_compared_as_ratios_in_which_layers_count_the_same(evidence_of):
    """One layer at half, one as before: the geometric mean of the ratios, whatever the layers' scales."""

    def run(*means):
        rates = ("conv[0]", 0.5), ("fc[0]", 0.5)
        layers = [
            evidence_of.layer(name, rate=rate, mean=mean) for (name, rate), mean in zip(rates, means, strict=True)
        ]
        return evidence_of("fc=0.5", layers=layers)

    after, before = [run(0.5, 100.0)] * 2, [run(1.0, 100.0)] * 2
    found = judged(MEAN, after, before, beside="with none")
    assert found["difference"] == pytest.approx(0.5**0.5 - 1)
    assert "The mean activation is 29.3% lower than with none" in found["sentence"]
    assert judged(MEAN, [run(0.0, 1.0)] * 2, before, beside="with none") is None


def test_what_else_differs_is_said(evidence_of):
    runs = [evidence_of("fc=0.5", gap=gap) for gap in (0.1, 0.2)]
    found = judged(GAP, runs, runs[::-1], beside="with none", also="weight_decay")
    assert found["told"].endswith("; the two differ in weight_decay, too.")


def test_what_was_not_trained_long_enough_is_not_judged(evidence_of):
    before = runs_with(evidence_of, [0.5, 0.6, 0.7], policy="none", rate=0.0)
    lower = runs_with(evidence_of, [0.2, 0.31, 0.42])
    found = judged(GAP, lower, before, beside="with none", trained=False)
    assert found["kind"] == "undertrained"
    assert found["sentence"].startswith(
        "Less overfitting: not judged, as it was not trained long enough. The gap is 0.290 nats lower"
    )


def test_the_layers_that_decide_are_those_where_it_drops(evidence_of):
    at = evidence_of.layer
    first, second = at("conv[0]", cost=0.0), at("fc[0]", rate=0.5, cost=0.4)
    run = evidence_of("fc=0.5", layers=[first, second])
    plain = evidence_of("none", layers=[at("conv[0]", cost=0.0), at("fc[0]", cost=0.6)])
    assert [layer["name"] for layer in deciding_layers([run], [plain])] == ["fc[0]"]
    found = judged(COST, [run, run], [plain, plain], beside="with none")
    assert found["difference"] == pytest.approx(-0.2)
    assert found["layers"] == ["fc[0]"]
    elsewhere = evidence_of("input=0.2", layers=[first, at("fc[0]", cost=0.4)])
    assert [layer["name"] for layer in deciding_layers([elsewhere], [plain])] == ["conv[0]", "fc[0]"]
    other = evidence_of("none", layers=[at("fc[0]")])
    assert [layer["name"] for layer in deciding_layers([elsewhere], [other])] == ["fc[0]"]  # what both have
