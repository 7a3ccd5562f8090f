"""What `dropkit evidence` prints: a table of the networks, one of their layers, and a sentence for each claim."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]

NONE = "-"


def print_evidence(record: Row, console: Console) -> None:
    """Print what `dropkit.evidence` found."""
    for title, table in tables(record):
        console.print(Text(title), soft_wrap=True)
        console.print(Text(_at_natural_width(table)), soft_wrap=True)
        console.print()
    for line in sentences(record):
        console.print(Text(line), soft_wrap=True)


def tables(record: Row) -> Iterator[tuple[str, Table]]:
    """Yield each table with its title."""
    policies = record["policies"]
    many = any(policy["n"] > 1 for policy in policies)
    spread = "; means of runs, ± half of the 95% interval" if many else ""
    pictures = f"{record['pictures']:,} test pictures"
    yield f"the networks, on {pictures}{spread}", _networks(policies)
    yield (
        f"hidden layers: |r| is the mean correlation of units, 'silenced' the error with a random half of them at 0 "
        f"(mean of {record['halves']} halves, with their standard deviation)",
        _layers(policies),
    )


def sentences(record: Row) -> Iterator[str]:
    """Yield what is said of the claims, and what has to be known."""
    several = len(record["policies"]) > 1
    for policy in record["policies"]:
        if policy["claims"] and several:
            yield f"{policy['name']}:"
        for claim in policy["claims"]:
            yield ("  " if several else "") + claim["sentence"]
    for policy in record["policies"]:
        if policy["no_disagreement"]:
            yield f"{policy['name']} has no thinned networks: {policy['no_disagreement']}"
        if policy["left_out"]:
            yield f"{policy['name']}: not measured, to keep it short: {', '.join(policy['left_out'])}"
        for note in policy["notes"]:
            yield f"note on {policy['name']}: {note}"
    signed = dict.fromkeys(
        layer["name"] for policy in record["policies"] for layer in policy["layers"] if not layer["rectified"]
    )
    if signed:
        yield (
            f"note: activations of {', '.join(signed)} are negative, too. There neither 0 nor the mean says how active "
            "a unit is, so they are not given, and nothing is said of sparse or low activations"
        )


def _networks(policies: Sequence[Row]) -> Table:
    table = _table(["policy", "n", "best epoch", "gap", "error", "one thinned", "average", "disagree", "weight norm"])
    for policy in policies:
        figures = policy["figures"]
        shares = [_share(figures[key]) for key in ("error", "one", "average", "minority")]
        told = [policy["name"], str(policy["n"]), _number(figures["best_epoch"], 1), _number(figures["gap"])]
        _add(table, [*told, *shares, _number(figures["norm"], 2)])
    return table


def _layers(policies: Sequence[Row]) -> Table:
    table = _table(["policy", "layer", "units", "rate", "|r|", "by chance", "silenced", "sd", "zeros", "mean"])
    for policy in policies:
        for layer in policy["layers"]:
            figures = layer["figures"]
            numbers = [_number(figures[key]) for key in ("correlation", "chance")]
            shares = [_share(figures["silenced"]), _share(_alone(figures["sd"])), _share(figures["zero"])]
            told = [policy["name"], layer["name"], str(layer["units"]), f"{layer['rate']:g}"]
            _add(table, [*told, *numbers, *shares, _number(figures["mean"])])
    return table


def _add(table: Table, cells: Sequence[str]) -> None:
    table.add_row(*map(Text, cells))  # Text, not str: rich would read brackets in a policy as markup


def _alone(figure: Row | None) -> Row | None:
    """Return a figure without its interval."""
    return None if figure is None else {**figure, "low": None, "high": None}


def _share(figure: Row | None) -> str:
    return _written(figure, 100.0, 2, "%")


def _number(figure: Row | None, places: int = 3) -> str:
    return _written(figure, 1.0, places, "")


def _written(figure: Row | None, scale: float, places: int, unit: str) -> str:
    if figure is None:
        return NONE
    mean = f"{scale * figure['mean']:.{places}f}{unit}"
    if figure["high"] is None:
        return mean
    # The upper end: the lower one may have been cut at what is possible.
    return f"{mean} ±{scale * max(figure['high'] - figure['mean'], figure['mean'] - figure['low']):.{places}f}"


def _at_natural_width(table: Table) -> str:
    """Return the table as text that no narrow terminal squeezes."""
    wide = Console(width=400, force_terminal=False, color_system=None)
    with wide.capture() as captured:
        wide.print(table)
    return "\n".join(line.strip() for line in captured.get().strip().splitlines())


def _table(heads: Sequence[str]) -> Table:
    table = Table(box=box.MARKDOWN)
    for place, name in enumerate(heads):
        table.add_column(name, justify="left" if place == 0 else "right", no_wrap=True)
    return table
