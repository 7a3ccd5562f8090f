"""A reproduction's record as what its page shows: ours with intervals beside the paper's, as pictures and in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from dropkit.errors import DropkitError
from dropkit.report import figures, numbers, palette
from dropkit.report.beside import beside_figure, curves_figure, histogram_figure, unit_means_figure
from dropkit.report.curves import read_policy
from dropkit.report.facts import cautions, page_facts, text
from dropkit.report.panels import Block, Pane, Panel
from dropkit.report.training import learning_block

MOST_CURVES = 6  # trainings whose learning curves are shown
CHIPS = {
    "shown": ("shown", "helps"),
    "alike": ("no difference shown", "helps"),
    "opposite": ("the opposite is shown", "hurts"),
    "differs": ("they differ", "hurts"),
    "not shown": ("not shown", "none"),
    "unknown": ("unknown", "none"),
}

Row = Mapping[str, Any]


def reproduction_view(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of the reproduction's template.

    Raises:
        DropkitError: if the record has no rows.
    """
    rows = record.get("rows") or []
    if not rows:
        raise DropkitError("the record of a reproduction must list its 'rows': give a reproduction.json")
    colours = row_colours(record)
    return {
        **page_facts(record),
        "data_name": " and ".join(_sources(rows)),
        "title": f"{record.get('title')}: ours beside the paper's",
        "where": str(record.get("where") or ""),
        "budget": str(record.get("budget") or ""),
        "answer": _answer(record),
        "seeds": numbers.plural(len(record.get("seeds") or ()), "seed"),
        "several": len({row.get("measure") for row in rows}) > 1,
        "rows": [_row(row, colour) for row, colour in zip(rows, colours, strict=True)],
        "claims": [_claim(claim) for claim in record.get("claims") or ()],
        "marks": [(str(mark.get("sentence")), *_reached(mark)) for mark in record.get("marks") or ()],
        "differences": [str(sentence) for sentence in record.get("differences") or ()],
        "cautions": cautions(record),
        "runs": [_run(run) for run in record.get("runs") or ()],
        "blocks": [block for block in _blocks(record, colours) if block is not None],
    }


def row_colours(record: Mapping[str, Any]) -> list[str]:
    """Return a colour for each row: that of its training, so that rows which share one share its colour."""
    rows = record["rows"]
    order: dict[str, str] = {}
    for row in rows:
        key = str(row.get("series") or row.get("training"))
        order.setdefault(key, palette.colour(len(order)))
    return [order[str(row.get("series") or row.get("training"))] for row in rows]


def figure(value: Any, unit: Any) -> str:
    """Return a figure in its unit: fractions as percent.

    >>> figure(0.0123, "fraction"), figure(1.5, "activation"), figure(None, "fraction")
    ('1.23\\xa0%', '1.50', '–')
    """
    return numbers.percent(value) if unit == "fraction" else numbers.decimals(value, 2)


def _answer(record: Mapping[str, Any]) -> str:
    """Say in a line what became of the paper's order."""
    claims = record.get("claims") or ()
    kinds = [claim.get("kind") for claim in claims]
    held, against = sum(k in ("shown", "alike") for k in kinds), sum(k in ("opposite", "differs") for k in kinds)
    title = str(record.get("title") or "")
    if not claims:
        return title
    spoken = f"{held} of {numbers.plural(len(claims), 'statement')} of the paper hold here"
    spoken = spoken.replace("hold here", "holds here") if held == 1 else spoken
    rest = f", {against} {'is' if against == 1 else 'are'} contradicted" if against else ""
    left = len(claims) - held - against
    still = f", {left} {'is' if left == 1 else 'are'} not shown" if left else ""
    return f"{title}: {spoken}{rest}{still}."


def _sources(rows: Sequence[Row]) -> list[str]:
    """Return the data sets, each once."""
    return list(dict.fromkeys(str(row.get("source") or "") for row in rows))


def _row(row: Row, colour: str) -> dict[str, Any]:
    unit = row.get("unit")
    scale = 100 if unit == "fraction" else 1
    spread = numbers.finite(row.get("paper_spread"))
    low, high = numbers.finite(row.get("low")), numbers.finite(row.get("high"))
    return {
        "name": str(row.get("name") or ""),
        "policy": str(row.get("dropout") or ""),
        "colour": colour,
        "measure": str(row.get("measure") or ""),
        "n": numbers.whole(row.get("n")),
        "diverged": row.get("diverged") or 0,
        "ours": figure(row.get("mean"), unit),
        "bounds": "" if low is None or high is None else f"{scale * low:.2f} to {scale * high:.2f}",
        "paper": f"{'about ' if row.get('about') else ''}{figure(row.get('paper'), unit)}",
        "spread": "" if spread is None else f"±{scale * spread:.2f}",
        "apart": _apart(row),
        "chip": _agreement(row),
        "sentence": str(row.get("sentence") or ""),
    }


def _agreement(row: Row) -> tuple[str, str]:
    """Return the words and the kind of a row's chip; nothing where the paper or the interval is missing."""
    if row.get("agrees") is None:
        return "", ""
    return ("agrees", "helps") if row["agrees"] else ("differs", "none")


def _apart(row: Row) -> str:
    """Return by how much ours lies above the paper's, or below it."""
    ours, paper = numbers.finite(row.get("mean")), numbers.finite(row.get("paper"))
    if ours is None or paper is None:
        return numbers.DASH
    if row.get("unit") == "fraction":
        return numbers.difference(ours - paper, "error")
    return numbers.decimals(ours - paper, 2, sign=True)


def _claim(claim: Mapping[str, Any]) -> dict[str, str]:
    words, kind = CHIPS.get(str(claim.get("kind")), ("unknown", "none"))
    return {
        "sentence": str(claim.get("sentence") or ""),
        "chip": words,
        "kind": kind,
        "p": numbers.p_value(claim.get("p_holm")),
    }


def _reached(mark: Mapping[str, Any]) -> tuple[str, str]:
    """Return what became of a mark, and the kind of its chip."""
    if mark.get("reached") is None:
        return "still open", "none"
    return ("reached", "helps") if mark["reached"] else ("not reached", "hurts")


def _run(run: Mapping[str, Any]) -> dict[str, str]:
    summary = run.get("summary") or {}
    test, validation = summary.get("test") or {}, summary.get("val") or {}
    return {
        "training": str(run.get("training") or ""),
        "policy": str(run.get("policy") or ""),
        "seed": text(run.get("seed")),
        "status": text(run.get("status")),
        "best": numbers.whole(summary.get("best_epoch")),
        "epochs": numbers.whole(summary.get("epochs")),
        "val": numbers.percent(validation.get("error")),
        "test": numbers.percent(test.get("error")),
        "gap": numbers.decimals(summary.get("gap")),
        "took": numbers.duration(summary.get("seconds")),
        "folder": str(run.get("folder") or ""),
    }


def _blocks(record: Mapping[str, Any], colours: Sequence[str]) -> list[Block | None]:
    return [
        _curves_block(record, colours) if record.get("axis") else _beside_block(record, colours),
        _activity_block(record),
        _claims_block(record),
        _learning_block(record),
    ]


def _counts(record: Mapping[str, Any]) -> str:
    seeds = numbers.plural(len(record.get("seeds") or ()), "seed")
    return f"n = {seeds} a row; bars are 95\u00a0% intervals over seeds (Student's t)."


def _beside_block(record: Mapping[str, Any], colours: Sequence[str]) -> Block | None:
    rows = record["rows"]
    panels = []
    for number, measure in enumerate(dict.fromkeys(str(row.get("measure")) for row in rows)):
        mine = [(row, colour) for row, colour in zip(rows, colours, strict=True) if row.get("measure") == measure]
        drawn = beside_figure([row for row, _ in mine], [colour for _, colour in mine])
        if drawn is not None:
            words = f"{measure.capitalize()}: ours with 95 % intervals, and the paper's"
            title = "" if number == 0 and len(mine) == len(rows) else measure.capitalize()
            panels.append(Panel(id=f"beside-{number}", figure=drawn, title=title, description=words))
    if not panels:
        return None
    return Block(
        id="beside",
        nav="Beside the paper",
        title="Ours beside the paper's",
        meaning="Each point is the mean of our trainings, each bar the range in which the true mean plausibly lies. "
        "The diamond is the paper's figure. A row agrees with the paper where the bar reaches the diamond.",
        panes=[Pane(panels=panels, columns=1)],
        notes=[_counts(record)],
    )


def _curves_block(record: Mapping[str, Any], colours: Sequence[str]) -> Block | None:
    rows = record["rows"]
    drawn = curves_figure(rows, colours, str(record["axis"]), logarithmic=bool(record.get("logarithmic")))
    if drawn is None:
        return None
    named = {str(row.get("series") or row.get("name")): colour for row, colour in zip(rows, colours, strict=True)}
    return Block(
        id="beside",
        nav="Curve",
        title="The curve",
        meaning="Each point is the mean of our trainings, each bar its 95\u00a0% interval. Diamonds are the figures "
        "that the paper gives. Points whose bars overlap widely may be alike.",
        panes=[
            Pane(
                panels=[Panel(id="curve", figure=drawn, description=f"Test error against {record['axis']}")], columns=1
            )
        ],
        legend="policies",
        named=list(named.items()),
        notes=[_counts(record)],
    )


def _activity_block(record: Mapping[str, Any]) -> Block | None:
    layers = record.get("activity") or ()
    if not layers:
        return None
    panels = []
    for number, layer in enumerate(layers):
        colour = palette.colour(number)
        name = str(layer.get("name") or "")
        for key, drawn, words in (
            ("units", unit_means_figure(layers, number, colour), "mean activation of each unit"),
            ("activations", histogram_figure(layers, number, colour), "activations"),
        ):
            panels.append(
                Panel(
                    id=f"{key}-{number}",
                    figure=drawn,
                    title=name,
                    colour=colour,
                    note=words,
                    description=f"Histogram of {words}, {name}",
                )
            )
    return Block(
        id="activity",
        title="Activations",
        meaning="Left, how many units have which mean activation; right, how many activations have which value. With "
        "dropout the mass should move towards zero.",
        panes=[Pane(panels=panels, columns=2)],
        notes=["n = 1 run each, the first seed's; the axes are the same. The last bar holds what lies beyond, too."],
    )


def _claims_block(record: Mapping[str, Any]) -> Block | None:
    claims = [claim for claim in record.get("claims") or () if claim.get("unit") == "fraction"]
    if len(claims) < len(record.get("claims") or ()):
        return None  # of different units: they have no axis in common
    rows = [
        {**claim, "name": f"{claim.get('lower')} less {claim.get('higher')}", "colour": palette.colour(number + 1)}
        for number, claim in enumerate(claims)
    ]
    drawn = figures.forest(rows, "error")
    if drawn is None:
        return None
    panel = Panel(id="forest", figure=drawn, description="Differences between rows with 95 % intervals")
    return Block(
        id="order",
        nav="The order",
        title="The paper's order",
        meaning="Each point is the mean difference between two rows, paired over seeds and test pictures, each bar its "
        "95\u00a0% interval, which allows for the number of comparisons (Holm). A bar that crosses the line at zero "
        "leaves open which of the two is better.",
        panes=[Pane(panels=[panel], columns=1)],
        notes=[f"n = {numbers.plural(len(record.get('seeds') or ()), 'seed')} a row."],
    )


def _learning_block(record: Mapping[str, Any]) -> Block | None:
    runs = record.get("runs") or ()
    trainings = list(dict.fromkeys(str(run.get("training")) for run in runs))
    if len(trainings) > MOST_CURVES:
        return None
    lines = [
        read_policy(name, palette.colour(number), [run for run in runs if run.get("training") == name])
        for number, name in enumerate(trainings)
    ]
    return learning_block(lines, _counts(record).partition(";")[0] + ".") if lines else None
