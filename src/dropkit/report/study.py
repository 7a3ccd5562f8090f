"""A study's record as what its page shows: every number already text."""

from collections.abc import Mapping, Sequence
from typing import Any

from dropkit.errors import DropkitError
from dropkit.report import figures, numbers, palette
from dropkit.report.curves import read_policy
from dropkit.report.evidence import evidence_block
from dropkit.report.facts import cautions, page_facts, tested_on, text
from dropkit.report.panels import Block, Pane, Panel
from dropkit.report.rates import rates_block
from dropkit.report.search import search_blocks
from dropkit.report.sections import detail_blocks
from dropkit.report.training import gap_block, learning_block

VERDICTS = {
    "helps": "helps",
    "hurts": "hurts",
    "none": "no clear difference",
    "undertrained": "undertrained",
    "diverged": "diverged",
}
METRICS = ("error", "balanced_error", "nll", "ece", "gap")
JUDGED_BY = ("error", "balanced-error", "nll")


def study_view(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of the study's template.

    Raises:
        DropkitError: if the record names no policies.
    """
    policies = record.get("policies") or []
    if not policies:
        raise DropkitError("the record of a study must list its 'policies', but it has none: give a study.json")
    metric = record["metric"] if record.get("metric") in JUDGED_BY else "error"
    colours = palette.policy_colours(record)
    rows = [_row(policy, colour, metric, record) for policy, colour in zip(policies, colours, strict=True)]
    advice = str((record.get("recommendation") or {}).get("sentence") or "")
    answer, rest = headline(str(record.get("verdict") or "The study has no verdict."))
    return {
        **page_facts(record),
        "title": f"{text((record.get('data') or {}).get('name'))}: does dropout pay?",
        "question": str(record.get("question") or "study"),
        "answer": answer,
        "rest": rest.replace(advice, "").strip(),  # it stands in full size below
        "recommendation": record.get("recommendation") or None,
        "tiles": _tiles(record, policies, rows, metric),
        "columns": _columns(rows, metric),
        "main": _key(metric),
        "metric_word": {"nll": "NLL", "balanced-error": "balanced error"}.get(metric, metric),
        "rows": rows,
        "intervals": any(value["bounds"] for row in rows for value in row["metrics"].values()),
        "cautions": cautions(record),
        "runs": [_run_row(run) for run in record.get("runs") or ()],
        "tested_on": tested_on(record),
        "blocks": _blocks(record, policies, metric),
        "compared": len(policies) > 1,
    }


def headline(paragraph: str) -> tuple[str, str]:
    """Part the first sentence from the rest.

    >>> headline("fc=0.5 helps. It costs nothing.")
    ('fc=0.5 helps.', 'It costs nothing.')
    """
    for mark in (". ", "! ", "? ", ".\n"):
        first, found, rest = paragraph.strip().partition(mark)
        if found and len(first) >= 12:
            return first + mark[0], rest.strip()
    return paragraph.strip(), ""


def _row(policy: Mapping[str, Any], colour: str, metric: str, record: Mapping[str, Any]) -> dict[str, Any]:
    verdict = policy.get("verdict") or {}
    recommended = (record.get("recommendation") or {}).get("policy") if _decided(record) else None
    return {
        "name": str(policy.get("name", "")),
        "colour": colour,
        "recommended": recommended is not None and recommended == policy.get("name"),
        "n": numbers.whole(policy.get("n")),
        "diverged": policy.get("diverged") or 0,
        "metrics": {name: _metric(policy, name) for name in METRICS},
        "difference": numbers.difference(verdict.get("difference"), metric),
        "bounds": numbers.interval(verdict.get("low"), verdict.get("high"), metric, sign=True),
        "p": numbers.p_value(verdict.get("p_holm")),
        "p_alone": numbers.p_value(verdict.get("p_value")),
        "kind": verdict.get("kind"),
        "chip": _chip(verdict.get("kind")) if verdict else "",
        "sentence": str(verdict.get("sentence") or ""),
        "epochs": _epochs(policy),
        "doubt": _doubt(verdict),
    }


def _decided(record: Mapping[str, Any]) -> bool:
    """Whether any policy was shown to help or hurt: else keeping the first is a default, no recommendation."""
    kinds = {(policy.get("verdict") or {}).get("kind") for policy in record["policies"]}
    return bool(kinds & {"helps", "hurts"})


def _key(metric: str) -> str:
    """The name under which a record's rows hold the study's metric."""
    return metric.replace("-", "_")


def _columns(rows: Sequence[dict[str, Any]], metric: str) -> list[tuple[str, str]]:
    """Return the table's columns; the balanced error only where a row has one."""
    heads = {"error": "Error", "balanced_error": "Balanced error", "nll": "NLL", "ece": "ECE", "gap": "Gap"}
    known = any(row["metrics"]["balanced_error"]["mean"] != numbers.DASH for row in rows)
    return [(key, head) for key, head in heads.items() if key != "balanced_error" or known or key == _key(metric)]


def _metric(policy: Mapping[str, Any], name: str) -> dict[str, str]:
    value = (policy.get("metrics") or {}).get(name) or {}
    return {
        "mean": numbers.quantity(value.get("mean"), name),
        "bounds": numbers.interval(value.get("low"), value.get("high"), name),
    }


def _chip(kind: Any) -> str:
    return VERDICTS.get(str(kind), str(kind))


def _epochs(policy: Mapping[str, Any]) -> str:
    best, ran = policy.get("best_epoch") or (), policy.get("epochs") or ()
    if not best and not ran:
        return ""
    budget = numbers.whole(policy.get("budget"))
    return f"Best epoch {numbers.span(best)} of {numbers.span(ran)} run, {budget} allowed."


def _doubt(verdict: Mapping[str, Any]) -> str:
    """Say where the interval's width comes from, and so what would narrow it."""
    seeds, pictures = numbers.finite(verdict.get("from_seeds")), numbers.finite(verdict.get("from_pictures"))
    low, high = numbers.finite(verdict.get("low")), numbers.finite(verdict.get("high"))
    if seeds is None or pictures is None or (low is not None and low == high):
        return ""  # an interval without width has nothing to narrow
    more = "more seeds" if seeds >= pictures else "a larger test set"
    return (
        f"Of the uncertainty, {100 * seeds:.0f} % comes from the seeds and {100 * pictures:.0f} % from the test "
        f"pictures: {more} would narrow it most."
    )


def _tiles(
    record: Mapping[str, Any],
    policies: Sequence[Mapping[str, Any]],
    rows: Sequence[dict[str, Any]],
    metric: str,
) -> list[dict[str, str]]:
    """The key figures: the first policy, the one to look at, their difference, the training time."""
    word = numbers.metric_name(metric)
    rival = _rival(policies, rows, metric)
    tiles = [_value_tile(rows[0], metric, word)]
    if rival is not None:
        tiles.append(_value_tile(rival, metric, word))
        foot = f"{rival['bounds']} (95\u00a0% interval)" if rival["bounds"] else ""
        tiles.append({"head": "difference", "name": "", "value": rival["difference"], "foot": foot, "colour": ""})
    runs = numbers.plural(len(record.get("runs") or ()), "run")
    seeds = _repeats(record)
    took = numbers.duration(record.get("seconds"))
    tiles.append({"head": "training time, summed", "name": "", "value": took, "foot": f"{runs}, {seeds}", "colour": ""})
    return tiles


def _rival(policies: Sequence[Mapping[str, Any]], rows: Sequence[dict[str, Any]], metric: str) -> dict[str, Any] | None:
    """The recommended policy, or the best of the others where the first one is recommended."""
    chosen = next((row for row in rows[1:] if row["recommended"]), None)
    means = [
        (mean, index)
        for index, policy in enumerate(policies[1:], start=1)
        if (mean := numbers.finite(((policy.get("metrics") or {}).get(_key(metric)) or {}).get("mean"))) is not None
    ]
    return chosen or (rows[min(means)[1]] if means else None)


def _value_tile(row: Mapping[str, Any], metric: str, word: str) -> dict[str, str]:
    value = row["metrics"][_key(metric)]
    foot = f"{value['bounds']} (95\u00a0% interval)" if value["bounds"] else ""
    return {"head": word, "name": row["name"], "value": value["mean"], "foot": foot, "colour": row["colour"]}


def _run_row(run: Mapping[str, Any]) -> dict[str, str]:
    summary = run.get("summary") or {}
    test, validation = summary.get("test") or {}, summary.get("val") or {}
    return {
        "policy": str(run.get("policy", "")),
        "seed": text(run.get("seed")),
        "fold": str(run.get("fold") or ""),
        "status": text(run.get("status")),
        "best": numbers.whole(summary.get("best_epoch")),
        "epochs": numbers.whole(summary.get("epochs")),
        "val": numbers.percent(validation.get("error")),
        "test": numbers.percent(test.get("error")),
        "nll": numbers.decimals(test.get("nll")),
        "gap": numbers.decimals(summary.get("gap")),
        "took": numbers.duration(summary.get("seconds")),
        "folder": str(run.get("folder") or ""),
    }


def _blocks(record: Mapping[str, Any], policies: Sequence[Mapping[str, Any]], metric: str) -> list[Block]:
    runs = record.get("runs") or ()
    lines = [
        read_policy(
            str(policy.get("name", "")),
            colour,
            [run for run in runs if run.get("policy") == policy.get("name")],
        )
        for policy, colour in zip(policies, palette.policy_colours(record), strict=True)
    ]
    total = sum(len(policy.traces) for policy in lines)
    counts = f"n = {numbers.plural(total, 'run')}, {_repeats(record)} a policy."
    blocks = [
        _forest_block(record, policies, metric),
        learning_block(lines, counts),
        gap_block(lines, counts),
        rates_block(record),
        evidence_block(record),
    ]
    return [*search_blocks(record), *(block for block in blocks if block is not None), *detail_blocks(record)]


def _repeats(record: Mapping[str, Any]) -> str:
    """What a policy's runs differ in: seeds, or the folds of a cross-validation."""
    folds = record.get("folds") or {}
    if not folds:
        return numbers.plural(len(record.get("seeds") or ()), "seed")
    repetitions = folds.get("repetitions") or 1
    times = f" × {numbers.plural(repetitions, 'repetition')}" if repetitions > 1 else ""
    return numbers.plural(folds.get("k") or 0, "fold") + times


def _forest_block(record: Mapping[str, Any], policies: Sequence[Mapping[str, Any]], metric: str) -> Block | None:
    rows = [
        {
            **(policy.get("verdict") or {}),
            "name": str(policy.get("name", "")),
            "colour": colour,
        }
        for policy, colour in zip(policies, palette.policy_colours(record), strict=True)
    ]
    drawn = figures.forest(rows[1:], metric)
    if drawn is None:
        return None
    word = numbers.metric_name(metric)
    sizes = {numbers.whole(policy.get("n")) for policy in policies}
    each = ", ".join(
        f"{row['name']} {numbers.whole(policy.get('n'))}" for row, policy in zip(rows, policies, strict=True)
    )
    size = sizes.pop() if len(sizes) == 1 else None
    runs = "run" if size == "1" else "runs"
    counts = f"n = {size} {runs} a policy" if size is not None else f"n = runs a policy ({each})"
    panel = Panel(id="forest", figure=drawn, description="Differences to the first policy with 95 % intervals")
    return Block(
        id="differences",
        nav="Differences",
        title=f"Difference in {word} to {rows[0]['name']}",
        meaning="Each point is a policy's mean difference, each bar the range in which the true one "
        "plausibly lies (95\u00a0% interval). A bar that crosses the line at zero leaves open "
        "whether there is any difference.",
        panes=[Pane(panels=[panel], columns=1)],
        notes=[f"{counts}, on {tested_on(record)}."],
    )
