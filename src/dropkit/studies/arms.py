"""The arms of a comparison: policies, each with what else it varies of the config, and one name for both.

arm = POLICY;field=value;field=value        for example fc=0.5;weight_decay=0.0001
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, get_args, get_type_hints

from dropkit.errors import DropkitError, unknown
from dropkit.layers.schedule import parse as parse_schedule
from dropkit.models.policy import Policy
from dropkit.runs.config import HOW_FIELDS, TrainConfig, default_fields

FIELDS = (
    "model",
    "optimizer",
    "lr",
    "lr_schedule",
    "momentum",
    "weight_decay",
    "max_norm",
    "schedule",
    "batch_size",
    "epochs",
    "patience",
    "min_steps",
    "max_epochs",
    "class_weights",
    "augment",
    "precision",
)
"""What an arm may vary beside its dropout. The data and their splits stay the same, or nothing could be paired."""


def parse_arm(text: str) -> tuple[str, dict[str, Any]]:
    """Return the policy of an arm, and the fields that it sets.

    Raises:
        DropkitError: if it is not of the form POLICY;field=value, or names a field that cannot vary.

    Example:
        >>> parse_arm("fc=0.5;weight-decay=1e-4")
        ('fc=0.5', {'weight_decay': 0.0001})
    """
    policy, *parts = (part.strip() for part in str(text).split(";"))
    fields: dict[str, Any] = {}
    for part in parts:
        given, sign, value = (word.strip() for word in part.partition("="))
        if not (given and sign and value):
            raise DropkitError(
                f"policy {text!r}: {part!r} is not of the form field=value. "
                f"Write the dropout first, then other options, as in 'fc=0.5;weight_decay=1e-4'"
            )
        name = given.lstrip("-").replace("-", "_")
        if name not in FIELDS:
            raise unknown(f"field in policy {text!r}:", given, FIELDS)
        if name in fields:
            raise DropkitError(f"policy {text!r}: {name} is given twice: leave one of them out")
        fields[name] = _convert(name, value, text)
    return policy, fields


def _convert(name: str, value: str, text: str) -> Any:
    """Return a value as the field's type."""
    hint = get_type_hints(TrainConfig)[name]
    kinds = get_args(hint) or (hint,)
    if type(None) in kinds and value.lower() == "none" and str not in kinds:
        return None
    kind, words = next(
        (kind, words)
        for kind, words in ((int, "a whole number"), (float, "a number"), (str, "a text"))
        if kind in kinds
    )
    try:
        return kind(value)
    except ValueError:
        raise DropkitError(f"policy {text!r}: {name} must be {words}, but got {value!r}") from None


def arm_config(shared: TrainConfig, text: str) -> TrainConfig:
    """Return the training of an arm: `shared` with its policy and its fields."""
    policy, fields = parse_arm(text)
    return dataclasses.replace(shared, dropout=policy, **fields)


def varied_fields(configs: Sequence[TrainConfig]) -> list[str]:
    """Return the fields, beside the dropout, in which the trainings differ.

    A schedule goes with the epochs that it needs: where they differ, each training names its own.
    """
    varied = {name for name in FIELDS if any(getattr(c, name) != getattr(configs[0], name) for c in configs)}
    if "epochs" in varied and configs[0].schedule != default_fields()["schedule"]:
        varied.add("schedule")
    return [name for name in FIELDS if name in varied]


def arm_names(configs: Sequence[TrainConfig]) -> list[str]:
    """Return what each training of a comparison is called: its dropout, and what else it varies.

    A field stands in the name where the trainings differ in it and it is not the default.

    Example:
        >>> one = TrainConfig(data="digits", dropout="fc=0.5")
        >>> arm_names([one, dataclasses.replace(one, dropout="none", weight_decay=1e-4)])
        ['fc=0.5', 'none;weight_decay=0.0001']
    """
    varied, defaults = varied_fields(configs), default_fields()
    names = []
    for config in configs:
        told = _effective_fields(config)
        named = [f"{name}={_short(told[name])}" for name in varied if told[name] != defaults[name]]
        names.append(";".join([config.dropout, *named]))
    return names


def shared_config(configs: Sequence[TrainConfig]) -> TrainConfig:
    """Return what the trainings share: the first one, with the default wherever they differ.

    With it `arm_config` makes each training again from its name.
    """
    defaults = default_fields()
    return dataclasses.replace(configs[0], **{name: defaults[name] for name in varied_fields(configs)})


def _short(value: Any) -> str:
    """Return a value as it is typed: 0.0001, not 1e-04."""
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)


def require_batch_size(config: TrainConfig) -> None:
    """Refuse a batch size that each training of a study would find for itself.

    Raises:
        DropkitError: saying how to find one.
    """
    if config.finds_batch_size:
        raise DropkitError(
            "batch_size auto is for one training, and the trainings of a study share theirs: give a number, such as "
            "the one that dropkit train --batch-size auto finds"
        )


def require_comparable(configs: Sequence[TrainConfig]) -> None:
    """Refuse trainings that see other data or splits, or of which two are the same.

    Raises:
        DropkitError: naming what is wrong.
    """
    if len(configs) < 2:
        given = ", ".join(repr(config.dropout) for config in configs) or "none"
        raise DropkitError(
            f"a comparison needs at least two policies, but got {given}: separate them by spaces, "
            f"as in --policies none fc=0.5"
        )
    for config in configs:
        require_batch_size(config)
    names = arm_names(configs)
    _require_shared(configs, names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DropkitError(f"the policy {twice[0]!r} is given twice: leave one of them out")
    seen: dict[tuple[Any, ...], str] = {}
    for name, meaning in zip(names, map(_meaning, configs), strict=True):
        if meaning in seen:
            raise DropkitError(f"the policies {seen[meaning]!r} and {name!r} are the same: leave one out")
        seen[meaning] = name


def _require_shared(configs: Sequence[TrainConfig], names: Sequence[str]) -> None:
    first = dataclasses.asdict(configs[0])
    free = HOW_FIELDS | {"dropout", "seed", *FIELDS}
    for config, name in zip(configs[1:], names[1:], strict=True):
        for field, value in dataclasses.asdict(config).items():
            if field not in free and value != first[field]:
                raise DropkitError(
                    f"the trainings of a comparison share their data and splits, but {field} is {first[field]!r} for "
                    f"{names[0]!r} and {value!r} for {name!r}: make it the same"
                )


def _effective_fields(config: TrainConfig) -> dict[str, Any]:
    """Return what may vary, with the default in fields that have no effect in this training."""
    unused = ["momentum"] if config.optimizer != "sgd" else []
    unused += ["patience", "min_steps", "max_epochs"] if config.epochs is not None else []
    unused += ["schedule"] if config.dropout.strip() == "none" else []
    defaults = default_fields()
    return {name: defaults[name] if name in unused else getattr(config, name) for name in FIELDS}


def _meaning(config: TrainConfig) -> tuple[Any, ...]:
    """Return what two spellings of one training have in common, as fc=0.5 and fc=.5, or lr=0.001 and Adam's default."""
    policy = Policy.parse(config.dropout)
    told = {**_effective_fields(config), "lr": config.learning_rate}
    told["schedule"] = parse_schedule(told["schedule"])
    return policy.untouched, policy.items, *told.values()
