"""Each claim is judged on its own side of 0, at the layers where the policy drops, and only with an interval."""

import pytest

from dropkit.runs.intervals import mean_interval
from dropkit.studies.evidence.claims import CLAIMS, ENSEMBLE, deciding_layers, judged

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
    assert judged(ENSEMBLE, [evidence_of("none")], None, beside="that of one") is None
    assert judged(GAP, [], [], beside="with none") is None


def test_the_ensemble_is_a_difference_within_each_run(evidence_of):
    runs = [evidence_of("fc=0.5", one=one, average=0.1) for one in (0.2, 0.21, 0.22)]
    found = judged(ENSEMBLE, runs, None, beside="that of one, in 20 draws")
    assert found["difference"] == pytest.approx(-0.11)
    assert found["kind"] == "shown"


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
