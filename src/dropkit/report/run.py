"""A run's record as what its page shows: every number already text."""

from collections.abc import Mapping
from typing import Any

from dropkit.report import numbers, palette
from dropkit.report.curves import diverged, read_policy
from dropkit.report.evidence import evidence_block
from dropkit.report.facts import cautions, page_facts, tested_on, text
from dropkit.report.learned_rates import learned_rates_block
from dropkit.report.sections import detail_blocks
from dropkit.report.training import gap_block, learning_block
from dropkit.report.uncertainty import uncertainty_block

SPLITS = (("train", "training (a part)"), ("val", "validation"), ("test", "test"))


def run_view(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of the run's template."""
    summary = record.get("summary") or {}
    policy = str(record.get("policy", ""))
    lines = [read_policy(policy, palette.colour(1), [record])]
    blocks = [
        learning_block(lines, "n = 1 run."),
        gap_block(lines, "n = 1 run."),
        learned_rates_block(record),
        uncertainty_block(record),
        evidence_block(record),
    ]
    error = numbers.percent((summary.get("test") or {}).get("error"))
    failed = diverged(record)
    balanced = any((summary.get(key) or {}).get("balanced_error") is not None for key, _ in SPLITS)
    return {
        **page_facts(record),
        "title": f"{text((record.get('data') or {}).get('name'))}: one run with {policy}",
        "policy": policy,
        "seed": _seed(record),
        "diverged": failed,
        "answer": _answer(error, failed, summary),
        "recommendation": record.get("recommendation") or None,
        "best_epoch": numbers.whole(summary.get("best_epoch")),
        "epochs": numbers.whole(summary.get("epochs")),
        "tested_on": tested_on(record),
        "tiles": _tiles(summary),
        "splits": [(word, _split_row(summary.get(key) or {})) for key, word in SPLITS],
        "balanced": balanced,
        "cautions": cautions(record),
        "blocks": [*(block for block in blocks if block is not None), *detail_blocks(record)],
    }


def _seed(record: Mapping[str, Any]) -> str:
    seeds = record.get("seeds") or ()
    known = record.get("seed", seeds[0] if seeds else (record.get("config") or {}).get("seed"))
    return text(known)


def _answer(error: str, failed: bool, summary: Mapping[str, Any]) -> str:
    if failed:
        reason = summary.get("reason") or "its loss was no longer a finite number"
        kept = "" if summary.get("best_epoch") else " before an epoch was finished, so there is no model"
        return f"The training diverged{kept}: {reason}. Try a lower learning rate."
    if error == numbers.DASH:
        return "The run has no test error yet."
    return f"{error} of the test pictures are classified wrongly."


def _tiles(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    test = summary.get("test") or {}
    values = (
        ("test error", numbers.percent(test.get("error")), "share of wrong answers"),
        ("test loss (NLL)", numbers.decimals(test.get("nll")), "nats a picture"),
        ("gap", numbers.decimals(summary.get("gap")), "validation − training loss, nats"),
        ("took", numbers.duration(summary.get("seconds")), f"{numbers.whole(summary.get('epochs'))} epochs"),
    )
    return [{"head": head, "name": "", "value": value, "foot": foot, "colour": ""} for head, value, foot in values]


def _split_row(values: Mapping[str, Any]) -> dict[str, str]:
    return {
        "error": numbers.percent(values.get("error")),
        "balanced_error": numbers.percent(values.get("balanced_error")),
        "nll": numbers.decimals(values.get("nll", values.get("loss"))),  # the same: cross-entropy in nats
        "ece": numbers.decimals(values.get("ece")),
    }
