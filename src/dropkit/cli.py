"""The command: parse, call, print."""

import json as json_module
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
from rich.console import Console
from tyro.conf import FlagCreatePairsOff, Positional, arg

import dropkit
from dropkit.bench.bench import BenchConfig
from dropkit.errors import DropkitError, unknown
from dropkit.runs.config import TrainConfig
from dropkit.runs.torchrun import is_first, leave, one_voice, refuse_torchrun
from dropkit.studies.config import CompareConfig, TuneConfig

# Exit codes: 0 done, 1 done but a training diverged, a picture could not be read or a network misuses dropout,
# 2 wrong input, 130 Ctrl-C.
DONE, INCOMPLETE, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130

# What Ctrl-C leaves, where a command does not say otherwise.
NOTHING_KEPT = "stopped; nothing of it is kept, and the same command begins anew"
GOES_ON = "stopped; what was finished is kept, and the same command goes on"


@dataclass(frozen=True, kw_only=True)
class TrainCommand(TrainConfig):
    """Train a network on pictures with dropout, and evaluate it. The same command goes on where it was stopped."""

    stopped: ClassVar[str] = GOES_ON

    json: FlagCreatePairsOff[bool] = False
    """Print the summary as JSON on standard output."""

    def run(self) -> int:
        """Train and say how it went; return the exit code."""
        from dropkit.runs.training import train

        run = train(TrainConfig(**{field.name: getattr(self, field.name) for field in fields(TrainConfig)}))
        if is_first():
            self._print_run(run)
        return INCOMPLETE if run.diverged else DONE

    def _print_run(self, run: Any) -> None:
        if self.json:
            _print(json_module.dumps({"folder": str(run.folder), **run.summary}, indent=1))
            return
        if run.repeated:
            _print("already finished; nothing was trained:")
        _print(str(run))
        _print(f"page: {run.page}")


@dataclass(frozen=True, kw_only=True)
class CompareCommand(CompareConfig):
    """Train with and without dropout on the same splits and seeds, and say whether it pays.

    The same command goes on where it was stopped, and repeats no finished training.
    """

    stopped: ClassVar[str] = GOES_ON

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
            out=self.out,
            **self.execution(),
        )
        return _print_study(study, self.json)


def _print_study(study: Any, as_json: bool) -> int:
    """Print a study; return the exit code."""
    if as_json:
        _print(json_module.dumps(study.record, indent=1))
    else:
        study.print(Console())
        _print(f"\npage: {study.page}")
    return INCOMPLETE if any(row["diverged"] for row in study.record["policies"]) else DONE


@dataclass(frozen=True, kw_only=True)
class TuneCommand(TuneConfig):
    """Search the dropout that pays: rates, kinds, weight decay, on validation loss. Then confirm it with fresh seeds.

    The same command goes on where it was stopped, and repeats no finished training.
    """

    stopped: ClassVar[str] = GOES_ON

    json: FlagCreatePairsOff[bool] = False
    """Print the study's record as JSON on standard output."""

    def run(self) -> int:
        """Search, confirm, and say what came out; return the exit code."""
        from dropkit.studies.tune import tune

        study = tune(
            self.config(),
            trials=self.trials,
            budget=self.budget,
            **self.choices(),
            seeds=self.seeds,
            metric=self.metric,
            storage=self.storage,
            out=self.out,
            **self.execution(),
        )
        return _print_study(study, self.json)


@dataclass(frozen=True, kw_only=True)
class PredictCommand:
    """Say which classes pictures show, with the network of a run, or with the best of a study's recommended policy."""

    stopped: ClassVar[str] = "stopped; the rows that were printed are all there is, and the same command begins anew"

    folder: Annotated[Positional[str], arg(metavar="RUN|STUDY", help_behavior_hint="")]
    """Folder of a finished run, or of a study: then the recommended policy's run with the lowest validation loss."""

    pictures: Annotated[Positional[tuple[str, ...]], arg(metavar="PICTURE|FOLDER ...", help_behavior_hint="")]
    """Pictures, and folders of pictures. One that cannot be read is a row with its error, and the exit code is 1."""

    json: FlagCreatePairsOff[bool] = False
    """Print a JSON list, with the probabilities of all classes."""

    csv: FlagCreatePairsOff[bool] = False
    """Print CSV: picture, class, probability, second class and its probability, error; what --samples gives."""

    samples: Annotated[int, arg(metavar="N")] = 0
    """Average N thinned networks, and say how far they agree: interval, entropy, ... (0: a pass without dropout)."""

    seed: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """Seed of the thinned networks' masks (default: 0)."""

    html: FlagCreatePairsOff[bool] = False
    """Also write a gallery, from the surest picture to the least sure, as one HTML file."""

    out: Annotated[str | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """The gallery's file (default: predictions.html in the current folder). One that is there is replaced."""

    device: Annotated[str, arg(metavar="NAME")] = "auto"
    """cpu, cuda or mps; auto takes a GPU where there is one."""

    def run(self) -> int:
        """Print a row for each picture; return the exit code."""
        from dropkit.runs.label_gallery import NAME, LabelGallery
        from dropkit.runs.label_output import print_labels
        from dropkit.runs.labelling import find_pictures, label_pictures
        from dropkit.studies.reopen import best_run

        if self.json and self.csv:
            raise DropkitError("give either --json or --csv, not both")
        if self.out is not None and not self.html:
            raise DropkitError("--out names the gallery's file: give --html too")
        if not self.pictures:
            raise DropkitError("name the pictures to predict, or folders of them, after the run's folder")
        files = find_pictures(self.pictures)
        run = best_run(Path(self.folder))
        print(f"with {run.config.dropout}, seed {run.config.seed}: {run.folder}", file=sys.stderr)  # noqa: T201
        form = "json" if self.json else "csv" if self.csv else "text"
        labels = label_pictures(run, files, samples=self.samples, seed=self.seed, device=self.device)
        gallery = LabelGallery(files, Path(self.out or NAME)) if self.html else None
        watched = labels if gallery is None else gallery.watch(labels)
        bad = print_labels(watched, len(files), form, sampled=self.samples > 0)
        if gallery is not None:
            _tell(f"gallery: {gallery.write(run, self.samples, self.seed or 0)}")
        return INCOMPLETE if bad else DONE


@dataclass(frozen=True, kw_only=True)
class UncertaintyCommand:
    """Measure how well a run knows what it does not know: calibration, averages of thinned networks, other data.

    On the run's own test pictures, with temperatures fitted on its validation pictures. The figures are kept in the
    run's folder and shown on its page.
    """

    stopped: ClassVar[str] = "stopped; what was measured so far is not kept, and the same command begins anew"

    folder: Annotated[Positional[str], arg(metavar="RUN|STUDY", help_behavior_hint="")]
    """Folder of a finished run, or of a study: then the recommended policy's run with the lowest validation loss."""

    samples: Annotated[int, arg(metavar="N")] = 50
    """How many thinned networks are drawn."""

    seed: Annotated[int, arg(metavar="N")] = 0
    """Seed of the thinned networks' masks, and of which pictures are chosen where there are more than are needed."""

    ood: Annotated[str | None, arg(metavar="DATA", help_behavior_hint="")] = None
    """Pictures of another kind, as `dropkit train` names data, or any folder of them: are they told from the test's?"""

    device: Annotated[str, arg(metavar="NAME")] = "auto"
    """cpu, cuda or mps; auto takes a GPU where there is one."""

    json: FlagCreatePairsOff[bool] = False
    """Print the record as JSON on standard output."""

    def run(self) -> int:
        """Measure, keep and print it."""
        from dropkit.runs.uncertainty import keep, measure, require_writable
        from dropkit.runs.uncertainty_output import print_uncertainty
        from dropkit.studies.reopen import best_run

        run = best_run(Path(self.folder))
        _tell(f"with {run.config.dropout}, seed {run.config.seed}: {run.folder}")
        require_writable(run)
        record = measure(run, samples=self.samples, ood=self.ood, seed=self.seed, device=self.device)
        page = keep(run, record)
        if self.json:
            _print(json_module.dumps(record, indent=1))
        else:
            print_uncertainty(record, Console())
            _print(f"\npage: {page}")
        return DONE


@dataclass(frozen=True, kw_only=True)
class ExportCommand:
    """Write the network of a run, or the best of a study's recommended policy, into a file that runs without dropkit.

    The file is kept if it has no random operation and equals the network on the run's test pictures.
    """

    stopped: ClassVar[str] = "stopped; no file was written, one that was there stays, and the same command begins anew"

    folder: Annotated[Positional[str], arg(metavar="RUN|STUDY", help_behavior_hint="")]
    """Folder of a finished run, or of a study: then the recommended policy's run with the lowest validation loss."""

    to: Annotated[str, arg(metavar="{onnx,pt2}")] = "onnx"
    """onnx for ONNX Runtime and others (extra export), pt2 for torch.export.load. Both take uint8 pictures."""

    out: Annotated[str | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """The file, .onnx or .pt2 (default: model.onnx or .pt2 in the run's folder). One that is there is replaced."""

    json: FlagCreatePairsOff[bool] = False
    """Print what was written and checked as JSON on standard output."""

    def run(self) -> int:
        """Write the file and say what its check found."""
        from dropkit.runs.export import export_run
        from dropkit.studies.reopen import best_run

        run = best_run(Path(self.folder))
        _tell(f"with {run.config.dropout}, seed {run.config.seed}: {run.folder}")
        exported = export_run(run, to=self.to, out=self.out)
        _print(json_module.dumps(exported.as_json(), indent=1) if self.json else str(exported))
        return DONE


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
class CheckCommand:
    """Run a network and find the misuse of dropout in it. The exit code is 1 where an error is found."""

    network: Annotated[Positional[str], arg(metavar="RUN|MODEL", help_behavior_hint="")]
    """Folder of a finished run, or a network as `dropkit train --model` names it, with random weights."""

    data: Annotated[str | None, arg(metavar="DATA", help_behavior_hint="")] = None
    """Pictures to run a MODEL on, as `dropkit train` names them (default: random ones)."""

    input: Annotated[str | None, arg(metavar="CxHxW", help_behavior_hint="")] = None
    """Size of a MODEL's random pictures (default: 1x28x28 for dropkit's networks, 3x224x224 for others)."""

    classes: Annotated[int | None, arg(metavar="K", help_behavior_hint="")] = None
    """Classes of a MODEL (default: 10)."""

    dropout: Annotated[str | None, arg(metavar="POLICY", help_behavior_hint="")] = None
    """Dropout to put into a MODEL, such as conv=0.1,fc=0.5 (default: as it was built)."""

    json: FlagCreatePairsOff[bool] = False
    """Print the findings as JSON on standard output."""

    def run(self) -> int:
        """Print the findings; return the exit code."""
        from dropkit.models.check.check import check
        from dropkit.runs.checking import network_to_check, parse_shape, print_findings

        shape = None if self.input is None else parse_shape(self.input)
        model, pictures = network_to_check(
            self.network, data=self.data, shape=shape, classes=self.classes, policy=self.dropout
        )
        found = check(model, pictures)
        if self.json:
            _print(json_module.dumps({"network": self.network, "findings": [asdict(f) for f in found]}, indent=1))
        else:
            print_findings(found, self.network)
        return INCOMPLETE if any(finding.severity == "error" for finding in found) else DONE


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
    "tune": TuneCommand,
    "predict": PredictCommand,
    "uncertainty": UncertaintyCommand,
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
        _print(f"dropkit {dropkit.__version__}")
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
        code = command.run()
        sys.stdout.flush()
    except DropkitError as error:
        _tell_once(f"dropkit: {error}")
        leave(WRONG_INPUT)
    except BrokenPipeError:
        # Whoever read the output has seen enough (| head). What is still to be flushed must not raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(DONE)
    except KeyboardInterrupt:
        _tell_once(getattr(command, "stopped", NOTHING_KEPT))
        leave(INTERRUPTED)
    leave(code)


def _tell_once(line: str) -> None:
    if is_first():
        _tell(line)


def _print(text: str) -> None:
    print(text)  # noqa: T201


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201
