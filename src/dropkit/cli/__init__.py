"""The command: parse, call, print."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import tyro

import dropkit
from dropkit.callables import tell_of_foreign_code
from dropkit.cli.experiments import CompareCommand, ReproduceCommand, TrainCommand, TuneCommand
from dropkit.cli.results import EvidenceCommand, ExportCommand, PredictCommand, ReportCommand, UncertaintyCommand
from dropkit.cli.said import DONE, INTERRUPTED, NOTHING_KEPT, TERMINATED, WRONG_INPUT, print_out, tell_first
from dropkit.cli.tools import BenchCommand, CheckCommand
from dropkit.errors import DropkitError, unknown
from dropkit.runs.interrupts import Terminated, terminated_in_order
from dropkit.runs.torchrun import leave, one_voice, process_count, refuse_torchrun

COMMANDS: dict[str, Callable[..., Any]] = {
    "train": TrainCommand,
    "compare": CompareCommand,
    "tune": TuneCommand,
    "reproduce": ReproduceCommand,
    "predict": PredictCommand,
    "uncertainty": UncertaintyCommand,
    "evidence": EvidenceCommand,
    "export": ExportCommand,
    "report": ReportCommand,
    "check": CheckCommand,
    "bench": BenchCommand,
}


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    words = sys.argv[1:] if args is None else args
    # A file's or a folder's name need not be valid Unicode: it is printed with escapes, never with a traceback.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    if list(words) == ["--version"]:
        print_out(f"dropkit {dropkit.__version__}")
        sys.exit(DONE)
    command: Any = None
    try:
        if words and not words[0].startswith("-") and words[0] not in COMMANDS:
            raise unknown("command", words[0], COMMANDS)
        if words and words[0] in COMMANDS and words[0] != "train":
            refuse_torchrun(words[0])
        with one_voice():  # --help, and what cannot be parsed
            command = tyro.extras.subcommand_cli_from_dict(
                COMMANDS, prog="dropkit", description="Dropout for PyTorch: does it pay on your pictures?", args=words
            )
        tell_of_foreign_code(tell_first)
        # torchrun's own processes may wait for one another where no handler of Python's is heard: they end at once
        with terminated_in_order() if process_count() == 1 else nullcontext():
            code = command.run()
        sys.stdout.flush()
    except DropkitError as error:
        tell_first(f"dropkit: {error}")
        leave(WRONG_INPUT)
    except BrokenPipeError:
        # Whoever read the output has seen enough (| head). What is still to be flushed must not raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(DONE)
    except OSError as refusal:  # of the system, where no better words were found
        place = f" {refusal.filename!r}" if refusal.filename else ""
        tell_first(f"dropkit: the system refuses{place}: {refusal.strerror or refusal}")
        leave(WRONG_INPUT)
    except KeyboardInterrupt as stop:
        tell_first(getattr(command, "stopped", NOTHING_KEPT))
        leave(TERMINATED if isinstance(stop, Terminated) else INTERRUPTED)
    leave(code)
