"""What torchrun tells a process, in its environment. Importing this imports no torch: the command asks it first."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import NoReturn

from dropkit.errors import DropkitError

_PAUSE = 1.0  # seconds


def process_count() -> int:
    """Return how many processes torchrun, or what sets the same variables, has started for this program; else 1."""
    if not all(os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR")):
        return 1
    return int(os.environ["WORLD_SIZE"])


def is_first() -> bool:
    """Whether this process is the one that speaks: the only one, or rank 0."""
    return process_count() == 1 or int(os.environ["RANK"]) == 0


def refuse_torchrun(command: str) -> None:
    """Raise under torchrun, for a command that it would only repeat.

    Args:
        command: its name.

    Raises:
        DropkitError: naming the command.
    """
    count = process_count()
    if count > 1:
        raise DropkitError(
            f"torchrun has started {count} processes of dropkit {command}, which does not share its work with them: "
            f"run it without torchrun. What several processes can share is one training: torchrun -m dropkit train"
        )


def let_first_speak() -> None:
    """Wait a moment in the other processes: torchrun ends all of them as soon as one has failed."""
    if not is_first():
        time.sleep(_PAUSE)


def leave(code: int) -> NoReturn:
    """End the process with an exit code, whichever of several it is."""
    if process_count() == 1:
        sys.exit(code)
    if code:
        let_first_speak()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of torch.distributed may outlive their group and abort a Python that is being taken down: torchrun would
    # then call a finished training a failure.
    os._exit(code)


@contextmanager
def one_voice() -> Iterator[None]:
    """Inside the block only the first process prints, also what is printed before the program is ended."""
    if is_first():
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):  # noqa: PTH123
        try:
            yield
        except SystemExit:
            let_first_speak()
            raise
