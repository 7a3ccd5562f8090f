"""What a reproduction says in sentences: a row beside the paper's figure, and what became of the paper's order."""

from collections.abc import Mapping
from typing import Any

from dropkit.report.numbers import plural


def figure(value: float, unit: str, *, sign: bool = False) -> str:
    """Return a figure for people.

    >>> figure(0.0105, "fraction"), figure(0.7, "activation"), figure(-0.001, "fraction", sign=True)
    ('1.05%', '0.70', '-0.10 points')
    """
    if unit != "fraction":
        return f"{value:+.2f}" if sign else f"{value:.2f}"
    return f"{100 * value:+.2f} points" if sign else f"{100 * value:.2f}%"


def paper_figure(row: Mapping[str, Any]) -> str:
    """Return the paper's figure of a row, as the paper gives it; a dash where it gives none.

    >>> paper_figure({"paper": 0.0108, "paper_spread": 0.0004, "about": False, "unit": "fraction"})
    '1.08% ±0.04'
    """
    if row["paper"] is None:
        return "-"
    about = "about " if row["about"] else ""
    scale = 100 if row["unit"] == "fraction" else 1
    spread = "" if row["paper_spread"] is None else f" ±{scale * row['paper_spread']:.2f}"
    return f"{about}{figure(row['paper'], row['unit'])}{spread}"


def our_figure(row: Mapping[str, Any]) -> str:
    """Return our mean with half the width of its interval; a dash where no training finished.

    >>> our_figure({"mean": 0.0105, "low": 0.0095, "high": 0.0115, "unit": "fraction"})
    '1.05% ±0.10'
    """
    if row["mean"] is None:
        return "-"
    text = figure(row["mean"], row["unit"])
    if row["low"] is None:
        return text
    scale = 100 if row["unit"] == "fraction" else 1
    return f"{text} ±{scale * (row['high'] - row['mean']):.2f}"


def row_sentence(row: Mapping[str, Any], why: str) -> str:
    """Say how a row compares with the paper's: that it agrees only where the interval contains the paper's figure.

    Args:
        row: name, measure, unit, n, diverged, mean, low, high, paper, agrees.
        why: a clause: what keeps the figures from the paper's.

    >>> row = {"name": "L2", "unit": "fraction", "n": 3, "diverged": 0, "mean": 0.03, "low": 0.02, "high": 0.04,
    ...        "paper": 0.0162, "paper_spread": None, "about": False, "agrees": False}
    >>> row_sentence(row, "with few pictures")
    "L2: 3.00% ±1.00 (n = 3) is 1.38 points above the paper's 1.62%, with few pictures."
    """
    lost = f"; {plural(row['diverged'], 'training')} diverged and {_is(row['diverged'])} left out"
    lost = lost if row["diverged"] else ""
    if row["mean"] is None:
        return f"{row['name']}: no training finished{lost}."
    ours = f"{row['name']}: {our_figure(row)} (n = {row['n']}{lost})"
    if row["paper"] is None:
        return f"{ours}; the paper gives no figure."
    theirs = f"the paper's {paper_figure(row)}"
    if row["agrees"] is None:
        return f"{ours} beside {theirs}: one training has no interval, so nothing can be said."
    if row["agrees"]:
        return f"{ours} agrees with {theirs}: the interval contains it."
    apart = row["mean"] - row["paper"]
    size = figure(abs(apart), row["unit"], sign=True).lstrip("+")
    return f"{ours} is {size} {'above' if apart > 0 else 'below'} {theirs}, {why}."


def claim_sentence(claim: Mapping[str, Any], comparisons: int) -> str:
    """Say what became of a claim.

    Args:
        claim: lower, higher, kind, difference, low, high, unit.
        comparisons: how many claims the interval allows for.

    >>> claim = {"lower": "A", "higher": "B", "kind": "shown", "difference": -0.01, "low": -0.02, "high": -0.001,
    ...          "unit": "fraction", "measure": "test error"}
    >>> claim_sentence(claim, 1)
    'Shown: A has a lower test error than B, by 1.00 points (95% interval 0.10 to 2.00).'
    """
    lower, higher, kind, measure = (claim[key] for key in ("lower", "higher", "kind", "measure"))
    if kind == "unknown":
        return f"{lower} against {higher}: nothing can be said with fewer than two seeds that finished in both."
    if kind == "shown":
        return f"Shown: {lower} has a lower {measure} than {higher}, by {_size(claim, comparisons, -1)}."
    if kind == "opposite":
        return (
            f"The opposite of the paper: {lower} has a higher {measure} than {higher}, by {_size(claim, comparisons)}."
        )
    change = f"the difference is {_signed(claim, comparisons)}"
    if kind == "differs":
        return f"Unlike the paper, {lower} and {higher} differ in {measure}: {change}."
    if kind == "alike":
        return f"As in the paper, no difference in {measure} between {lower} and {higher} is shown: {change}."
    return f"Not shown: that {lower} has a lower {measure} than {higher}, as in the paper; {change}."


def _size(claim: Mapping[str, Any], comparisons: int, side: int = 1) -> str:
    """Return a difference without its sign, and its interval."""
    low, high = sorted((side * claim["low"], side * claim["high"]))
    size = figure(abs(claim["difference"]), claim["unit"], sign=True).lstrip("+")
    return f"{size} ({_between(low, high, claim['unit'], comparisons)})"


def _signed(claim: Mapping[str, Any], comparisons: int) -> str:
    between = _between(claim["low"], claim["high"], claim["unit"], comparisons)
    return f"{figure(claim['difference'], claim['unit'], sign=True)} ({between})"


def _between(low: float, high: float, unit: str, comparisons: int) -> str:
    scale = 100 if unit == "fraction" else 1
    allowing = f", allowing for {comparisons} comparisons" if comparisons > 1 else ""
    return f"95% interval {scale * low:.2f} to {scale * high:.2f}{allowing}"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
