"""A run on disk: config, environment, split, metrics, checkpoint, weights, predictions, summary. No pickle.

config.json             every option, as given
environment.json        versions, hardware, revision
split.json              which picture is in which split
metrics.jsonl           one line an epoch
checkpoint.safetensors  everything needed to go on; removed when the run is finished, as is the one before it
model.safetensors       the weights of the best epoch
test.safetensors        logits [n, classes] and labels [n] of the test pictures
summary.json            the outcome; its presence says that the run is finished
details.json            what the page shows beside: confusion, calibration, filters, mistakes
uncertainty.json        what `dropkit uncertainty` measured, once it was run
evidence.json           what `dropkit evidence` measured, once it was run
features/               with --pretrained: the frozen network's weights and the pictures' features
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from dropkit.callables import code_of
from dropkit.errors import DropkitError
from dropkit.files import AGAIN, append_line, make_folder, read_record, write_atomic, write_json
from dropkit.models.zoo_names import code_of_network
from dropkit.runs.checkpoint import previous_of, read_tensors, write_tensors
from dropkit.runs.config import HOW_FIELDS, TrainConfig, default_fields


class RunFolder:
    """The files of one run.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.environment = path / "environment.json"
        self.split = path / "split.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoint = path / "checkpoint.safetensors"
        self.model = path / "model.safetensors"
        self.test = path / "test.safetensors"
        self.summary = path / "summary.json"
        self.details = path / "details.json"
        self.uncertainty = path / "uncertainty.json"
        self.evidence = path / "evidence.json"
        self.features = path / "features"

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        return self.summary.is_file()

    @property
    def begun(self) -> bool:
        """Whether the folder holds a run."""
        return self.config.is_file()

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return self.checkpoint.is_file() or previous_of(self.checkpoint).is_file()

    def remove_checkpoints(self) -> None:
        """Remove what a finished run needs no more."""
        for path in (self.checkpoint, previous_of(self.checkpoint)):
            path.unlink(missing_ok=True)

    def require_same(self, config: TrainConfig) -> None:
        """Refuse a folder that holds another run, or something else.

        Raises:
            DropkitError: naming the fields that differ, or what is in the way.
        """
        if self.begun:
            refuse_other_fields("run", self.path, read_record(self.config), config.identity())
            self.require_same_code(config)
        elif self.path.is_dir() and any(self._foreign(child.name) for child in self.path.iterdir()):
            raise DropkitError(
                f"the folder {str(self.path)!r} holds something else: give an empty or new one with --out"
            )
        elif self.path.exists() and not self.path.is_dir():
            raise DropkitError(f"{str(self.path)!r} is a file: give a folder with --out")

    def require_same_code(self, config: TrainConfig) -> None:
        """Refuse to go on with functions of the user's own that have changed since.

        Raises:
            DropkitError: naming the function.
        """
        environment = read_record(self.environment)
        for option, given, code in own_code(config):
            before = environment.get(f"{option}_code")
            if before is not None and before != code:
                raise DropkitError(
                    f"the code of {given!r} has changed since the run in {str(self.path)!r} began: restore it, or "
                    "give a new folder with --out"
                )

    def _foreign(self, name: str) -> bool:
        """Whether a file is none of those that stand in a folder when `begin` is stopped before its end."""
        return not (name.startswith(".") or name in (self.split.name, self.environment.name, self.features.name))

    def begin(self, config: TrainConfig, environment: dict[str, Any], split: dict[str, Any]) -> None:
        """Create the folder. The config comes last: its presence says that the others are there."""
        make_folder(self.path)
        write_json(self.split, split)
        write_json(self.environment, environment)
        write_json(self.config, dataclasses.asdict(config))

    def remove_parts(self) -> None:
        """Remove what a killed process left half written."""
        for part in self.path.glob(".*.part"):
            part.unlink(missing_ok=True)

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add an epoch's line."""
        append_line(self.metrics, json.dumps(row, allow_nan=False))

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the epochs' lines; a last line that was cut off by a crash is left out."""
        if not self.metrics.is_file():
            return []
        rows = []
        for line in self.metrics.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                break
            if not isinstance(row, dict):
                break
            rows.append(row)
        return rows

    def keep_metrics(self, epochs: int, known: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
        """Bring the lines to where the checkpoint is, which a crash may have left behind them; return them.

        Args:
            epochs: of the checkpoint.
            known: what the checkpoint knows of them; None where it is of a version that kept nothing of them.

        Raises:
            DropkitError: if lines are missing.
        """
        rows = self.read_metrics()[:epochs] if known is None else known
        if [row.get("epoch") for row in rows] != [*range(1, epochs + 1)]:
            raise DropkitError(
                f"{self.metrics} is damaged (it has not the {epochs} epochs of the checkpoint): restore it, or delete "
                f"its folder and run the command again"
            )
        write_atomic(self.metrics, "".join(json.dumps(row) + "\n" for row in rows).encode())
        return rows

    def finish(self, summary: dict[str, Any], best: dict[str, Tensor], test: dict[str, Tensor] | None) -> None:
        """Write the outcome. The summary comes last: its presence says that the others are there."""
        if best:
            write_tensors(self.model, best)
        if test is not None:
            write_tensors(self.test, test)
        write_json(self.summary, summary)
        self.remove_checkpoints()

    def read_test(self) -> dict[str, Tensor]:
        """Return {"logits": [n, classes], "labels": [n]} of the test pictures."""
        stored = read_tensors(self.test)[0]
        if set(stored) != {"logits", "labels"} or stored["logits"].shape[:1] != stored["labels"].shape:
            raise DropkitError(f"{self.test} is damaged (it holds no predictions): {AGAIN}")
        return stored


def own_code(config: TrainConfig) -> list[tuple[str, str | None, str | None]]:
    """Return (option, what it was given, hash of the code behind it) of every option that may name a function.

    Raises:
        DropkitError: if a function cannot be imported.
    """
    return [
        ("augment", config.augment, code_of("augment", config.augment)),
        ("model", config.model, code_of_network(config.model)),
    ]


def refuse_other_fields(what: str, folder: Path, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise if a stored config and the wanted one differ in a field that decides the result.

    Where the data are does not count: whether they are the same is told by their content.

    Raises:
        DropkitError: naming each such field with both values.
    """
    defaults = {"folds": None, **default_fields()}
    plain = json.loads(json.dumps({"stored": stored, "wanted": wanted}))  # tuples become lists, as they did on disk
    # A field that only one of the two names has its default in the other.
    names = [name for name in {**wanted, **stored} if name in wanted or name in defaults]
    pairs = {name: [plain[which].get(name, defaults.get(name)) for which in ("stored", "wanted")] for name in names}
    differing = [name for name, (there, here) in pairs.items() if there != here and name not in {"data", *HOW_FIELDS}]
    if differing:
        details = "; ".join(f"{name} is {pairs[name][0]!r} there and {pairs[name][1]!r} here" for name in differing)
        raise DropkitError(f"the folder {str(folder)!r} holds another {what}: {details}. Give a new folder with --out")
