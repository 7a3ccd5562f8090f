"""Sweeps: the grammar, and what is said of the rates."""

from types import SimpleNamespace

import pytest

from dropkit.errors import DropkitError
from dropkit.studies.sweep import Sweep, describe_sweep


@pytest.mark.parametrize(
    ("text", "policies"),
    [
        ("fc=0:0.8:0.2", ["fc=0", "fc=0.2", "fc=0.4", "fc=0.6", "fc=0.8"]),
        ("fc=0:.3:.1", ["fc=0", "fc=0.1", "fc=0.2", "fc=0.3"]),  # binary floats would miss the stop
        ("fc=0.10:0.30:0.10", ["fc=0.1", "fc=0.2", "fc=0.3"]),
        ("fc=0:1:0.4", ["fc=0", "fc=0.4", "fc=0.8"]),  # the stop is not on the grid
        ("conv=0.1, fc=0:1:1", ["conv=0.1,fc=0", "conv=0.1,fc=1"]),
        ("conv=channel:0:0.5:0.25,fc=0.5", [f"conv=channel:{r},fc=0.5" for r in ("0", "0.25", "0.5")]),
        ("conv@act=0:5e-2:2.5e-2", ["conv@act=0", "conv@act=0.025", "conv@act=0.05"]),
    ],
)
def test_ranges_are_read(text, policies):
    sweep = Sweep.parse(text)
    assert list(sweep.policies) == policies
    assert sweep.text == text


def test_the_rates_their_site_and_their_kind_are_known():
    sweep = Sweep.parse("fc=0.5,conv=channel:0:0.3:0.1")
    assert (sweep.rates, sweep.site, sweep.kind) == ((0.0, 0.1, 0.2, 0.3), "conv", "channel")
    assert Sweep.parse("fc=0:0.3:0.1").kind == "unit"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fc=0.5", "has no range: write one rate as START:STOP:STEP"),
        ("conv=channel:0.5", "has no range"),
        ("fc=0:0.5:0.1,conv=0:0.5:0.1", "has more than one range"),
        ("fc=0:0.5", "'0:0.5' is not three numbers"),
        ("conv=channel:0:0.5", "'0:0.5' is not three numbers"),
        ("fc=0:half:0.1", "'0:half:0.1' is not three numbers"),
        ("fc=0:nan:0.1", "is not three numbers"),
        ("fc=0:0.5:0", "the step must be greater than 0, but got 0"),
        ("fc=0:0.5:-0.1", "the step must be greater than 0, but got -0.1"),
        ("fc=0:1.5:0.1", "from 0 to 1, but the stop is 1.5"),
        ("fc=-0.1:0.5:0.1", "from 0 to 1, but the start is -0.1"),
        ("fc=0:0.1:0.2", "has 1 rate: give a range with 2 to 25 of them"),
        ("fc=0.5:0.1:0.1", "has 0 rates"),
        ("fc=0:1:0.01", "has 101 rates"),
        ("conv=chanel:0:0.5:0.1", "unknown kind of dropout .*'chanel'.*Did you mean 'channel'"),
        ("fc=0:0.5:0.1,conv", "'conv' is not of the form site=rate"),
    ],
)
def test_ranges_that_cannot_be_used(text, message):
    with pytest.raises(DropkitError, match=message):
        Sweep.parse(text)


# what is said


def runs_of(val, train, status="finished"):
    """Three runs around these losses: shifts that all rates share cancel, as those of equal seeds do."""
    return [
        SimpleNamespace(
            diverged=status == "diverged",
            config=SimpleNamespace(fold=None),
            summary={
                "val": {"loss": val + shift + small},
                "train": {"loss": train + shift},
                "gap": val - train + small,
            },
        )
        for shift, small in zip((-0.2, 0.0, 0.2), (-0.001, 0.0, 0.001), strict=True)
    ]


SWEEP = Sweep.parse("fc=0:0.8:0.2")


def jitter(runs, amount):
    """Make a rate's losses differ from seed to seed, so that they cannot be told from another's."""
    for run, sign in zip(runs, (-1, 1, 0.5), strict=True):
        run.summary["val"]["loss"] += sign * amount
    return runs


def test_a_clear_valley_overfits_on_the_left_and_underfits_on_the_right():
    groups = {
        policy: runs_of(*pair)
        for policy, pair in zip(
            SWEEP.policies, [(0.50, 0.10), (0.40, 0.15), (0.30, 0.20), (0.35, 0.30), (0.60, 0.60)], strict=True
        )
    }
    for number, runs in enumerate(groups.values()):
        for i, run in enumerate(runs):  # not exactly parallel, as seeds are not
            run.summary["val"]["loss"] += 0.0005 * ((number + i) % 3)
            run.summary["train"]["loss"] += 0.0005 * ((number + 2 * i) % 3)
            run.summary["gap"] += 0.0005 * ((2 * number + i) % 3)
    found = describe_sweep(SWEEP, groups)
    assert found["lowest"] == {"policy": "fc=0.4", "rate": 0.4}
    assert (found["text"], found["site"], found["kind"]) == ("fc=0:0.8:0.2", "fc", "unit")
    assert (found["overfits_below"], found["underfits_above"]) == (0.2, 0.6)
    for untrained, sides in ({"fc=0.8"}, (0.2, None)), ({"fc=0"}, (None, 0.6)), ({"fc=0.4"}, (None, None)):
        cautious = describe_sweep(SWEEP, groups, untrained)
        assert (cautious["overfits_below"], cautious["underfits_above"]) == sides
        assert ("It overfits" in cautious["sentence"]) is (sides[0] is not None)
        assert ("It underfits" in cautious["sentence"]) is (sides[1] is not None)
        assert "not trained long enough" in cautious["sentence"]
    assert found["sentence"] == (
        "Validation loss is lowest at rate 0.4 (0.300 nats, mean of 3 runs). "
        "It overfits from 0 to 0.2: validation loss is higher and the gap to the training loss wider "
        "(0.401 nats at 0, 0.100 at 0.4). "
        "It underfits from 0.6 to 0.8: the training loss itself is higher (0.600 nats at 0.8, 0.201 at 0.4)."
    )


def test_what_seeds_cannot_tell_apart_is_not_claimed():
    losses = [(0.32, 0.10), (0.31, 0.15), (0.30, 0.20), (0.31, 0.30), (0.32, 0.40)]
    groups = {
        policy: jitter(runs_of(*pair), 0.05 * (policy != "fc=0.4"))
        for policy, pair in zip(SWEEP.policies, losses, strict=True)
    }
    found = describe_sweep(SWEEP, groups)
    assert found["overfits_below"] is found["underfits_above"] is None
    assert found["sentence"] == (
        "Validation loss is lowest at rate 0.4 (0.300 nats, mean of 3 runs); "
        "the other rates from 0 to 0.8 cannot be told from it."
    )


def test_a_few_rates_are_listed():
    losses = [(0.31, 0.10), (0.40, 0.15), (0.30, 0.20), (0.31, 0.30), (0.60, 0.20)]
    groups = {}
    for policy, pair in zip(SWEEP.policies, losses, strict=True):
        groups[policy] = jitter(runs_of(*pair), 0.0001 if policy in ("fc=0.2", "fc=0.8") else 0.05 * (pair[0] == 0.31))
    assert "; 0 and 0.6 cannot be told from it." in describe_sweep(SWEEP, groups)["sentence"]


def test_runs_that_diverged_leave_their_seed_out_of_every_rate():
    groups = {policy: runs_of(0.3 + 0.1 * i, 0.2) for i, policy in enumerate(SWEEP.policies)}
    groups["fc=0.8"][0].diverged = True
    assert "(0.400 nats, mean of 2 runs)" in describe_sweep(SWEEP, groups)["sentence"]  # the seeds with +0 and +0.2
    groups["fc=0.8"] = runs_of(0.3, 0.2, "diverged")
    assert "(0.300 nats, mean of 3 runs)" in describe_sweep(SWEEP, groups)["sentence"]


def test_where_everything_diverged_there_is_no_lowest():
    found = describe_sweep(SWEEP, {policy: runs_of(0.3, 0.2, "diverged") for policy in SWEEP.policies})
    assert found["lowest"] is None
    assert "every training diverged" in found["sentence"]
