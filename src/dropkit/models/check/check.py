"""Running all rules over a network."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from dropkit.models.check import (
    backward,
    evaluation,
    flow,
    ignored_rates,
    implementations,
    kinds,
    modes,
    norms,
    ranks,
    rates,
    reuse,
)
from dropkit.models.check.evidence import Evidence, Rule
from dropkit.models.check.finding import SEVERITIES, Finding
from dropkit.models.trace import cannot_run

RULES: tuple[Rule, ...] = (
    *evaluation.RULES,
    *modes.RULES,
    *ranks.RULES,
    *rates.RULES,
    *ignored_rates.RULES,
    *kinds.RULES,
    *implementations.RULES,
    *norms.RULES,
    *flow.RULES,
    *backward.RULES,
    *reuse.RULES,
)
NAMED = 3  # places that a finding about many of them names


def check(model: nn.Module, example_input: Any) -> list[Finding]:
    """Run a network and find the misuse of dropout in it.

    It is run several times, in training and in eval mode, and is afterwards as it was: its parameters, buffers,
    gradients, modes and hooks, and the state of the generators of random numbers. docs/check.md has a section for each
    code, with what is found and what is not.

    Args:
        model: any network, in the modes in which it is about to train; on its device.
        example_input: an input as it is trained on: a tensor such as [N, C, H, W], a tuple of positional or a dict of
            named arguments. A batch of real data, 8 samples or more, shows most.

    Returns:
        The findings: errors first, then warnings, then notes. What is found alike in many places is one finding.

    Raises:
        DropkitError: if the network cannot run on the example in both modes, is scripted, exported, quantised or not
            yet initialised, or on the meta device.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Dropout(0.9), nn.Linear(7, 3))
        >>> for finding in check(net, torch.randn(11, 5)):
        ...     print(finding.code, finding.severity, finding.where)
        DK012 warning 2
    """
    evidence = Evidence(model, example_input)
    with torch.inference_mode(False), torch.enable_grad(), warnings.catch_warnings(), evidence.put_back():
        warnings.simplefilter("ignore")  # what torch warns of, such as a rank, is found by the rules
        findings = list(rates.impossible_rate(evidence)) or list(_all_findings(evidence))
    return sorted(merged(findings), key=lambda finding: SEVERITIES.index(finding.severity))


def _all_findings(evidence: Evidence) -> Iterator[Finding]:
    if evidence.trained.failure is not None:  # next to nothing would be found, which must not look like a clean bill
        raise cannot_run(evidence.model, evidence.example_input, evidence.trained.failure, "training")
    for rule in RULES:
        yield from rule(evidence)


def merged(findings: list[Finding]) -> list[Finding]:
    """Return findings that differ in their places alone as one, which names the first of them."""
    places: dict[Finding, list[str]] = {}
    for finding in findings:
        places.setdefault(replace(finding, where=""), []).append(finding.where)
    return [replace(finding, where=_list(list(dict.fromkeys(where)))) for finding, where in places.items()]


def _list(places: list[str]) -> str:
    """Name up to three places, and count the others.

    >>> _list(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    if len(places) <= NAMED + 1:
        return ", ".join(places)
    return f"{', '.join(places[:NAMED])} and {len(places) - NAMED} more"
