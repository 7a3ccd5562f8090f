"""Colours of policies and of the rates of a sweep."""

from dropkit.report.palette import BASELINE, colour, policy_colours


def test_policies_are_told_apart_and_a_sweep_runs_from_blue_to_rust() -> None:
    rows = [{"name": str(index)} for index in range(9)]
    assert policy_colours({"policies": rows[:5]}) == [colour(index) for index in range(5)]
    found = policy_colours({"policies": rows, "sweep": {"text": "fc=0:0.8:0.1"}})
    assert len(set(found)) == 9
    assert (found[0], found[1], found[-1]) == (BASELINE, "#0072B2", "#C4451C")


def test_short_sweeps_and_none() -> None:
    sweep = {"text": "fc=0:0.5:0.5"}
    assert policy_colours({"policies": [{}, {}], "sweep": sweep}) == [BASELINE, "#0072B2"]
    assert policy_colours({"policies": [{}], "sweep": sweep}) == [BASELINE]
    assert policy_colours({}) == []
