"""The command: parse, call, print."""

import json as json_module
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tyro
from rich.console import Console
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes

from dropkit.errors import DropkitError
from dropkit.runs.config import TrainConfig
from dropkit.studies.config import CompareConfig

# Exit codes: 0 done, 1 a training diverged, 2 wrong input, 130 stopped by Ctrl-C.
DONE, DIVERGED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


def train_command(config: OmitArgPrefixes[TrainConfig], json: FlagCreatePairsOff[bool] = False) -> int:
    """Train a network on pictures with dropout, and evaluate it.

    The same command goes on where it was stopped.

    Args:
        config: the training.
        json: print the summary as JSON on standard output.
    """
    from dropkit.runs.training import train

    run = train(config)
    if json:
        _print(json_module.dumps({"folder": str(run.folder), **run.summary}, indent=1))
    else:
        if run.repeated:
            _print("already finished; nothing was trained:")
        _print(str(run))
        _print(f"page: {run.folder / 'report.html'}")
    return DIVERGED if run.diverged else DONE


def compare_command(config: OmitArgPrefixes[CompareConfig], json: FlagCreatePairsOff[bool] = False) -> int:
    """Train with and without dropout on the same splits and seeds, and say whether it pays.

    The same command goes on where it was stopped and repeats no finished training.

    Args:
        config: the comparison.
        json: print the study's record as JSON on standard output.
    """
    from dropkit.studies.compare import compare

    study = compare(
        config.configs(),
        seeds=config.seeds,
        metric=config.metric,
        budget=config.budget,
        workers=config.workers,
        out=config.out,
    )
    if json:
        _print(json_module.dumps(study.record, indent=1))
    else:
        study.print(Console())
        _print(f"\npage: {study.page}")
    return DONE


COMMANDS: dict[str, Callable[..., Any]] = {"train": train_command, "compare": compare_command}


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    try:
        code = tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="dropkit", description="Dropout for PyTorch: does it pay on your pictures?", args=args
        )
    except DropkitError as error:
        print(f"dropkit: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(WRONG_INPUT)
    except KeyboardInterrupt:
        print("stopped; what was finished is kept, and the same command goes on", file=sys.stderr)  # noqa: T201
        sys.exit(INTERRUPTED)
    sys.exit(code)


def _print(text: str) -> None:
    print(text)  # noqa: T201
