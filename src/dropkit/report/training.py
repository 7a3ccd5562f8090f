"""The sections about the training: learning curves with and without dropout, and the gap."""

from collections.abc import Sequence

from dropkit.report import curves, figures
from dropkit.report.curves import PolicyCurves
from dropkit.report.numbers import plural
from dropkit.report.panels import Block, Pane, Panel


def learning_block(policies: Sequence[PolicyCurves], counts: str) -> Block | None:
    """Return the learning curves, loss and error as tabs; None where no run recorded an epoch."""
    shown = [policy for policy in policies if policy.traces]
    if not shown:
        return None
    columns = 2 if len(shown) in (2, 4) else 0
    return Block(
        id="learning",
        title="Learning curves",
        meaning="Both curves should fall together. The further the validation curve stands above the "
        "training curve, the more the network overfits: it learns the training pictures by heart.",
        panes=[
            Pane(
                id=f"learning-{word}",
                tab=word.capitalize(),
                panels=_learning_panels(shown, policies[0], word),
                columns=columns,
            )
            for word in ("loss", "error")
        ],
        legend="learning" if any(len(policy.traces) > 1 for policy in shown) else "learning-one",
        named=[(policy.name, policy.colour) for policy in policies],
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
    panel = Panel(id="gap-figure", figure=drawn, description="The gap over the epochs, one line a policy")
    return Block(
        id="gap",
        nav="Gap",
        title="The gap",
        meaning="Validation loss minus training loss. Near zero the network does as well on new pictures "
        "as on those it learned from; a line that climbs is a network that overfits more and more. A "
        "small gap alone is no merit: a network that has learned nothing has none.",
        panes=[Pane(panels=[panel], columns=1)],
        legend="policies" if len(policies) > 1 else "",
        named=[(policy.name, policy.colour) for policy in policies],
        notes=[f"{counts} The point on each line marks its best epoch.", *curves.remarks(shown)],
    )
