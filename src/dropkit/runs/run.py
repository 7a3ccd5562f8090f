"""A finished run: what is known of it, its model, its page."""

import shlex
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dropkit.errors import DropkitError
from dropkit.files import MADE_AGAIN, read_record
from dropkit.models.head import FrozenNetwork
from dropkit.runs.checkpoint import load_weights, read_tensors
from dropkit.runs.config import TrainConfig
from dropkit.runs.features import FeatureFolder, coloured
from dropkit.runs.fitting import build_head, build_model
from dropkit.runs.record import RunFolder
from dropkit.runs.shapes import EPOCH, NUMBER, SUMMARY, misfit, require


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
        """The run's page; a run that belongs to a study has none of its own until one is asked for."""
        return self.folder / "report.html"

    def test_predictions(self) -> tuple[Tensor, Tensor]:
        """Return (logits [n, classes], labels [n]) of the test pictures."""
        stored = RunFolder(self.folder).read_test()
        return stored["logits"], stored["labels"]

    def model(self) -> nn.Module:
        """Return the network with the weights of the best epoch, on the CPU, in eval mode; nothing is downloaded.

        It takes pictures as `summary["data"]` tells: normalised by its mean and std, with as many channels as these
        have.

        Raises:
            DropkitError: if the weights are not there, or the code of the user's own network has changed.
        """
        folder, config, data = RunFolder(self.folder), self.config, self.summary["data"]
        folder.require_same_code(config)
        shape = (data["shape"][0], data["shape"][1], data["shape"][2])
        if not config.pretrained:
            model = build_model(config, shape, data["classes"], download=False)
            load_weights(model, folder.model, config.model)
            return model.eval()
        head = build_head(config, read_tensors(folder.model)[0]["fc.weight"].shape[1], data["classes"])
        load_weights(head, folder.model, "head")
        features = FeatureFolder(self.folder / read_record(folder.environment)["features"], config.model)
        return FrozenNetwork(features.backbone(coloured(shape)), head).eval()

    def __str__(self) -> str:
        """Say how it went, in a line or two."""
        return describe_outcome(self.summary, str(self.folder))


def read_run(path: Path, *, repeated: bool = False) -> Run:
    """Return the finished run in a folder.

    Raises:
        DropkitError: if there is none.
    """
    folder = RunFolder(path)
    if not folder.finished:
        raise DropkitError(f"the folder {str(path)!r} holds no finished run")
    summary, epochs = read_record(folder.summary), folder.read_metrics()
    require(summary, SUMMARY, folder.summary, _contradiction)
    require(epochs, [EPOCH], folder.metrics)
    if [row["epoch"] for row in epochs] != [*range(1, summary["epochs"] + 1)]:
        raise DropkitError(f"{folder.metrics} is damaged (it has not the run's {summary['epochs']} epochs): restore it")
    return Run(path, _stored_config(folder), summary, epochs, repeated)


def _stored_config(folder: RunFolder) -> TrainConfig:
    stored = read_record(folder.config)
    require(stored, {"data": str, "dropout": str, "model": str}, folder.config)
    known = {field.name for field in fields(TrainConfig)}
    try:
        return TrainConfig(**{name: value for name, value in stored.items() if name in known})
    except DropkitError as refusal:
        raise DropkitError(f"{folder.config} is damaged ({refusal}): restore it, or train again") from None


def _contradiction(summary: dict[str, Any]) -> str | None:
    data = summary["data"]
    if len(data["class_names"]) != data["classes"]:
        return f"{data['classes']} classes have {len(data['class_names'])} names"
    if len(data["shape"]) != 3 or min(data["shape"]) < 1:
        return f"shape is {data['shape']}"
    if summary["test"] is not None and summary["gap"] is None:
        return "it has a test error and no gap"
    wrong = misfit((summary["test"] or {}).get("balanced_error", 0.0), NUMBER, "balanced_error")
    if wrong:
        return wrong
    if summary["status"] == "finished" and None in (summary["train"], summary["val"], summary["test"], summary["gap"]):
        return "it is finished and has no figures"
    return None


def write_run_page(run: Run) -> Path:
    """Write the run's page into its folder; return its path."""
    from dropkit.report.page import write_page  # plotly takes its time to import, and a study's processes need none

    return write_page(_page_record(run), run.page)


def _page_record(run: Run) -> dict[str, Any]:
    folder = RunFolder(run.folder)
    environment = read_record(folder.environment)
    return {
        "kind": "run",
        "dropkit": environment["dropkit"],
        "data": run.summary["data"],
        "config": effective(run.config),
        "environment": environment,
        "command": train_command(run.config),
        "seconds": run.summary["seconds"],
        "policy": run.config.dropout,
        "summary": run.summary,
        "epochs": run.epochs,
        "details": read_record(folder.details, MADE_AGAIN) if folder.details.is_file() else None,
        "uncertainty": read_record(folder.uncertainty, MADE_AGAIN) if folder.uncertainty.is_file() else None,
        "evidence": read_record(folder.evidence, MADE_AGAIN) if folder.evidence.is_file() else None,
    }


def effective(config: TrainConfig) -> dict[str, Any]:
    """Return the config's fields as they took effect, for people to read."""
    until = f"until {config.patience} without improvement" if config.epochs is None else config.epochs
    return {**asdict(config), "lr": config.learning_rate, "epochs": until}


def train_command(config: TrainConfig) -> str:
    """Return the command that does the training again: its policy, and the options that differ from their defaults."""
    return shlex.join(["dropkit", "train", config.data, "--dropout", config.dropout, *changed_options(config)])


def changed_options(config: TrainConfig) -> list[str]:
    """Return the options, other than the policy, that differ from their defaults."""
    words = []
    for option in fields(config):
        value = getattr(config, option.name)
        if option.name not in ("data", "dropout") and value != option.default:
            name = f"--{option.name.replace('_', '-')}"
            words += [name] if value is True else [name, str(value)]
    return words


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
            f"test error {test['error']:.2%}{_balanced(test)}, NLL {test['nll']:.3f}, "
            f"ECE {test['ece']:.3f} on {test['n']:,} pictures; "
            f"gap {summary['gap']:+.3f} (validation loss minus training loss, both in eval mode)"
        )
        lines.append(f"best epoch {summary['best_epoch']} of {summary['epochs']}, {summary['seconds']:.0f} s")
    lines.append(f"kept in {folder}")
    return "\n".join(lines)


def _balanced(test: dict[str, Any]) -> str:
    """Return the balanced error; nothing for a run of the first version, which did not keep it."""
    return f", balanced {test['balanced_error']:.2%}" if "balanced_error" in test else ""
