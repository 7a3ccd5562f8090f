"""Widths of a network's layers as its name may give them: mlp:1024-1024-2048."""

import re

from dropkit.errors import DropkitError

# Which argument of the network takes the widths, how many there must be (None: any number), and what they are.
_TAKEN = {
    "mlp": ("hidden", None, "the units of each hidden layer"),
    "paper-cnn": ("widths", 5, "the channels of three convolutions, then the units of two fully connected layers"),
}
MOST = 1 << 16


def parse_widths(name: str) -> dict[str, tuple[int, ...]]:
    """Return the widths in a network's name as the argument that its class takes.

    Raises:
        DropkitError: if the network takes none, or they are not what it takes.

    >>> parse_widths("mlp:1024-1024-2048")
    {'hidden': (1024, 1024, 2048)}
    """
    own, _, text = name.partition(":")
    if own not in _TAKEN:
        raise DropkitError(f"model {own!r} takes no widths, but got {name!r}: only {' and '.join(_TAKEN)} do")
    argument, count, meaning = _TAKEN[own]
    widths = [int(part) for part in text.split("-")] if re.fullmatch(r"[0-9]{1,5}(-[0-9]{1,5})*", text) else []
    if not widths or not all(1 <= width <= MOST for width in widths) or count not in (None, len(widths)):
        amount = "whole numbers" if count is None else f"{count} whole numbers"
        raise DropkitError(
            f"model {name!r}: after the colon stand {meaning}, as {amount} from 1 to {MOST:,} with hyphens between "
            f"them, such as {'mlp:1024-1024' if count is None else 'paper-cnn:24-32-64-512-512'}"
        )
    return {argument: tuple(widths)}
