"""What a folder holds, opened again: a study, a reproduction or a run, its page, its best run."""

from pathlib import Path
from typing import Any

from dropkit.errors import DropkitError
from dropkit.files import MADE_AGAIN, read_record
from dropkit.report.page import write_page
from dropkit.runs.details import lowest_validation
from dropkit.runs.record import RunFolder
from dropkit.runs.run import Run, read_run, write_run_page
from dropkit.runs.shapes import shown_as_damage
from dropkit.studies.study import Study


def rebuild_page(folder: str | Path) -> Path:
    """Write the page of a study, a reproduction or a run again, from the records in its folder, and return its path.

    Raises:
        DropkitError: if the folder holds none, or one that is not finished.

    Example:
        >>> import tempfile
        >>> from dropkit.runs.config import TrainConfig
        >>> from dropkit.runs.training import train
        >>> run = train(TrainConfig(data="digits", model="mlp", epochs=1, out=tempfile.mkdtemp()), progress=False)
        >>> rebuild_page(run.folder).name
        'report.html'
    """
    with shown_as_damage(Path(folder)):
        return _rebuilt(folder)


def _rebuilt(folder: str | Path) -> Path:
    reproduced = Path(folder) / "reproduction.json"
    if reproduced.is_file():
        return write_page(_reproduction(reproduced), reproduced.with_name("report.html"))
    opened = reopen(folder)
    if isinstance(opened, Run):
        return write_run_page(opened)
    # The first version's studies have no details, and evidence is measured where it is asked for.
    beside = {name: opened.folder / f"{name}.json" for name in ("details", "evidence")}
    seen = {name: read_record(path, MADE_AGAIN) for name, path in beside.items() if path.is_file()}
    return write_page({**opened.record, **seen}, opened.page)


def _reproduction(path: Path) -> dict[str, Any]:
    record = read_record(path)
    if record.get("kind") != "reproduction" or not record.get("rows"):
        raise DropkitError(f"{path} is damaged: run the reproduce command again")
    return record


def reopen(folder: str | Path) -> Study | Run:
    """Return the finished study or run that a folder holds.

    Raises:
        DropkitError: saying what is there instead.
    """
    path = Path(folder)
    if (path / "study.json").is_file():
        record = read_record(path / "study.json", "run the compare command again")
        if record.get("kind") != "study" or "recommendation" not in record:
            raise DropkitError(f"{path / 'study.json'} is damaged: run the compare command again")
        return Study(path, record)
    if RunFolder(path).finished:
        return read_run(path)
    raise DropkitError(f"{str(path)!r} {_what_else(path)}: give the folder of a finished study or run")


def _what_else(path: Path) -> str:
    """Say why nothing can be opened there."""
    if not path.exists():
        return "does not exist"
    if not path.is_dir():
        return "is a file"
    if (path / "study-config.json").is_file():
        return "holds a study that is not finished (the same compare command goes on with it)"
    if (path / "reproduction.json").is_file():
        return "holds a reproduction, whose networks are those of the runs in its folder runs"
    if (path / "reproduction-config.json").is_file():
        return "holds a reproduction that is not finished (the same reproduce command goes on with it)"
    if RunFolder(path).begun:
        return "holds a run that is not finished (the same train command goes on with it)"
    return "holds neither a study nor a run"


def best_run(folder: str | Path) -> Run:
    """Return the run to predict with: a run's folder means that run; a study's the recommended policy's run with the
    lowest validation loss.

    Raises:
        DropkitError: if there is none.
    """
    opened = reopen(folder)
    if isinstance(opened, Run):
        return opened
    policy = opened.recommendation["policy"]
    # By name inside the study: its folder may have been moved.
    places = [Path(folder) / run["folder"] for run in opened.record["runs"] if run["policy"] == policy]
    kept = [run for run in map(read_run, places) if not run.diverged]
    if not kept:
        raise DropkitError(f"every training of {policy!r} in the study {str(folder)!r} diverged: there is no model")
    return lowest_validation(kept)
