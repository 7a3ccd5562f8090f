"""Arms: reading them, naming them, and getting the same training back from the name."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropkit.errors import DropkitError
from dropkit.runs.config import TrainConfig
from dropkit.studies.arms import FIELDS, arm_config, arm_names, parse_arm, require_comparable, shared_config

BASE = TrainConfig(data="digits")


def arms(*texts, **shared):
    return [arm_config(dataclasses.replace(BASE, **shared), text) for text in texts]


def test_values_get_their_fields_type():
    policy, fields = parse_arm(" conv=0.1,fc=0.5 ; --weight-decay=1e-4; batch_size = 32;optimizer=sgd;epochs=none")
    assert policy == "conv=0.1,fc=0.5"
    assert fields == {"weight_decay": 1e-4, "batch_size": 32, "optimizer": "sgd", "epochs": None}
    assert isinstance(fields["batch_size"], int)


def test_every_field_that_may_vary_is_one_of_the_config():
    assert set(FIELDS) <= {field.name for field in dataclasses.fields(TrainConfig)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fc=0.5;wieght_decay=1", "unknown field in policy .* 'wieght_decay'.* Did you mean 'weight_decay'"),
        ("fc=0.5;data=x", "unknown field in policy .* 'data'"),
        ("fc=0.5;seed=1", "unknown field in policy .* 'seed'"),
        ("fc=0.5;lr=fast", "lr must be a number, but got 'fast'"),
        ("fc=0.5;batch_size=1.5", "batch_size must be a whole number, but got '1.5'"),
        ("fc=0.5;lr", "'lr' is not of the form field=value"),
        ("fc=0.5;", "'' is not of the form field=value"),
        ("fc=0.5;lr=1;lr=2", "lr is given twice"),
    ],
)
def test_arms_that_cannot_be_read(text, message):
    with pytest.raises(DropkitError, match=message):
        parse_arm(text)


def test_a_value_out_of_range_is_refused_as_everywhere():
    with pytest.raises(DropkitError, match="weight_decay must be a number of at least 0"):
        arms("fc=0.5;weight_decay=-1")
    with pytest.raises(DropkitError, match="unknown optimizer 'adm'.*Did you mean 'adam'"):
        arms("fc=0.5;optimizer=adm")


def test_a_name_has_the_fields_that_vary_and_are_not_the_default():
    assert arm_names(arms("none", "fc=0.5")) == ["none", "fc=0.5"]
    assert arm_names(arms("none", "fc=0.5", lr=0.1)) == ["none", "fc=0.5"]
    assert arm_names(arms("none;lr=0.1", "fc=0.5;lr=1e-5")) == ["none;lr=0.1", "fc=0.5;lr=1e-05"]
    names = arm_names(arms("none", "none;weight_decay=0", "fc=0.5;weight_decay=0.00012345678", weight_decay=1e-4))
    assert names == ["none;weight_decay=0.0001", "none", "fc=0.5;weight_decay=0.00012345678"]


def test_fields_without_effect_are_in_no_name():
    assert arm_names(arms("none;epochs=300", "fc=0.5")) == ["none;epochs=300", "fc=0.5"]  # max_epochs rises with it
    assert arm_names(arms("none;optimizer=sgd;momentum=0.5", "none")) == ["none;optimizer=sgd;momentum=0.5", "none"]


values = {
    "optimizer": st.sampled_from(["adam", "sgd", "adamw"]),
    "lr": st.none() | st.floats(1e-6, 1.0),
    "weight_decay": st.floats(0.0, 1.0),
    "momentum": st.floats(0.0, 1.0),
    "batch_size": st.integers(1, 512),
    "epochs": st.none() | st.integers(1, 500),
    "model": st.sampled_from(["cnn", "mlp"]),
    "class_weights": st.sampled_from(["none", "balanced"]),
    "augment": st.none() | st.sampled_from(["none", "flip", "flip,crop"]),
}
one_config = st.fixed_dictionaries({"dropout": st.sampled_from(["none", "fc=0.5"])}, optional=values)


@given(st.lists(one_config, min_size=2, max_size=4))
def test_the_shared_config_and_the_names_make_the_same_trainings_again(many):
    configs = [dataclasses.replace(BASE, **fields) for fields in many]
    again = [arm_config(shared_config(configs), name) for name in arm_names(configs)]
    for one, other in zip(configs, again, strict=True):
        unused = {"momentum": 0.0} if one.optimizer != "sgd" else {}
        unused |= {"max_epochs": 500} if one.epochs is not None else {}
        assert dataclasses.replace(one, **unused) == dataclasses.replace(other, **unused)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["none"], "at least two policies, but got 'none'"),
        (["none", "none"], "'none' is given twice"),
        (["none;lr=0.1", "none;lr=0.1"], "'none' is given twice"),
        (["fc=0.5", "fc=.5"], "'fc=0.5' and 'fc=.5' are the same"),
        (["fc=0.5", "fc=0.5;lr=0.001"], "'fc=0.5' and 'fc=0.5;lr=0.001' are the same"),  # Adam's own rate
        (["fc=0.5", "fc=0.5;momentum=0.5"], "'fc=0.5' is given twice"),  # Adam has none
        (["none", "fcc"], "not of the form site=rate"),
    ],
)
def test_arms_that_cannot_be_compared(texts, message):
    with pytest.raises(DropkitError, match=message):
        require_comparable(arms(*texts))


@pytest.mark.parametrize("change", [{"max_train": 50}, {"split_seed": 1}, {"data": "x"}, {"image_size": "9"}])
def test_data_and_splits_are_shared(change):
    first, second = arms("none", "fc=0.5")
    with pytest.raises(DropkitError, match=f"share their data and splits, but {next(iter(change))} is"):
        require_comparable([first, dataclasses.replace(second, **change)])
    require_comparable([first, dataclasses.replace(second, seed=3, threads=1, out="x")])
