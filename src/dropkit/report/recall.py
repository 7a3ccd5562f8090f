"""The section on classes: which share of each class's test pictures is found, with and without dropout."""

from collections.abc import Sequence

import plotly.graph_objects as go

from dropkit.report.canvas import dress, trimmed
from dropkit.report.details import Details, Interval, PolicyDetails
from dropkit.report.names import label, short
from dropkit.report.numbers import DASH, decimals, percent, plural, whole
from dropkit.report.palette import STRIPE
from dropkit.report.panels import Block, Pane, Panel, Table

POLICIES, CLASSES = 3, 30
"""How many policies and classes the figure shows; the table behind it holds every class."""
MOST_OF_AN_INTERVAL = 0.25
"""How far below the lowest point the figure shows intervals."""


def recall_block(details: Details) -> Block | None:
    """Return the recall of each class; None where no policy has one."""
    policies = [policy for policy in details.shown(POLICIES) if policy.recall and any(policy.recall)]
    if not policies:
        return None
    order = hardest_first(policies[0].recall or ())
    support = policies[0].support or [0] * len(order)
    names = [details.class_name(index) for index in order]
    figure = recall_figure(policies, order[:CLASSES], names[:CLASSES], support)
    shown = "each class" if len(order) <= CLASSES else f"the {CLASSES} hardest classes"
    described = (
        f"Recall of {shown}, {' and '.join(policy.name for policy in policies)}; the table below holds the numbers"
    )
    return Block(
        id="recall",
        nav="Recall",
        title="Recall, class by class",
        finding=_finding(details, policies),
        meaning="The share of a class's test pictures that is recognised as that class: further right is better. "
        "A low error over all pictures can hide a class that is hardly ever found.",
        panes=[Pane(panels=[Panel("recall-figure", figure, described)], columns=1)],
        legend="policies" if len(policies) > 1 else "",
        named=[(policy.name, policy.colour) for policy in policies],
        table=_table(policies, order, names, support),
        notes=_notes(policies, order, support),
    )


def hardest_first(recall: Sequence[Interval | None]) -> list[int]:
    """Return the classes in the order of their recall, the lowest first; those without one at the end.

    >>> hardest_first([(0.9, None, None), None, (0.5, None, None)])
    [2, 0, 1]
    """
    return sorted(range(len(recall)), key=lambda index: (value[0] if (value := recall[index]) else 2.0, index))


def _finding(details: Details, policies: Sequence[PolicyDetails]) -> str:
    policy = next((one for one in policies if one.name == details.chosen.name), policies[-1])
    known = [(value[0], index) for index, value in enumerate(policy.recall or ()) if value]
    if len(known) < 2:
        return ""
    (low, worst), (high, best) = min(known), max(known)
    first = policies[0]
    least, most = (_beside(value, index, first, policy) for value, index in ((low, worst), (high, best)))
    return (
        f"With {policy.name}, {details.class_in_words(worst)} is found least often, {least}, "
        f"and {details.class_in_words(best)} most often, {most}."
    )


def _beside(value: float, index: int, first: PolicyDetails, policy: PolicyDetails) -> str:
    """A recall, and beside it the first policy's."""
    other = (first.recall or ())[index]
    against = f" ({first.name}: {percent(other[0], 1)})" if other and first is not policy else ""
    return percent(value, 1) + against


def _notes(policies: Sequence[PolicyDetails], order: Sequence[int], support: Sequence[int]) -> list[str]:
    bars = any(value and value[1] is not None for policy in policies for value in policy.recall or ())
    notes = [f"n = {whole(sum(support))} test pictures; the number beside a class is how many of them are its own."]
    notes.append("Hardest classes first.")
    if bars:
        runs = max(policy.runs for policy in policies)
        notes.append(f"Points are means of {plural(runs, 'run')}, bars 95\u00a0% intervals, cut off at the frame.")
    if len(order) > CLASSES:
        notes.append(f"Drawn are the {CLASSES} hardest of {len(order)} classes; the table holds all.")
    absent = sum(value is None for value in policies[0].recall or ())
    if absent:
        notes.append(f"{plural(absent, 'class') if absent == 1 else f'{absent} classes'} without a test picture.")
    return notes


def _table(
    policies: Sequence[PolicyDetails], order: Sequence[int], names: Sequence[str], support: Sequence[int]
) -> Table:
    rows = []
    for index, name in zip(order, names, strict=True):
        values = [_cell((policy.recall or ())[index]) for policy in policies]
        rows.append([name, whole(support[index]), *values])
    return Table("All classes as a table", ["Class", "Pictures", *(policy.name for policy in policies)], rows)


def _cell(value: Interval | None) -> str:
    if value is None:
        return DASH
    low, high = value[1:]
    bounds = "" if low is None or high is None else f"{decimals(100 * low, 1)} to {decimals(100 * high, 1)}"
    return percent(value[0], 1) + (f" ({bounds})" if bounds else "")


# --------------------------------------------------------------------- figure


def recall_figure(
    policies: Sequence[PolicyDetails], order: Sequence[int], names: Sequence[str], support: Sequence[int]
) -> go.Figure:
    """Draw one row a class, the first at the top, and in it one point with its interval for each policy.

    Args:
        policies: The policies, each with a recall.
        order: The classes to draw.
        names: Their names, in the same order.
        support: How many test pictures every class has.
    """
    figure = go.Figure()
    for place, policy in enumerate(policies):
        shift = 0.26 * ((len(policies) - 1) / 2 - place)
        figure.add_trace(_points(policy, order, names, shift))
    rows = len(order)
    dress(figure, height=(14 + 8 * len(policies)) * rows + 74, top=8)
    ticks = [f"{label(short(name, 20))}  {whole(support[index])}" for index, name in zip(order, names, strict=True)]
    figure.update_yaxes(
        tickvals=[rows - 1 - row for row in range(rows)],
        ticktext=ticks,
        range=[-0.5, rows - 0.5],
        showgrid=False,
        fixedrange=True,
    )
    for row in range(0, rows, 2):
        _stripe(figure, rows - 1 - row)
    figure.update_xaxes(range=_limits(policies, order), title_text="recall (%)")
    return figure


def _stripe(figure: go.Figure, y: int) -> None:
    """Every other class on a tint, so that the points of one class are seen to belong together."""
    figure.add_shape(
        type="rect", x0=0, x1=1, xref="paper", y0=y - 0.5, y1=y + 0.5, fillcolor=STRIPE, line_width=0, layer="below"
    )


def _points(policy: PolicyDetails, order: Sequence[int], names: Sequence[str], shift: float) -> go.Scatter:
    found = [
        (len(order) - 1 - row + shift, name, value)
        for row, (index, name) in enumerate(zip(order, names, strict=True))
        if (value := (policy.recall or ())[index])
    ]
    up = [0.0 if high is None else 100 * (high - mean) for _, _, (mean, _, high) in found]
    down = [0.0 if low is None else 100 * (mean - low) for _, _, (mean, low, _) in found]
    return go.Scatter(
        x=[trimmed(100 * value[0]) for _, _, value in found],
        y=[y for y, _, _ in found],
        error_x={
            "array": [trimmed(value) for value in up],
            "arrayminus": [trimmed(value) for value in down],
            "color": policy.colour,
            "thickness": 1.8,
            "width": 0,
        },
        mode="markers",
        marker={"size": 9, "color": policy.colour},
        text=[f"<b>{label(name)}</b><br>{label(policy.name)}: {_cell(value)}" for _, name, value in found],
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )


def _limits(policies: Sequence[PolicyDetails], order: Sequence[int]) -> list[float]:
    """Return an axis that ends at 100 % and starts a little below the lowest interval.

    Intervals of two runs may span everything: those that are far wider than the points lie apart run off the axis.
    """
    known = [value for policy in policies for index in order if (value := (policy.recall or ())[index])]
    lowest = min((value[0] if value[1] is None else value[1] for value in known), default=0.0)
    farthest = min((value[0] for value in known), default=0.0) - MOST_OF_AN_INTERVAL
    start = max(100 * lowest - 4, 100 * farthest)
    return [start if start > 8 else -1.0, 101.0]
