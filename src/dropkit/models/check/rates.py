"""Rates that cannot be meant."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import nn

from dropkit.layers.learned import ConcreteDropout
from dropkit.models.check.evidence import Evidence, Rule
from dropkit.models.check.finding import Finding
from dropkit.models.check.functional import functional_dropouts
from dropkit.models.check.sources import shown
from dropkit.models.operations import argument
from dropkit.models.own import class_name, rate_attribute

HIGH = 0.7  # rates above are taken for the probability of keeping; rates from papers go up to .5, of inputs less


def impossible_rate(evidence: Evidence) -> Iterator[Finding]:
    """DK011: a rate outside [0, 1], NaN or no number. Needs no run of the network, which would fail."""
    for path, given in evidence.given_rates.items():
        rate = evidence.rates.get(path)
        if given is None and rate_attribute(evidence.modules[path]) == "p":  # with timm's drop_prob it means 0
            rate = None
        if rate is None or not 0 <= rate <= 1:
            observed = f"p = {given!r} is no probability, and the next call in training mode fails or drops wrongly"
            yield Finding("DK011", "error", evidence.place(path), observed, "Set it to a number from 0 to 1")


def drops_everything(evidence: Evidence) -> Iterator[Finding]:
    """DK010: p = 1, perhaps by way of True."""
    for path, rate in evidence.rates.items():
        if rate == 1:
            yield _drops_everything(evidence.place(path), evidence.given_rates[path])
    for dropout in functional_dropouts(evidence.training):
        if dropout.acts and dropout.rate == 1:
            given = argument(dropout.operation, 1, "p", 1.0)
            yield _drops_everything(shown(dropout.operation.source), given, by_function=True)


def _drops_everything(where: str, given: Any, *, by_function: bool = False) -> Finding:
    if isinstance(given, bool) and by_function:
        observed = "p is True, which counts as 1: everything is dropped in training. F.dropout takes the rate first"
        cure = "Name both: F.dropout(x, p=0.5, training=self.training)"
    elif isinstance(given, bool | np.bool_):
        observed = "p is True, which counts as 1: everything is dropped in training"
        cure = "Give the probability of dropping, such as 0.5: dropout layers have no switch but train() and eval()"
    else:
        observed = "p = 1: everything is dropped in training, and nothing is learned from it"
        cure = "Give the probability of dropping, such as 0.5; to keep everything, 0"
    return Finding("DK010", "error", where, observed, cure)


def looks_like_keeping(evidence: Evidence) -> Iterator[Finding]:
    """DK012: a rate above .7."""
    for path, rate in evidence.rates.items():
        if HIGH < rate < 1 and not _may_be_high(evidence.modules[path]):
            yield _looks_like_keeping(evidence.place(path), rate)
    for dropout in functional_dropouts(evidence.training):
        if dropout.acts and dropout.rate is not None and HIGH < dropout.rate < 1:
            yield _looks_like_keeping(shown(dropout.operation.source), dropout.rate)


def _may_be_high(module: nn.Module) -> bool:
    """Whether high rates are usual: they are learned, or most patches of a picture are masked on purpose."""
    return isinstance(module, ConcreteDropout) or "patch_dropout" in class_name(module)


def _looks_like_keeping(where: str, rate: float) -> Finding:
    observed = f"p = {rate:.3g} drops {rate:.3g} of the units: more than {HIGH} is hardly ever meant"
    cure = f"To keep {rate:.3g} of them, give {1 - rate:.3g}: p is the probability of dropping"
    return Finding("DK012", "warning", where, observed, cure)


def all_rates_are_zero(evidence: Evidence) -> Iterator[Finding]:
    """DK013: the network has dropout, all of it at rate 0."""
    functional = [dropout.rate for dropout in functional_dropouts(evidence.training)]
    rates = [*evidence.rates.values(), *functional, *_inner_rates(evidence)]
    if evidence.rates and not any(rate is None or rate > 0 for rate in rates):
        count = len(evidence.rates)
        observed = f"the rate of {'the one' if count == 1 else f'all {count}'} dropout layer{'s' * (count > 1)} is 0"
        observed += ": nothing is dropped"
        yield Finding("DK013", "note", evidence.place(""), observed, "Set a rate, if dropout is wanted")


def _inner_rates(evidence: Evidence) -> list[float]:
    """Return the rates of torch's modules that drop inside."""
    inner = [module for module in evidence.modules.values() if isinstance(module, nn.RNNBase | nn.MultiheadAttention)]
    return [float(module.dropout) for module in inner]


RULES: tuple[Rule, ...] = (drops_everything, looks_like_keeping, all_rates_are_zero)
