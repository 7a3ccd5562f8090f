"""The command: parse, call, print."""

import json as json_module
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import tyro
from rich.console import Console
from tyro.conf import FlagCreatePairsOff

import dropkit
from dropkit.errors import DropkitError, unknown
from dropkit.runs.config import TrainConfig
from dropkit.studies.config import CompareConfig

# Exit codes: 0 done, 1 a training diverged, 2 wrong input, 130 stopped by Ctrl-C.
DONE, DIVERGED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True, kw_only=True)
class TrainCommand(TrainConfig):
    """Train a network on pictures with dropout, and evaluate it. The same command goes on where it was stopped."""

    json: FlagCreatePairsOff[bool] = False
    """Print the summary as JSON on standard output."""

    def run(self) -> int:
        """Train and say how it went; return the exit code."""
        from dropkit.runs.training import train

        run = train(TrainConfig(**{field.name: getattr(self, field.name) for field in fields(TrainConfig)}))
        if self.json:
            _print(json_module.dumps({"folder": str(run.folder), **run.summary}, indent=1))
        else:
            if run.repeated:
                _print("already finished; nothing was trained:")
            _print(str(run))
            _print(f"page: {run.page}")
        return DIVERGED if run.diverged else DONE


@dataclass(frozen=True, kw_only=True)
class CompareCommand(CompareConfig):
    """Train with and without dropout on the same splits and seeds, and say whether it pays.

    The same command goes on where it was stopped, and repeats no finished training.
    """

    json: FlagCreatePairsOff[bool] = False
    """Print the study's record as JSON on standard output."""

    def run(self) -> int:
        """Compare and say what came out; return the exit code."""
        from dropkit.studies.compare import compare

        study = compare(
            self.configs(),
            seeds=self.seeds,
            first_seed=self.first_seed,
            metric=self.metric,
            budget=self.budget,
            workers=self.workers,
            out=self.out,
        )
        if self.json:
            _print(json_module.dumps(study.record, indent=1))
        else:
            study.print(Console())
            _print(f"\npage: {study.page}")
        return DIVERGED if any(row["diverged"] for row in study.record["policies"]) else DONE


COMMANDS: dict[str, Callable[..., Any]] = {"train": TrainCommand, "compare": CompareCommand}


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    words = sys.argv[1:] if args is None else args
    if list(words) == ["--version"]:
        _print(f"dropkit {dropkit.__version__}")
        sys.exit(DONE)
    try:
        if words and not words[0].startswith("-") and words[0] not in COMMANDS:
            raise unknown("command", words[0], COMMANDS)
        command: TrainCommand | CompareCommand = tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="dropkit", description="Dropout for PyTorch: does it pay on your pictures?", args=words
        )
        code = command.run()
        sys.stdout.flush()
    except DropkitError as error:
        print(f"dropkit: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(WRONG_INPUT)
    except BrokenPipeError:
        # Whoever read the output has seen enough (| head). What is still to be flushed must not raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(DONE)
    except KeyboardInterrupt:
        print("stopped; what was finished is kept, and the same command goes on", file=sys.stderr)  # noqa: T201
        sys.exit(INTERRUPTED)
    sys.exit(code)


def _print(text: str) -> None:
    print(text)  # noqa: T201
