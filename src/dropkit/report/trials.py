"""The section of a search's trials: how the validation loss of each went, and every one in a table."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from dropkit.report.canvas import dress, trimmed
from dropkit.report.names import label, short
from dropkit.report.numbers import DASH, decimals, duration, finite, percent, plural, quantity, whole
from dropkit.report.palette import INK, colour, faint, policy_colours
from dropkit.report.panels import Block, Pane, Panel, Table

Trial = Mapping[str, Any]
Search = Mapping[str, Any]


@dataclass(frozen=True)
class Named:
    """A trial that the figure tells from the others: its policy, the word at its line's end, its colour."""

    policy: str
    word: str
    colour: str


def ranked(search: Search) -> list[Trial]:
    """Return the trials, from the lowest validation loss on; those that diverged stand at the end."""

    def place(trial: Trial) -> tuple[bool, float]:
        loss = finite(trial.get("val_loss"))
        return trial.get("status") == "diverged" or loss is None, loss or 0.0

    return sorted(search.get("trials") or (), key=place)


def fitted(search: Search) -> list[Trial]:
    """Return the trials that the response and the importance are learned from: inside the space, and not diverged."""
    return [trial for trial in ranked(search) if trial.get("params") and trial.get("status") != "diverged"]


def counts(trials: Sequence[Trial]) -> str:
    """Return how many trials there are, and what became of them."""
    words = {"finished": "finished", "stopped": "stopped early", "diverged": "diverged"}
    found = {said: sum(trial.get("status") == status for trial in trials) for status, said in words.items()}
    parts = ", ".join(f"{whole(count)} {said}" for said, count in found.items() if count)
    return f"n = {plural(len(trials), 'trial')}{f': {parts}' if parts else ''}."


def about(trial: Trial) -> str:
    """Return a trial's policy and number for plotly, escaped: what a reader sees over its line or dot."""
    said = f"trial {whole(trial.get('number'))}, {label(str(trial.get('status', '')))}"
    return f"<b>{label(str(trial.get('policy', '')))}</b><br>{said}"


def frame(values: Sequence[float]) -> tuple[float, float]:
    """Return an axis for the values, with room on both sides; a lone spike runs off it."""
    if not values:
        return 0.0, 1.0
    in_order = sorted(values)
    usual = in_order[math.ceil(0.98 * len(in_order)) - 1]
    low, high = in_order[0], min(in_order[-1], usual + 0.5 * (usual - in_order[0]))
    room = 0.07 * (high - low) or 0.5
    return low - room, high + room


# --------------------------------------------------------------------- section


def trials_block(record: Mapping[str, Any], search: Search) -> Block | None:
    """Return the validation loss of every trial over the epochs; None where no trial recorded an epoch."""
    trials = ranked(search)
    if not any(trial.get("curve") for trial in trials):
        return None
    named = _named(record, search, trials)
    rungs = [int(rung) for rung in search.get("rungs") or ()]
    drawn = trials_figure(trials, named, rungs)
    at = f"; those that lagged were stopped at epoch {' and '.join(map(str, rungs))}" if rungs else ""
    described = f"Validation loss of {plural(len(trials), 'trial')} over the epochs{at}; the table holds the numbers"
    return Block(
        id="search",
        nav="Search",
        title="The search",
        finding=str(search.get("sentence") or ""),
        meaning=_meaning(rungs),
        panes=[Pane(panels=[Panel("search-figure", drawn, described)], columns=1)],
        legend="search" if rungs else "search-whole",
        named=[(one.policy, one.colour) for one in named.values()],
        table=_table(trials, search),
        notes=[note for note in (counts(trials), _cost(search, trials), _finalists(search), _space(search)) if note],
    )


def _meaning(rungs: Sequence[int]) -> str:
    said = ["Each line is a trial: one policy, trained and judged by its loss on the validation pictures."]
    if rungs:
        said.append("At each dashed line those that lag behind are stopped, so the others can be tried for their time.")
    said.append("The lowest of many losses is low by luck too: the results above come from new trainings.")
    return " ".join(said)


def _named(record: Mapping[str, Any], search: Search, trials: Sequence[Trial]) -> dict[Any, Named]:
    """The trials of the compared policies, by their number, in the colours that these have on the whole page."""
    policies = [str(policy.get("name", "")) for policy in record.get("policies") or ()]
    colours = dict(zip(policies, policy_colours(record), strict=True))
    chosen = (search.get("chosen") or {}).get("number")
    in_order = sorted(trials, key=lambda trial: trial.get("number") or 0)
    numbers = {str(trial.get("policy", "")): trial.get("number") for trial in reversed(in_order)}
    found = {numbers[name]: Named(name, name, colours[name]) for name in policies if name in numbers}
    for trial in trials:
        if trial.get("number") == chosen:
            name = str(trial.get("policy", ""))
            word = "none, chosen" if name == "none" else "chosen"
            found[chosen] = Named(name, word, colours.get(name) or colour(len(policies)))
    return found


def _cost(search: Search, trials: Sequence[Trial]) -> str:
    spent, full = search.get("spent") or {}, search.get("whole") or {}
    if not spent or not full:
        return ""
    saved = finite(search.get("saved")) or 0.0
    return (
        f"{plural(spent.get('trainings') or 0, 'training')} took {plural(spent.get('epochs') or 0, 'epoch')} and "
        f"{duration(spent.get('seconds'))}; "
        f"{plural(len(trials), 'whole training')} would have taken {plural(full.get('epochs') or 0, 'epoch')} and "
        f"{duration(full.get('seconds'))}: {f'{percent(saved, 0)} saved' if saved > 0 else 'nothing saved'}."
    )


def _finalists(search: Search) -> str:
    rows = search.get("finalists") or ()
    if not rows:
        return ""
    told = "; ".join(f"{row.get('policy', '')}: {decimals(row.get('loss'))}" for row in rows)
    return f"Those that came to the end, with their lowest validation loss in nats: {told}."


def _space(search: Search) -> str:
    space = search.get("space") or {}
    parts = [
        f"{site} ({', '.join(map(str, choice.get('kinds') or ()))}; rate 0 to {choice.get('most', DASH)})"
        for site, choice in (space.get("sites") or {}).items()
    ]
    if len(decays := space.get("weight_decays") or ()) > 1:
        parts.append(f"weight decay ({', '.join(f'{decay:g}' for decay in decays)})")
    step = finite(space.get("step"))
    return f"Searched: {', '.join(parts)}{'' if step is None else f', rates in steps of {step:g}'}." if parts else ""


def _table(trials: Sequence[Trial], search: Search) -> Table:
    chosen = (search.get("chosen") or {}).get("number")
    rows = [
        [
            str(trial.get("policy", "")),
            whole(trial.get("number")),
            str(trial.get("status", DASH)) + (", chosen" if trial.get("number") == chosen else ""),
            whole(trial.get("epochs")),
            quantity(trial.get("val_loss"), "nll"),
            quantity(trial.get("val_error"), "error"),
            quantity(trial.get("gap"), "gap"),
            duration(trial.get("seconds")),
        ]
        for trial in trials
    ]
    head = ("Policy", "Trial", "Status", "Epochs", "Val. loss", "Val. error", "Gap", "Time")
    return Table("All trials as a table, the lowest validation loss first", head, rows, of_policies=False)


# ---------------------------------------------------------------------- figure


def trials_figure(trials: Sequence[Trial], named: Mapping[Any, Named], rungs: Sequence[int]) -> go.Figure:
    """Draw the validation loss of every trial over the epochs.

    Args:
        trials: As a search's record holds them, from the lowest loss on.
        named: Those that are drawn strong and named at their end, by their number.
        rungs: The epochs at which trials were stopped: dashed lines.
    """
    figure = go.Figure()
    # What matters most is drawn over the rest, and of those the lowest loss last.
    first = sorted(trials, key=lambda trial: (trial.get("number") not in named, trial.get("status") != "finished"))
    for trial in reversed(first):
        if trial.get("curve"):
            figure.add_trace(_curve(trial, named.get(trial.get("number"))))
    last = max(len(trial.get("curve") or ()) for trial in trials)
    low, high = frame(_after(trials, rungs[0] if rungs else 1))
    dress(figure, height=400, top=14)
    for rung in rungs:
        figure.add_vline(x=rung, line={"color": INK, "width": 1, "dash": "dash"})
    _name_ends(figure, trials, named, (low, high))
    dtick = 1 if last <= 8 else None
    figure.update_xaxes(range=[0.5, 1.02 * last], title_text="epoch", tickformat="d", dtick=dtick)
    figure.update_yaxes(range=[low, high], title_text="validation loss (nats)")
    figure.update_layout(hovermode="closest")
    return figure


def _curve(trial: Trial, named: Named | None) -> go.Scatter:
    looks = {
        "finished": {"color": faint(INK, 0.85), "width": 1.4},
        "diverged": {"color": faint(INK, 0.4), "width": 1, "dash": "dot"},
    }
    line = looks.get(str(trial.get("status")), {"color": faint(INK, 0.4), "width": 1})
    values = [trimmed(finite(value)) for value in trial["curve"]]
    return go.Scatter(
        x=list(range(1, len(values) + 1)),
        y=values,
        mode="lines" if sum(value is not None for value in values) > 1 else "markers",
        line=line if named is None else {"color": named.colour, "width": 2.8},
        marker={"size": 6, "color": line["color"] if named is None else named.colour},
        text=about(trial),
        hovertemplate="%{text}<br>epoch %{x}: %{y:.3f} nats<extra></extra>",
        showlegend=False,
    )


def _after(trials: Iterable[Trial], first: int) -> list[float]:
    """The losses from an epoch on: the first epochs' would press all that differs into a corner."""
    told = (trial for trial in trials if trial.get("status") != "diverged")
    curves = [list(map(finite, trial.get("curve") or ())) for trial in told]
    return [value for curve in curves for value in curve[first - 1 :] if value is not None]


def _name_ends(
    figure: go.Figure, trials: Sequence[Trial], named: Mapping[Any, Named], limits: tuple[float, float]
) -> None:
    """A word at the end of each named line, pushed apart where two lines end close to each other."""
    low, high = limits
    ends = []
    for trial in trials:
        one, curve = named.get(trial.get("number")), trial.get("curve") or ()
        value = finite(curve[-1]) if curve else None
        if one is not None and value is not None:
            ends.append((min(max(value, low), high), len(curve), one))
    words = [short(one.word, 14) for *_, one in ends]
    figure.update_layout(margin_r=18 + 7 * max(map(len, words), default=0))
    places = apart([value for value, *_ in ends], 0.05 * (high - low), high)  # a line of text in the frame's height
    for (_, epoch, one), word, place in zip(ends, words, places, strict=True):
        strong = f"<b>{label(word)}</b>" if one.word.endswith("chosen") else label(word)
        figure.add_annotation(
            text=strong, x=epoch, y=place, xanchor="left", xshift=5, showarrow=False, font_size=11, align="left"
        )


def apart(values: Sequence[float], distance: float, highest: float) -> list[float]:
    """Return the values, moved up where two are closer than `distance`, and back down from the highest place.

    >>> apart([1.0, 1.2, 5.0], 0.5, 5.0), apart([4.9, 5.0], 0.5, 5.0)
    ([1.0, 1.5, 5.0], [4.5, 5.0])
    """
    order = sorted(range(len(values)), key=lambda index: values[index])
    places = list(values)
    for below, above in itertools.pairwise(order):
        places[above] = max(places[above], places[below] + distance)
    top = highest
    for index in reversed(order):
        places[index] = min(places[index], top)
        top = places[index] - distance
    return places
