"""TrainConfig refuses what cannot be trained, and names folders so that the same options find them again."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropkit.errors import DropkitError
from dropkit.models.mlp import MLP
from dropkit.runs.config import HOW_FIELDS, TrainConfig, safe_name

DEFAULT = TrainConfig(data="digits")


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("epochs", 0, "a whole number of at least 1"),
        ("epochs", 2.5, "a whole number"),
        ("epochs", True, "a whole number"),
        ("patience", 0, "of at least 1"),
        ("max_epochs", -3, "of at least 1"),
        ("batch_size", 0, "of at least 1"),
        ("min_steps", -1, "of at least 0"),
        ("seed", -1, "of at least 0"),
        ("lr", 0.0, "greater than 0"),
        ("lr", float("nan"), "greater than 0"),
        ("weight_decay", -1e-4, "of at least 0"),
        ("momentum", 1.5, "at most 1"),
        ("max_train", 0, "of at least 1"),
        ("threads", 0, "of at least 1"),
        ("max_norm", 0, "greater than 0"),
        ("max_norm", float("nan"), "greater than 0"),
        ("max_norm", True, "greater than 0"),
    ],
)
def test_a_number_out_of_range_is_named_with_its_value_and_what_is_allowed(field, value, allowed):
    with pytest.raises(DropkitError, match=f"{field} must be .*{allowed}.*but got {value!r}"):
        TrainConfig(data="digits", **{field: value})


def test_unknown_choices_are_named_with_the_nearest():
    with pytest.raises(DropkitError, match=r"unknown optimizer 'adamm'.*Did you mean 'adam'\?"):
        TrainConfig(data="digits", optimizer="adamm")
    with pytest.raises(DropkitError, match="unknown precision 'float16'"):
        TrainConfig(data="digits", precision="float16")
    with pytest.raises(DropkitError, match="dropout must be a policy"):
        TrainConfig(data="digits", dropout=" ")


@pytest.mark.parametrize("text", ["erly:0.3", "late", "", None, 3])
def test_an_unknown_schedule_is_refused(text):
    with pytest.raises(DropkitError, match=f"schedule must be constant, linear, .*but got {text!r}"):
        TrainConfig(data="digits", epochs=3, schedule=text)


def test_a_schedule_needs_a_number_of_epochs():
    with pytest.raises(DropkitError, match="schedule 'early:0.3' follows .* give the number of epochs too"):
        TrainConfig(data="digits", schedule="early:0.3")
    with pytest.raises(DropkitError, match="schedule early: until must be .* at most 1, but got 3.0"):
        TrainConfig(data="digits", epochs=3, schedule="early:3")
    assert TrainConfig(data="digits", epochs=3, schedule="early:0.3").schedule == "early:0.3"
    assert DEFAULT.schedule == "constant"


def test_learning_rate_and_budget_have_their_defaults():
    assert [TrainConfig(data="x", optimizer=o).learning_rate for o in ("adam", "adamw", "sgd")] == [1e-3, 1e-3, 0.05]
    assert TrainConfig(data="x", lr=0.3).learning_rate == 0.3
    assert (DEFAULT.epoch_limit, TrainConfig(data="x", epochs=7).epoch_limit) == (200, 7)


def test_the_same_options_give_the_same_folder_and_every_other_option_another():
    assert DEFAULT.folder() == TrainConfig(data="digits").folder()
    others = {
        "data": "other",
        "dropout": "none",
        "seed": 1,
        "epochs": 3,
        "lr": 0.1,
        "optimizer": "sgd",
        "max_train": 99,
    }
    folders = {str(dataclasses.replace(DEFAULT, **{name: value}).folder()) for name, value in others.items()}
    assert len(folders | {str(DEFAULT.folder())}) == len(others) + 1


def test_where_and_how_fast_do_not_belong_to_the_identity():
    assert dataclasses.replace(DEFAULT, threads=1, device="cpu", out="x").identity() == DEFAULT.identity()
    changed = {"image_size": "7", "augment": "flip", "class_weights": "balanced", "group": "x", "on_bad_image": "skip"}
    changed |= {"epochs": 3, "schedule": "linear", "lr_schedule": "cosine", "max_norm": 4.0}
    other = dataclasses.replace(DEFAULT, fold="1/3", **changed)
    weights = {"pretrained", "finetune"}  # at most one of them
    assert set(other.identity()) == {field.name for field in dataclasses.fields(TrainConfig)} - HOW_FIELDS - weights
    for name in weights:
        assert TrainConfig(data="digits", model="timm:resnet18", **{name: True}).identity()[name] is True


def test_published_weights_need_a_librarys_network_and_one_use():
    with pytest.raises(DropkitError, match="finetune takes published .* none for model 'cnn': .*--model timm:resnet18"):
        TrainConfig(data="digits", finetune=True)
    with pytest.raises(DropkitError, match="give either pretrained.*or finetune.*not both"):
        TrainConfig(data="digits", model="timm:resnet18", pretrained=True, finetune=True)
    with pytest.raises(DropkitError, match="augment 'flip' could not act: leave it out"):
        TrainConfig(data="digits", model="timm:resnet18", pretrained=True, augment="flip")
    assert TrainConfig(data="digits", model="torchvision:vgg11", pretrained=True, augment="none").pretrained


def test_a_users_own_network_is_named_by_its_function_and_its_file():
    assert TrainConfig(data="digits", model=MLP).model == "dropkit.models.mlp:MLP"
    assert (
        TrainConfig(data="digits", model="a/long/way/nets.py:small")
        .folder()
        .name.startswith("digits-nets.py-small-fc=0.5-seed0-")
    )
    with pytest.raises(DropkitError, match="model must be a text"):
        TrainConfig(data="digits", model=" ")


@given(st.text(max_size=200))
def test_a_safe_name_stays_in_its_folder(text):
    name = safe_name(text)
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._=+,-")
    assert not name.startswith(".")
    assert len(name) <= 120


def test_a_falling_learning_rate_needs_a_number_of_epochs():
    with pytest.raises(DropkitError, match="lr_schedule 'cosine' ends with the training.*give the number of epochs"):
        TrainConfig(data="digits", lr_schedule="cosine")
    with pytest.raises(DropkitError, match="lr_schedule 'cosin'.*constant, cosine, linear"):
        TrainConfig(data="digits", lr_schedule="cosin", epochs=2)
    assert TrainConfig(data="digits", lr_schedule="linear", epochs=2).lr_schedule == "linear"
