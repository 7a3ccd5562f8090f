"""What a command says, and the exit codes that it ends with."""

import sys

from dropkit.runs.torchrun import is_first

# Exit codes: 0 done, 1 done but a training diverged, a picture could not be read or a network misuses dropout,
# 2 wrong input, 130 Ctrl-C, 143 SIGTERM.
DONE, INCOMPLETE, WRONG_INPUT, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

# What Ctrl-C leaves, where a command does not say otherwise.
NOTHING_KEPT = "stopped; nothing of it is kept, and the same command begins anew"
GOES_ON = "stopped; what was finished is kept, and the same command goes on"


def print_out(text: str) -> None:
    """Print a result on standard output."""
    print(text)  # noqa: T201


def tell(line: str) -> None:
    """Tell the user something on standard error; standard output is for results."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def tell_first(line: str) -> None:
    """Tell the user something in the first of the processes that share a training."""
    if is_first():
        tell(line)
