"""What a page's sections are made of: figures, pictures, lists, tables, and the words around them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from dropkit.report.images import Png


@dataclass(frozen=True)
class Panel:
    """One plotly figure and the policy it belongs to."""

    id: str
    figure: go.Figure
    description: str
    title: str = ""
    colour: str = ""
    note: str = ""
    caption: str = ""
    square: bool = False

    @property
    def height(self) -> int:
        """Pixels that the figure takes: kept free before it is drawn, so nothing jumps."""
        return int(self.figure.layout.height)


@dataclass(frozen=True)
class Shot:
    """A picture and what was said of it."""

    image: Png
    id: str
    alt: str
    truth: str
    answers: "Sequence[Answer]"


@dataclass(frozen=True)
class Answer:
    """A network's answer to one picture."""

    predicted: str
    confidence: str
    right: bool
    colour: str = ""


@dataclass(frozen=True)
class Image:
    """A drawn picture with a policy's name over it."""

    image: Png
    alt: str
    width: int
    title: str = ""
    colour: str = ""
    note: str = ""


@dataclass(frozen=True)
class Listing:
    """A short list with a heading."""

    title: str
    items: Sequence[tuple[str, str]]
    """Pairs of what is said and the number behind it."""


@dataclass(frozen=True)
class Table:
    """A table behind a click: every number of a figure, for those who want to read or to hear it."""

    summary: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    opened: bool = False
    """Whether it is seen without a click."""
    of_policies: bool = True
    """Whether the columns from the third on are policies."""


@dataclass(frozen=True)
class Pane:
    """What stands under one tab, or in a section without tabs."""

    id: str = ""
    tab: str = ""
    colour: str = ""
    panels: Sequence[Panel] = ()
    shots: Sequence[Shot] = ()
    images: Sequence[Image] = ()
    listing: Listing | None = None
    columns: int = 0
    """How many panels stand beside each other: 0 for as many as fit, 1, or 2 where there is room."""


@dataclass(frozen=True)
class Block:
    """A titled section: what was found, what it means, the panes, and what they stand on."""

    id: str
    title: str
    meaning: str
    panes: Sequence[Pane]
    finding: str = ""
    legend: str = ""
    named: Sequence[tuple[str, str]] = ()
    """Name and colour of the policies that the legend tells apart."""
    table: Table | None = None
    notes: Sequence[str] = ()
    opened: int = 0
    """Which pane is seen first."""
    nav: str = ""
    """The word for the section in the page's list of contents; the title where none is given."""

    @property
    def short_title(self) -> str:
        """The section's name in the list of contents."""
        return self.nav or self.title

    def all_panels(self) -> Iterator[Panel]:
        """Yield every panel, whichever tab it is on."""
        for pane in self.panes:
            yield from pane.panels
