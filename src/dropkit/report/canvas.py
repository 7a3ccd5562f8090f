"""One calm look for every figure: the page's background shows through, thin grid, ink for light and dark."""

from typing import Any

import plotly.graph_objects as go

from dropkit.report.palette import GRID, INK

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def dress(figure: go.Figure, *, height: int, top: int) -> None:
    """Set a figure's size, fonts, colours and axes; its own titles and ranges come on top."""
    figure.update_layout(
        template=go.layout.Template(),
        height=height,
        margin={"l": 8, "r": 12, "t": top, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 12.5, "color": INK},
        hoverlabel={"font": {"family": FONT, "size": 12.5}},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": INK, "activecolor": "#0072B2"},
        showlegend=False,
    )
    axis: dict[str, Any] = {"gridcolor": GRID, "linecolor": GRID, "zeroline": False, "automargin": True}
    axis |= {"title_standoff": 10, "title_font_size": 12.5}
    figure.update_xaxes(**axis, nticks=7)
    figure.update_yaxes(**axis, nticks=6)


def trimmed(value: float | None) -> float | None:
    """Five digits are more than a figure shows, and keep the page small."""
    return None if value is None else float(f"{value:.5g}")
