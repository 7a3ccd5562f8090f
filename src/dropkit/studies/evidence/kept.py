"""The evidence of a run, of two runs, or of a study: measured, kept in its folder, and shown on its page."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from dropkit.data.pictures import Pictures
from dropkit.errors import DropkitError
from dropkit.files import read_record, write_json
from dropkit.runs.details import shared_pictures
from dropkit.runs.environment import describe_environment
from dropkit.runs.fitting import pick_device
from dropkit.runs.record import RunFolder
from dropkit.runs.run import Run, read_run
from dropkit.runs.training import say
from dropkit.runs.uncertainty import require_writable
from dropkit.studies.arms import arm_names
from dropkit.studies.evidence.comparison import Found, compared, without_pictures
from dropkit.studies.evidence.disagreement import DRAWS
from dropkit.studies.evidence.evidence import measure, require_seed
from dropkit.studies.evidence.output import print_evidence
from dropkit.studies.evidence.pictures import load_pictures
from dropkit.studies.evidence.silencing import HALVES
from dropkit.studies.reopen import rebuild_page, reopen
from dropkit.studies.study import Study

NAME = "evidence.json"  # of a run and of a study alike


@dataclass(frozen=True)
class Evidence:
    """What dropout was measured to do.

    Attributes:
        folder: of the run or study; it keeps `evidence.json`, and the page shows it.
        record: what that file holds; `docs/evidence.md` says what each figure is.
    """

    folder: Path
    record: dict[str, Any]

    @property
    def page(self) -> Path:
        """The page of the run or study."""
        return self.folder / "report.html"

    def print(self, console: Console) -> None:
        """Show the figures and what they say of each claim."""
        print_evidence(self.record, console)

    def __str__(self) -> str:
        """Return the same as plain text."""
        console = Console(width=120, force_terminal=False, color_system=None)
        with console.capture() as captured:
            self.print(console)
        return captured.get().rstrip()


def evidence(
    folder: str | Path,
    *,
    against: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> Evidence:
    """Measure, on finished runs, what dropout is said to do, and keep it with the run or study and on its page.

    Co-adaptation (correlation of a layer's units; the error with a random half of them silenced), sparsity,
    disagreement of thinned networks, weight norms, overfitting: Srivastava et al., JMLR 15 (2014), sections 7.1, 7.2
    and 7.5. Of a study every run is measured, and each claim is judged by paired differences to the first policy.

    Args:
        folder: of a finished run or study.
        against: of another run on the same pictures, beside which the run is shown; not for a study.
        seed: of masks, of halves that are silenced, and of what is chosen; an integer from 0 to 2**64 - 1.
        device: where the networks compute.
        progress: show progress on standard error.

    Raises:
        DropkitError: if there is no finished run or study, a run has no network or its data are not what they were,
            the folder cannot be written to, or an argument is out of range.

    >>> import tempfile
    >>> from dropkit.runs.config import TrainConfig
    >>> from dropkit.runs.training import train
    >>> config = TrainConfig(data="digits", model="mlp", dropout="fc=0.5", epochs=1, out=tempfile.mkdtemp())
    >>> found = evidence(train(config, progress=False).folder, progress=False)
    >>> sorted(found.record["policies"][0]["layers"][0]["figures"])[:3]
    ['chance', 'constant', 'correlation']
    """
    require_seed(seed)
    began = time.perf_counter()
    opened = reopen(folder)
    if isinstance(opened, Study):
        _require_alone(against)
        groups = _runs_of(opened)
    else:
        groups = {opened.config.dropout: [opened]} if against is None else _two(opened, Path(against))
    require_writable(_some(groups))
    found = _measured(groups, seed, device, progress)
    unjudged = _undertrained(opened) if isinstance(opened, Study) else set()
    record = _record(found, groups, unjudged, seed=seed, device=device, seconds=time.perf_counter() - began)
    write_json(opened.folder / NAME, record)
    rebuild_page(opened.folder)
    return Evidence(opened.folder, record)


Groups = Mapping[str, Sequence[Run]]


def _runs_of(study: Study) -> Groups:
    """Return the runs of each policy, in the order of their seeds. By name inside the study: it may have been moved."""
    groups: dict[str, list[Run]] = {row["name"]: [] for row in study.record["policies"]}
    for run in study.record["runs"]:
        groups[run["policy"]].append(read_run(study.folder / run["folder"]))
    return groups


def _two(run: Run, other: Path) -> Groups:
    """Return a run and the one that it is held against, which comes first.

    Raises:
        DropkitError: if the other is no run, the same one, or was tested on other pictures.
    """
    before = reopen(other)
    if isinstance(before, Study):
        raise DropkitError(
            f"{str(other)!r} is a study: --against takes the folder of one run, such as one in its runs/"
        )
    if before.folder.resolve() == run.folder.resolve():
        raise DropkitError(f"{str(other)!r} is the run itself: --against takes the folder of another one")
    splits = [read_record(RunFolder(each.folder).split) for each in (before, run)]
    if any(splits[0][key] != splits[1][key] for key in ("fingerprint", "test")):
        raise DropkitError(
            f"the runs in {str(other)!r} and {str(run.folder)!r} were tested on different pictures, so they cannot be "
            "held against each other: train both on the same data with the same --split-seed"
        )
    names = arm_names([before.config, run.config])
    if names[0] == names[1]:
        names = [f"{name};seed={each.config.seed}" for name, each in zip(names, (before, run), strict=True)]
    if names[0] == names[1]:
        names[0] += f" in {other.name}"
    return {names[0]: [before], names[1]: [run]}


def _require_alone(against: str | Path | None) -> None:
    if against is not None:
        raise DropkitError(
            f"--against {str(against)!r} is for two runs, and this is a study, whose policies are held against "
            "its first one: leave --against out"
        )


def _undertrained(study: Study) -> set[str]:
    """Return the policies that the study does not judge: what they show may change with more epochs."""
    return {row["name"] for row in study.record["policies"] if (row["verdict"] or {}).get("kind") == "undertrained"}


def _some(groups: Groups) -> Run:
    return next(run for runs in groups.values() for run in runs)


def _measured(groups: Groups, seed: int, device: str, progress: bool) -> dict[str, list[Found | None]]:
    """Return the evidence of every run; None for one that diverged."""
    every = [(name, run) for name, runs in groups.items() for run in runs]
    if all(run.diverged for _, run in every):
        raise DropkitError("every training diverged: there is no network to measure. Train with a lower --lr")
    pictures: Pictures = load_pictures(_some(groups), progress=progress)
    found: dict[str, list[Found | None]] = {name: [] for name in groups}
    for number, (name, run) in enumerate(every, start=1):
        if progress and len(every) > 1:
            say(f"run {number} of {len(every)}: {name}, seed {run.config.seed}")
        options: dict[str, Any] = {"seed": seed, "device": device, "progress": progress, "pictures": pictures}
        found[name].append(None if run.diverged else measure(run, **options))
    return found


def _record(
    found: Mapping[str, Sequence[Found | None]],
    groups: Groups,
    undertrained: set[str],
    *,
    seed: int,
    device: str,
    seconds: float,
) -> dict[str, Any]:
    """Return what `evidence.json` holds."""
    runs = [run for each in found.values() for run in each if run is not None]
    finished = [run for each in groups.values() for run in each if not run.diverged]
    policies = compared(found, shared=shared_pictures(finished), undertrained=undertrained)
    return {
        "kind": "evidence",
        "environment": describe_environment(pick_device(device), torch.float32),
        "seed": seed,
        "pictures": runs[0]["pictures"],
        "of": runs[0]["of"],
        "halves": HALVES,
        "draws": DRAWS,
        "folds": any(run.config.fold is not None for run in finished),
        "policies": policies,
        "runs": [
            {"name": name, **without_pictures(run)} for name, each in found.items() for run in each if run is not None
        ],
        "seconds": seconds,
    }
