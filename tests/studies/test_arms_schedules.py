"""Schedules and greatest norms as fields of an arm."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropkit.errors import DropkitError
from dropkit.runs.config import TrainConfig
from dropkit.studies.arms import arm_config, arm_names, parse_arm, require_comparable, shared_config

BASE = TrainConfig(data="digits", epochs=3)


def arms(*texts, **shared):
    return [arm_config(dataclasses.replace(BASE, **shared), text) for text in texts]


def test_max_norm_and_schedule_are_fields_of_an_arm():
    assert parse_arm("fc=0.5;max-norm=4;schedule=early:0.3") == ("fc=0.5", {"max_norm": 4.0, "schedule": "early:0.3"})
    texts = ["none", "fc=0.5", "fc=0.5;max_norm=4", "fc=0.5;schedule=early:0.3"]
    require_comparable(arms(*texts))
    assert arm_names(arms(*texts)) == texts
    with pytest.raises(DropkitError, match="max_norm must be a number, but got 'four'"):
        parse_arm("fc=0.5;max_norm=four")
    with pytest.raises(DropkitError, match="give the number of epochs too"):
        arms("fc=0.5;schedule=late:0.5;epochs=none")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["fc=0.5;schedule=linear", "fc=0.5;schedule=linear:1"], "are the same"),
        (["none", "none;schedule=linear"], "'none' is given twice"),  # nothing follows it
    ],
)
def test_schedules_that_are_the_same(texts, message):
    with pytest.raises(DropkitError, match=message):
        require_comparable(arms(*texts))


one = st.fixed_dictionaries(
    {"dropout": st.sampled_from(["none", "fc=0.5"])},
    optional={
        "epochs": st.integers(1, 9),
        "schedule": st.sampled_from(["constant", "linear", "early:0.3"]),
        "max_norm": st.none() | st.floats(0.1, 9),
    },
)


@given(st.lists(one, min_size=2, max_size=4))
def test_the_shared_config_and_the_names_make_the_same_trainings_again(many):
    configs = [dataclasses.replace(BASE, **fields) for fields in many]
    again = [arm_config(shared_config(configs), name) for name in arm_names(configs)]
    for first, other in zip(configs, again, strict=True):
        unused = {"max_epochs": 500} | ({"schedule": "constant"} if first.dropout == "none" else {})
        assert dataclasses.replace(first, **unused) == dataclasses.replace(other, **unused)
