"""Commands that use what was trained: predict, uncertainty, evidence, export, report."""

import json as json_module
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from rich.console import Console
from tyro.conf import FlagCreatePairsOff, Positional, arg

from dropkit.cli.said import DONE, INCOMPLETE, print_out, tell
from dropkit.errors import DropkitError


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
        tell(f"with {run.config.dropout}, seed {run.config.seed}: {run.folder}")
        form = "json" if self.json else "csv" if self.csv else "text"
        labels = label_pictures(run, files, samples=self.samples, seed=self.seed, device=self.device)
        gallery = LabelGallery(files, Path(self.out or NAME)) if self.html else None
        watched = labels if gallery is None else gallery.watch(labels)
        bad = print_labels(watched, len(files), form, sampled=self.samples > 0)
        if gallery is not None:
            tell(f"gallery: {gallery.write(run, self.samples, self.seed or 0)}")
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
        tell(f"with {run.config.dropout}, seed {run.config.seed}: {run.folder}")
        require_writable(run)
        record = measure(run, samples=self.samples, ood=self.ood, seed=self.seed, device=self.device)
        page = keep(run, record)
        if self.json:
            print_out(json_module.dumps(record, indent=1))
        else:
            print_uncertainty(record, Console())
            print_out(f"\npage: {page}")
        return DONE


@dataclass(frozen=True, kw_only=True)
class EvidenceCommand:
    """Measure what dropout is said to do: less co-adaptation, sparse units, an ensemble of thinned networks.

    On the test pictures of a run, or of every run of a study: then each claim is judged beside the first policy. The
    figures are kept in the folder and shown on its page.
    """

    stopped: ClassVar[str] = "stopped; what was measured so far is not kept, and the same command begins anew"

    folder: Annotated[Positional[str], arg(metavar="RUN|STUDY", help_behavior_hint="")]
    """Folder of a finished run, or of a study: then every run of every policy is measured."""

    against: Annotated[str | None, arg(metavar="RUN", help_behavior_hint="")] = None
    """Another run on the same pictures, beside which a run is shown; a study has its first policy for that."""

    seed: Annotated[int, arg(metavar="N")] = 0
    """Seed of masks, of the halves that are silenced, and of what is chosen where there is more than is needed."""

    device: Annotated[str, arg(metavar="NAME")] = "auto"
    """cpu, cuda or mps; auto takes a GPU where there is one."""

    json: FlagCreatePairsOff[bool] = False
    """Print the record as JSON on standard output."""

    def run(self) -> int:
        """Measure, keep and print it."""
        from dropkit.studies.evidence.kept import evidence

        found = evidence(self.folder, against=self.against, seed=self.seed, device=self.device)
        if self.json:
            print_out(json_module.dumps(found.record, indent=1))
        else:
            found.print(Console())
            print_out(f"\npage: {found.page}")
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
        tell(f"with {run.config.dropout}, seed {run.config.seed}: {run.folder}")
        exported = export_run(run, to=self.to, out=self.out)
        print_out(json_module.dumps(exported.as_json(), indent=1) if self.json else str(exported))
        return DONE


@dataclass(frozen=True, kw_only=True)
class ReportCommand:
    """Write the page of a run or a study anew, from its records."""

    folder: Annotated[Positional[str], arg(metavar="DIR", help_behavior_hint="")]
    """Folder of a finished run or study."""

    def run(self) -> int:
        """Write the page and say where it is."""
        from dropkit.studies.reopen import rebuild_page

        print_out(f"page: {rebuild_page(Path(self.folder))}")
        return DONE
