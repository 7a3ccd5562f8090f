"""The command: parse, call, print."""

import json as json_module
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from tyro.conf import FlagCreatePairsOff, Positional, arg

import dropkit
from dropkit.bench.bench import BenchConfig
from dropkit.errors import DropkitError, unknown
from dropkit.runs.config import TrainConfig
from dropkit.studies.config import CompareConfig

# Exit codes: 0 done, 1 done but a training diverged or a picture could not be read, 2 wrong input, 130 Ctrl-C.
DONE, INCOMPLETE, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


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
        return INCOMPLETE if run.diverged else DONE


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
            folds=self.folds,
            sweep=self.sweep,
            budget=self.budget,
            workers=self.workers,
            out=self.out,
        )
        if self.json:
            _print(json_module.dumps(study.record, indent=1))
        else:
            study.print(Console())
            _print(f"\npage: {study.page}")
        return INCOMPLETE if any(row["diverged"] for row in study.record["policies"]) else DONE


@dataclass(frozen=True, kw_only=True)
class PredictCommand:
    """Say which classes pictures show, with the network of a run, or with the best of a study's recommended policy."""

    folder: Annotated[Positional[str], arg(metavar="RUN|STUDY", help_behavior_hint="")]
    """Folder of a finished run, or of a study: then the recommended policy's run with the lowest validation loss."""

    pictures: Annotated[Positional[tuple[str, ...]], arg(metavar="PICTURE|FOLDER ...", help_behavior_hint="")]
    """Pictures, and folders of pictures. One that cannot be read is a row with its error, and the exit code is 1."""

    json: FlagCreatePairsOff[bool] = False
    """Print a JSON list, with the probabilities of all classes."""

    csv: FlagCreatePairsOff[bool] = False
    """Print CSV: picture, class, probability, second class and its probability, error."""

    device: Annotated[str, arg(metavar="NAME")] = "auto"
    """cpu, cuda or mps; auto takes a GPU where there is one."""

    def run(self) -> int:
        """Print a row for each picture; return the exit code."""
        from dropkit.runs.label_output import print_labels
        from dropkit.runs.labelling import find_pictures, label_pictures
        from dropkit.studies.reopen import best_run

        if self.json and self.csv:
            raise DropkitError("give either --json or --csv, not both")
        if not self.pictures:
            raise DropkitError("name the pictures to predict, or folders of them, after the run's folder")
        files = find_pictures(self.pictures)
        run = best_run(Path(self.folder))
        print(f"with {run.config.dropout}, seed {run.config.seed}: {run.folder}", file=sys.stderr)  # noqa: T201
        form = "json" if self.json else "csv" if self.csv else "text"
        bad = print_labels(label_pictures(run, files, device=self.device), len(files), form)
        return INCOMPLETE if bad else DONE


@dataclass(frozen=True, kw_only=True)
class ReportCommand:
    """Write the page of a run or a study anew, from its records."""

    folder: Annotated[Positional[str], arg(metavar="DIR", help_behavior_hint="")]
    """Folder of a finished run or study."""

    def run(self) -> int:
        """Write the page and say where it is."""
        from dropkit.studies.reopen import rebuild_page

        _print(f"page: {rebuild_page(Path(self.folder))}")
        return DONE


@dataclass(frozen=True, kw_only=True)
class BenchCommand(BenchConfig):
    """Time dropkit's dropout beside torch.nn's on this machine, and beside a copy as the physical limit."""

    json: FlagCreatePairsOff[bool] = False
    """Print the figures as JSON on standard output."""

    def run(self) -> int:
        """Time everything and print it."""
        from dropkit.bench.bench import bench
        from dropkit.bench.tables import print_tables

        record = bench(BenchConfig(**{field.name: getattr(self, field.name) for field in fields(BenchConfig)}), _tell)
        if self.json:
            _print(json_module.dumps(record, indent=1))
        else:
            print_tables(record, Console())
        return DONE


COMMANDS: dict[str, Callable[..., Any]] = {
    "train": TrainCommand,
    "compare": CompareCommand,
    "predict": PredictCommand,
    "report": ReportCommand,
    "bench": BenchCommand,
}


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    words = sys.argv[1:] if args is None else args
    # A file's or a folder's name need not be valid Unicode: it is printed with escapes, never with a traceback.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    if list(words) == ["--version"]:
        _print(f"dropkit {dropkit.__version__}")
        sys.exit(DONE)
    try:
        if words and not words[0].startswith("-") and words[0] not in COMMANDS:
            raise unknown("command", words[0], COMMANDS)
        command = tyro.extras.subcommand_cli_from_dict(
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


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201
