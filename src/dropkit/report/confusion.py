"""The section on confusion: what each class is taken for, and what dropout changes about it."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from dropkit.report.canvas import dress
from dropkit.report.details import Details, PolicyDetails
from dropkit.report.names import distinct, label, short
from dropkit.report.numbers import percent, whole
from dropkit.report.palette import RIGHT, WRONG, faint
from dropkit.report.panels import Block, Listing, Pane, Panel

POLICIES, POLICIES_OF_MANY_CLASSES = 9, 4
NAMED_CLASSES, WRITTEN_CLASSES = 30, 12
"""Up to how many classes the axes carry names, and the cells their percent."""
LISTED = 6

Matrix = Sequence[Sequence[int]]
Percents = list[list[float | None]]


def confusion_block(details: Details) -> Block | None:
    """Return one heatmap a policy, as tabs, and beside it what the policy changes; None where none is known."""
    limit = POLICIES if len(details.classes) <= NAMED_CLASSES else POLICIES_OF_MANY_CLASSES
    policies = [policy for policy in details.shown(limit) if policy.confusion]
    if not policies:
        return None
    first = policies[0]
    chosen = next((policy for policy in policies if policy.name == details.chosen.name), first)
    return Block(
        id="confusion",
        title="Confusion",
        finding=_finding(details, chosen),
        meaning="A row is a true class, a column what it was taken for, each cell the percent of its row. The diagonal "
        "is what is right; every cell beside it is a mistake.",
        panes=[_pane(details, policy, first, index) for index, policy in enumerate(policies)],
        opened=policies.index(chosen),  # the finding speaks of it
        legend="confusion" if len(policies) > 1 else "confusion-one",
        notes=[
            f"{first.counts} a policy." if len(policies) > 1 else f"{first.counts}.",
            "Cells hold percent of the true class's predictions; point at one for its count.",
        ],
    )


def _pane(details: Details, policy: PolicyDetails, first: PolicyDetails, index: int) -> Pane:
    matrix = policy.confusion or ()
    names = distinct(list(details.classes))
    panels = [
        Panel(
            id=f"confusion-{index}",
            figure=confusion_figure(matrix, names),
            title=policy.name,
            colour=policy.colour,
            note="% of each row",
            description=f"Confusion matrix of {policy.name}; the list beside it names the most frequent mistakes",
            square=True,
        )
    ]
    if policy is not first:
        panels.append(
            Panel(
                id=f"confusion-change-{index}",
                figure=change_figure(matrix, first.confusion or (), names),
                title=f"Change against {first.name}",
                note="percentage points",
                description=f"What {policy.name} changes in the confusion matrix of {first.name}",
                square=True,
            )
        )
    return Pane(
        id=f"confusion-{index}",
        tab=policy.name,
        colour=policy.colour,
        panels=panels,
        listing=_listing(details, matrix),
        columns=2,
    )


def row_percents(matrix: Matrix) -> Percents:
    """Return each cell as percent of its row; None in the rows of classes without a picture.

    >>> row_percents([[3, 1], [0, 0]])
    [[75.0, 25.0], [None, None]]
    """
    return [[100 * cell / sum(row) if sum(row) else None for cell in row] for row in matrix]


def mistakes(matrix: Matrix) -> list[tuple[float, int, int]]:
    """Return the cells beside the diagonal as (percent of the row, true, predicted), the most frequent first."""
    found = [
        (value, true, predicted)
        for true, row in enumerate(row_percents(matrix))
        for predicted, value in enumerate(row)
        if value and true != predicted
    ]
    return sorted(found, key=lambda cell: (-cell[0], cell[1], cell[2]))


def _finding(details: Details, policy: PolicyDetails) -> str:
    found = mistakes(policy.confusion or ())
    if not found:
        return f"{policy.name} makes no mistake on these pictures."
    value, true, predicted = found[0]
    return (
        f"The most frequent confusion with {policy.name}: {percent(value / 100, 1)} of {details.class_in_words(true)} "
        f"are taken for {details.class_in_words(predicted)}."
    )


def _listing(details: Details, matrix: Matrix) -> Listing | None:
    items = [
        (
            f"{details.class_name(true)} → {details.class_name(predicted)}",
            f"{percent(value / 100, 1)}, {whole(matrix[true][predicted])} of {whole(sum(matrix[true]))}",
        )
        for value, true, predicted in mistakes(matrix)[:LISTED]
    ]
    return Listing("Most often confused (true → predicted)", items) if items else None


# -------------------------------------------------------------------- figures


def confusion_figure(matrix: Matrix, names: Sequence[str]) -> go.Figure:
    """Draw the percents: right answers blue, mistakes orange, stronger the more there are.

    Mistakes have a scale of their own, for a few percent beside a diagonal of ninety could not be seen.
    """
    percents = row_percents(matrix)
    counts = [[f"{whole(cell)} of {whole(sum(row))}" for cell in row] for row in matrix]
    top = max((cell[0] for cell in mistakes(matrix)), default=1.0)
    figure = go.Figure()
    for on_diagonal, colour, limit in ((True, RIGHT, 100.0), (False, WRONG, top)):
        shown = _part(percents, on_diagonal)
        figure.add_trace(_cells(shown, counts, names, _scale(colour), (0.0, limit), "%{z:.1f} %, %{customdata}"))
    return _square(figure, names)


def change_figure(matrix: Matrix, first: Matrix, names: Sequence[str]) -> go.Figure:
    """Draw the difference of two matrices in points: blue where it is for the better, orange for the worse."""
    change = [
        [None if a is None or b is None else a - b for a, b in zip(new, old, strict=True)]
        for new, old in zip(row_percents(matrix), row_percents(first), strict=True)
    ]
    counts = [
        [f"{whole(b)} → {whole(a)} of {whole(sum(new))}" for a, b in zip(new, old, strict=True)]
        for new, old in zip(matrix, first, strict=True)
    ]
    top = max((abs(value) for row in change for value in row if value is not None), default=1.0) or 1.0
    figure = go.Figure()
    for on_diagonal, low, high in ((True, WRONG, RIGHT), (False, RIGHT, WRONG)):
        scale = [[0, faint(low, 0.62)], [0.5, faint(low, 0.0)], [0.5, faint(high, 0.0)], [1, faint(high, 0.62)]]
        shown = _part(change, on_diagonal)
        figure.add_trace(_cells(shown, counts, names, scale, (-top, top), "%{z:+.1f} pp, %{customdata}"))
    return _square(figure, names)


def _part(values: Percents, on_diagonal: bool) -> Percents:
    return [
        [value if (row == column) is on_diagonal else None for column, value in enumerate(line)]
        for row, line in enumerate(values)
    ]


def _scale(colour: str) -> list[list[Any]]:
    """From nothing to a tint that dark and light text can both be read on; quick at first, so small shares show."""
    return [[0, faint(colour, 0)], [1e-6, faint(colour, 0.1)], [0.25, faint(colour, 0.34)], [1, faint(colour, 0.62)]]


def _cells(
    values: Percents,
    counts: list[list[str]],
    names: Sequence[str],
    scale: list[list[Any]],
    limits: tuple[float, float],
    form: str,
) -> go.Heatmap:
    labels = [label(name) for name in names]
    written = len(names) <= WRITTEN_CLASSES
    return go.Heatmap(
        z=[[None if value is None else round(value, 2) for value in row] for row in values],
        x=labels,
        y=labels,
        customdata=counts,
        text=[[_written(value, limits[0] < 0) for value in row] for row in values] if written else None,
        texttemplate="%{text}" if written else None,
        textfont={"color": "#1d2023", "size": 12},
        colorscale=scale,
        zmin=limits[0],
        zmax=limits[1],
        showscale=False,
        hoverongaps=False,
        xgap=1 if len(names) <= NAMED_CLASSES else 0,
        ygap=1 if len(names) <= NAMED_CLASSES else 0,
        hovertemplate=f"true: %{{y}}<br>predicted: %{{x}}<br>{form}<extra></extra>",
    )


def _written(value: float | None, signed: bool) -> str:
    """A cell's number, without decimals; nothing where it rounds to zero."""
    if value is None or round(value) == 0:
        return ""
    return f"{value:+.0f}".replace("-", "−") if signed else f"{value:.0f}"


def _square(figure: go.Figure, names: Sequence[str]) -> go.Figure:
    dress(figure, height=500, top=8)
    many = len(names) > NAMED_CLASSES
    ticks: dict[str, Any] = {"showticklabels": False, "ticks": ""}
    if not many:
        short_names = [label(short(name, 14)) for name in names]
        ticks = {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": short_names}
    figure.update_xaxes(title_text="predicted class", type="category", showgrid=False, tickangle=None, **ticks)
    figure.update_yaxes(title_text="true class", type="category", autorange="reversed", showgrid=False, **ticks)
    return figure
