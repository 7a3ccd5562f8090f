"""One training, from its config to its record on disk; unfinished ones go on, finished ones are read."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.errors import DropkitError
from dropkit.files import read_json
from dropkit.runs.checkpoint import load_checkpoint, read_tensors, save_checkpoint
from dropkit.runs.config import TrainConfig
from dropkit.runs.display import Display, training_display
from dropkit.runs.environment import describe_environment
from dropkit.runs.fitting import DivergedError, Fit, build_model
from dropkit.runs.interrupts import deferred_interrupt
from dropkit.runs.metrics import ece, error, nll
from dropkit.runs.pictures import Pictures, load
from dropkit.runs.record import RunFolder
from dropkit.runs.split import Split, make_split


@dataclass(frozen=True)
class Run:
    """A finished training and what is known of it.

    Attributes:
        folder: where its files are.
        config: what it was told.
        summary: the outcome: best epoch, test, validation and training figures, gap, seconds.
        epochs: the metrics of each epoch.
        repeated: True when the run had been finished before and was only read.
    """

    folder: Path
    config: TrainConfig
    summary: dict[str, Any]
    epochs: list[dict[str, Any]]
    repeated: bool = False

    @property
    def diverged(self) -> bool:
        """Whether the loss stopped being a number."""
        return bool(self.summary["status"] == "diverged")

    @property
    def page(self) -> Path:
        """The run's page; a run that belongs to a study has none of its own."""
        return self.folder / "report.html"

    def test_predictions(self) -> tuple[Tensor, Tensor]:
        """Return (logits [n, classes], labels [n]) of the test pictures."""
        stored = RunFolder(self.folder).read_test()
        return stored["logits"], stored["labels"]

    def model(self) -> nn.Module:
        """Return the network with the weights of the best epoch, on the CPU, in eval mode."""
        model = build_model(self.config, load(self.config.data))
        model.load_state_dict(read_tensors(RunFolder(self.folder).model)[0])
        return model.eval()

    def __str__(self) -> str:
        """Say how it went, in a line or two."""
        return describe_outcome(self.summary, str(self.folder))


def train(
    config: TrainConfig,
    *,
    progress: bool = True,
    page: bool = True,
    data: tuple[Pictures, Split] | None = None,
) -> Run:
    """Train a network with dropout on pictures, evaluate it, and keep everything about it in a folder.

    The same config on its own unfinished folder goes on where it was stopped, with weights bit-equal to those of a
    training that was never stopped (same machine, versions and thread count); on its finished folder it is only read.

    Args:
        config: what to train, and how.
        progress: show progress on standard error.
        page: write the run's page, report.html, into its folder.
        data: the pictures and their split where the caller has them loaded already.

    Returns:
        The run: its summary, its metrics, its folder.

    Raises:
        DropkitError: if the data, the network, the policy or the folder cannot be used. Nothing has been written then.

    Example:
        >>> import tempfile
        >>> config = TrainConfig(data="digits", model="mlp", epochs=1, out=tempfile.mkdtemp())
        >>> train(config, progress=False).summary["epochs"]
        1
    """
    folder = RunFolder(config.folder())
    folder.require_same(config)
    if folder.finished:
        return read_run(folder.path, repeated=True)
    with computing_threads(config.threads):
        pictures, split = data if data is not None else load_data(config)
        fit = Fit(config, pictures, split)
        environment = describe_environment(fit.device, fit.dtype)
        _begin_or_resume(folder, fit, environment, split.to_json(pictures))
        with training_display(config.epoch_limit, show=progress) as display:
            failure = _run_epochs(folder, fit, display)
        _finish(folder, fit, failure)
    run = read_run(folder.path)
    if page:
        from dropkit.report.page import (
            write_page,  # plotly takes its time to import, and processes of a study need none
        )

        write_page(page_record(run), run.page)
    return run


def load_data(config: TrainConfig) -> tuple[Pictures, Split]:
    """Return the pictures that a config names, and their split."""
    pictures = load(config.data)
    return pictures, make_split(pictures, seed=config.split_seed, max_train=config.max_train)


def read_run(path: Path, *, repeated: bool = False) -> Run:
    """Return the finished run in a folder.

    Raises:
        DropkitError: if there is none.
    """
    folder = RunFolder(path)
    if not folder.finished:
        raise DropkitError(f"the folder {str(path)!r} holds no finished run")
    stored = read_json(folder.config)
    known = {field.name for field in fields(TrainConfig)}
    config = TrainConfig(**{name: value for name, value in stored.items() if name in known})
    return Run(path, config, read_json(folder.summary), folder.read_metrics(), repeated)


def _begin_or_resume(folder: RunFolder, fit: Fit, environment: dict[str, Any], split: dict[str, Any]) -> None:
    if not folder.begun:
        folder.begin(fit.config, environment, split)
        return
    if read_json(folder.split) != split:
        raise DropkitError(
            f"the pictures of {fit.config.data!r} have changed since the run in {str(folder.path)!r} began: "
            f"restore them, or give a new folder with --out"
        )
    before = read_json(folder.environment)
    changed = [name for name in ("torch", "cpu", "threads", "device", "precision") if before[name] != environment[name]]
    if changed:
        details = ", ".join(f"{name} {before[name]} then, {environment[name]} now" for name in changed)
        _say(f"note: going on under other conditions ({details}): weights will agree to rounding, not to the bit")
    if folder.checkpoint.is_file():
        fit.best, progress = load_checkpoint(folder.checkpoint, fit.model, fit.optimizer)
        vars(fit.progress).update(progress)
        fit.best = {name: value.to(fit.device) for name, value in fit.best.items()}
    fit.progress.rows = folder.keep_metrics(fit.progress.epoch)
    _say(f"going on after epoch {fit.progress.epoch} in {folder.path}")


def _run_epochs(folder: RunFolder, fit: Fit, display: Display) -> DivergedError | None:
    """Train until the budget or patience is used up; return the failure when the loss stopped being a number."""
    while not fit.finished():
        try:
            row = fit.run_epoch(display.step)
        except DivergedError as failure:
            return failure
        with deferred_interrupt():
            folder.append_metrics(row)
            progress = {name: value for name, value in asdict(fit.progress).items() if name != "rows"}
            save_checkpoint(folder.checkpoint, fit.model, fit.best, fit.optimizer, progress)
        display.epoch(row)
    return None


def _finish(folder: RunFolder, fit: Fit, failure: DivergedError | None) -> None:
    summary: dict[str, Any] = {
        "status": "finished" if failure is None else "diverged",
        "reason": None if failure is None else str(failure),
        "epochs": fit.progress.epoch,
        "best_epoch": fit.progress.best_epoch or None,
        "budget": fit.config.epoch_limit,
        "steps": fit.progress.step,
        "seconds": fit.progress.seconds,
        "parameters": sum(p.numel() for p in fit.model.parameters()),
        "data": _describe_data(fit),
        "train": None,
        "val": None,
        "test": None,
        "gap": None,
    }
    test = None
    if fit.best:
        fit.model.load_state_dict(fit.best)
        test = {"logits": fit.predict(fit.data.test), "labels": fit.data.labels[fit.data.test.to(fit.device)].cpu()}
        best_row = fit.progress.rows[fit.progress.best_epoch - 1]
        summary["train"] = {"loss": best_row["train_loss"], "error": best_row["train_error"]}
        summary["val"] = {"loss": best_row["val_loss"], "error": best_row["val_error"]}
        summary["gap"] = best_row["val_loss"] - best_row["train_loss"]
        summary["test"] = test_figures(test["logits"], test["labels"])
    with deferred_interrupt():
        folder.finish(summary, fit.best, test)


def test_figures(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return error (fraction), NLL (nats) and expected calibration error of predictions on the test pictures."""
    outputs, truth = logits.double().numpy(), labels.numpy()
    return {"error": error(outputs, truth), "nll": nll(outputs, truth), "ece": ece(outputs, truth), "n": len(truth)}


def _describe_data(fit: Fit) -> dict[str, Any]:
    data = fit.data
    return {
        "name": fit.pictures.name,
        "pictures": len(fit.pictures),
        "classes": fit.pictures.classes,
        "train": len(data.train),
        "val": len(data.val),
        "test": len(data.test),
        "shape": list(fit.pictures.shape),
    }


def page_record(run: Run) -> dict[str, Any]:
    """Return what the page of a single run shows."""
    return {
        "kind": "run",
        "dropkit": read_json(RunFolder(run.folder).environment)["dropkit"],
        "data": run.summary["data"],
        "config": asdict(run.config),
        "environment": read_json(RunFolder(run.folder).environment),
        "command": train_command(run.config),
        "seconds": run.summary["seconds"],
        "policy": run.config.dropout,
        "summary": run.summary,
        "epochs": run.epochs,
    }


def train_command(config: TrainConfig) -> str:
    """Return the command that does the training again: the options that differ from their defaults."""
    words = ["dropkit", "train", config.data]
    for option in fields(config):
        value = getattr(config, option.name)
        if option.name != "data" and value != option.default:
            words += [f"--{option.name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def describe_outcome(summary: dict[str, Any], folder: str) -> str:
    """Return how a run went, in a few plain lines."""
    lines = []
    if summary["status"] == "diverged":
        lines.append(
            f"Stopped: {summary['reason']}. Try a lower --lr"
            + (f"; the model of epoch {summary['best_epoch']} is kept." if summary["best_epoch"] else ".")
        )
    if summary["test"] is not None:
        test = summary["test"]
        lines.append(
            f"test error {test['error']:.2%}, NLL {test['nll']:.3f}, ECE {test['ece']:.3f} on {test['n']:,} pictures; "
            f"gap {summary['gap']:+.3f} (validation loss minus training loss, both in eval mode)"
        )
        lines.append(f"best epoch {summary['best_epoch']} of {summary['epochs']}, {summary['seconds']:.0f} s")
    lines.append(f"kept in {folder}")
    return "\n".join(lines)


@contextmanager
def computing_threads(count: int | None) -> Iterator[None]:
    """Compute with `count` CPU threads inside the block."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201
