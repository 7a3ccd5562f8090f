"""One look for all of the guide's figures: that of dropkit's pages, on white, since a picture has no dark mode."""

from collections.abc import Sequence

import plotly.graph_objects as go

from dropkit.report.canvas import dress
from dropkit.report.palette import faint
from dropkit.runs.intervals import mean_interval

WIDTH = 760
INK = "#3d4248"
NONE, DROPOUT, OTHER, DROPPED = "#767b82", "#0072B2", "#D55E00", "#ff8200"


def plain(height: int, x: str, y: str, *, top: int = 30, **layout: object) -> go.Figure:
    """Return an empty figure with the guide's look.

    Args:
        height: in pixels; the width is WIDTH.
        x: title of the horizontal axis.
        y: title of the vertical axis.
        top: pixels above the axes.
        layout: what else plotly is to be told.
    """
    figure = go.Figure()
    settle(figure, height, top)
    figure.update_xaxes(title_text=x)
    figure.update_yaxes(title_text=y)
    figure.update_layout(**layout)
    return figure


def settle(figure: go.Figure, height: int, top: int = 30) -> None:
    """Set size, fonts and colours of a figure, also of one with several panels."""
    dress(figure, height=height, top=top)
    figure.update_layout(width=WIDTH, paper_bgcolor="white", plot_bgcolor="white", font_color=INK, font_size=13)
    figure.update_layout(margin={"l": 12, "r": 16, "b": 12})
    figure.update_xaxes(gridcolor="#e4e6e8", linecolor="#b9bec4")
    figure.update_yaxes(gridcolor="#e4e6e8", linecolor="#b9bec4")


def curve(
    figure: go.Figure,
    x: Sequence[float],
    seeds: Sequence[Sequence[float]],
    colour: str,
    name: str,
    *,
    dash: str = "solid",
    **place: int,
) -> None:
    """Add the mean over seeds as a line within the band of its 95% interval.

    Args:
        figure: what it is added to.
        x: places.
        seeds: for each place the values of all seeds.
        colour: of the line.
        name: in the legend.
        dash: of the line.
        place: row and column of the panel.
    """
    means, lows, highs = zip(*(mean_interval(list(values)) for values in seeds), strict=True)
    band = go.Scatter(
        x=[*x, *reversed(x)],
        y=rounded([*highs, *reversed(lows)]),
        fill="toself",
        fillcolor=faint(colour, 0.16),
        line_width=0,
        mode="lines",
        showlegend=False,
    )
    figure.add_trace(band, **place)
    line = {"color": colour, "width": 2.4, "dash": dash}
    figure.add_trace(go.Scatter(x=list(x), y=rounded(means), mode="lines", line=line, name=name), **place)


def points(
    figure: go.Figure,
    x: Sequence[float],
    seeds: Sequence[Sequence[float]],
    colour: str,
    name: str,
    *,
    shift: float = 0.0,
    joined: bool = True,
    **place: int,
) -> None:
    """Add the mean over seeds at each place as a point with its 95% interval; arguments as `curve`."""
    bounds = [mean_interval(list(values)) for values in seeds]
    means = [mean for mean, _, _ in bounds]
    reach = [high - mean if high is not None else 0.0 for mean, _, high in bounds]
    trace = go.Scatter(
        x=[value + shift for value in x],
        y=rounded(means),
        error_y={"array": rounded(reach), "thickness": 1.6, "width": 4},
        mode="lines+markers" if joined else "markers",
        marker={"size": 8, "color": colour},
        line={"color": colour, "width": 1.6},
        name=name,
    )
    figure.add_trace(trace, **place)


def legend(figure: go.Figure, x: float = 0.99, y: float = 0.99) -> None:
    """Show the legend within the axes, its corner nearest to the figure's at (x, y)."""
    corner = {"xanchor": "right" if x > 0.5 else "left", "yanchor": "top" if y > 0.5 else "bottom"}
    figure.update_layout(showlegend=True, legend={"x": x, "y": y, **corner, "bgcolor": "rgba(255,255,255,0.8)"})


def say(figure: go.Figure, text: str, x: float, y: float, **more: object) -> None:
    """Write a few words at a place of the axes."""
    figure.add_annotation(text=text, x=x, y=y, showarrow=False, **more)


def rounded(values: Sequence[float]) -> list[float]:
    """Return values with as many digits as a figure can show, so that a picture is the same on all machines."""
    return [float(f"{value:.4g}") for value in values]
