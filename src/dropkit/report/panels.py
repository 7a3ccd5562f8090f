"""The figures of a page with the words around them: title, what it means, what it stands on."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import plotly.graph_objects as go

from dropkit.report import curves, figures
from dropkit.report.curves import PolicyCurves
from dropkit.report.numbers import plural


@dataclass(frozen=True)
class Panel:
    """One plotly figure and the policy it belongs to."""

    id: str
    figure: go.Figure
    description: str
    title: str = ""
    colour: str = ""
    note: str = ""

    @property
    def height(self) -> int:
        """Pixels that the figure takes: kept free before it is drawn, so nothing jumps."""
        return int(self.figure.layout.height)


@dataclass(frozen=True)
class Block:
    """A titled section of one or more panels."""

    id: str
    title: str
    meaning: str
    panels: Sequence[Panel] = ()
    tabs: Sequence[tuple[str, Sequence[Panel]]] = ()
    legend: str = ""
    notes: Sequence[str] = field(default_factory=list)

    @property
    def all_panels(self) -> list[Panel]:
        """Every panel, whichever tab it is on."""
        return [*self.panels, *(panel for _, tab in self.tabs for panel in tab)]


def learning_block(policies: Sequence[PolicyCurves], counts: str) -> Block | None:
    """Return the learning curves, loss and error as tabs; None where no run recorded an epoch."""
    shown = [policy for policy in policies if policy.traces]
    if not shown:
        return None
    tabs = [(word, _learning_panels(shown, policies[0], word)) for word in ("loss", "error")]
    return Block(
        id="learning",
        title="Learning curves",
        meaning="Both curves should fall together. The further the validation curve stands above the "
        "training curve, the more the network overfits: it learns the training pictures by heart.",
        tabs=tabs,
        legend="learning" if any(len(policy.traces) > 1 for policy in shown) else "learning-one",
        notes=[f"{counts} Both curves are measured without dropout.", *curves.remarks(shown)],
    )


def _learning_panels(shown: Sequence[PolicyCurves], first: PolicyCurves, word: str) -> list[Panel]:
    limits = figures.limits(shown, (f"train_{word}", f"val_{word}"))
    last = max(policy.length for policy in shown)
    panels = []
    for index, policy in enumerate(shown):
        reference = first if first.traces and policy is not first else None
        drawn = figures.learning(policy, word, last_epoch=last, limits=limits, reference=reference)
        panels.append(
            Panel(
                id=f"learning-{word}-{index}",
                figure=drawn,
                title=policy.name,
                colour=policy.colour,
                note=plural(len(policy.traces), "run"),
                description=f"Training and validation {word} over the epochs, {policy.name}",
            )
        )
    return panels


def gap_block(policies: Sequence[PolicyCurves], counts: str) -> Block | None:
    """Return the gap between validation and training loss; None where no run recorded one."""
    shown = [p for p in policies if any(value is not None for value in p.mean("gap").values())]
    if not shown:
        return None
    limits = figures.limits(shown, ("gap",))
    drawn = figures.gap(shown, last_epoch=max(policy.length for policy in shown), limits=limits)
    return Block(
        id="gap",
        title="The gap",
        meaning="Validation loss minus training loss. Near zero the network does as well on new pictures "
        "as on those it learned from; a line that climbs is a network that overfits more and more. A "
        "small gap alone is no merit: a network that has learned nothing has none.",
        panels=[Panel(id="gap-figure", figure=drawn, description="The gap over the epochs, one line a policy")],
        legend="gap",
        notes=[f"{counts} The point on each line marks its best epoch.", *curves.remarks(shown)],
    )
