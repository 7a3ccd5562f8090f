"""The folder of a search: whose it is, and the command that made it."""

import dataclasses
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dropkit.data.pictures import Pictures
from dropkit.errors import DropkitError
from dropkit.files import make_folder, read_record, write_json
from dropkit.runs.config import TrainConfig, safe_name, short_hash
from dropkit.runs.record import RunFolder, refuse_other_fields
from dropkit.runs.run import changed_options
from dropkit.studies.space import Space
from dropkit.studies.storage import FILE, shown_url

DEFAULT_TRIALS = 30
_STATE = ("trials", "fingerprint")


class SearchFolder:
    """The folder of a search: whose it is.

    Args:
        base: the training.
        asked: what else decides what the search is.
        out: where it was told to be.
    """

    def __init__(self, base: TrainConfig, asked: dict[str, Any], out: str | Path | None) -> None:
        self.base, self.asked = base, asked
        apart = {name: value for name, value in base.identity().items() if name != "dropout"}
        self.identity = {**apart, **asked}
        name = f"{Path(base.data).stem}-{base.model_name}-tune-{short_hash(self.identity)}"
        self.path = Path(out) if out is not None else Path("studies") / safe_name(name)
        self.file = self.path / "search.json"

    @property
    def begun(self) -> bool:
        """Whether it holds a search."""
        return self.file.is_file()

    def refuse_other(self) -> None:
        """Raise if it holds another search, or something else."""
        if self.begun:
            stored = {name: value for name, value in read_record(self.file).items() if name not in _STATE}
            refuse_other_fields("search", self.path, stored, self.identity)
        elif not self._is_new():
            RunFolder(self.path).require_same(self.base)  # refuses whatever is there

    def _is_new(self) -> bool:
        """Whether nothing is there but what a search leaves that was stopped as it began."""
        names = [] if not self.path.is_dir() else [child.name for child in self.path.iterdir()]
        return bool(names) and all(name.startswith((FILE, ".")) for name in names)

    def refuse_other_pictures(self, pictures: Pictures) -> None:
        """Raise if the search saw other pictures."""
        if self.begun and read_record(self.file)["fingerprint"] != pictures.fingerprint:
            raise DropkitError(
                f"the search in {str(self.path)!r} saw other pictures than {self.base.data!r} holds now: restore them, "
                f"or give a new folder with --out"
            )

    def trials(self, asked: int | None, most: int) -> int:
        """Return how many trials there are; a search that goes on keeps its number.

        Args:
            asked: the number that was asked for, if any.
            most: how many different ones there are.
        """
        if not self.begun:
            return min(asked or DEFAULT_TRIALS, most)
        stored = int(read_record(self.file)["trials"])
        if asked not in (None, stored):
            raise DropkitError(
                f"the search in {str(self.path)!r} has {stored} trials, and which are stopped early depends on their "
                f"number: ask for as many, or give a new folder with --out"
            )
        return stored

    def note(self, trials: int, pictures: Pictures) -> None:
        """Note that the search has begun."""
        if not self.begun:
            make_folder(self.path)
            write_json(self.file, {**self.identity, "trials": trials, "fingerprint": pictures.fingerprint})

    def fingerprint(self, trials: int, space: Space, pictures: Pictures) -> str:
        """Return what tells this search from any other one, for optuna's storage."""
        state = {"trials": trials, "fingerprint": pictures.fingerprint, "space": space.to_json()}
        return json.dumps({**self.identity, **state}, sort_keys=True)

    def command(self, trials: int, storage: str | None, seeds: int | None) -> str:
        """Return the command that makes the search."""
        plain = dataclasses.replace(self.base, seed=0, out=None, threads=None)
        words = ["dropkit", "tune", plain.data, *changed_options(plain), "--trials", str(trials)]
        for name, value in self.asked.items():
            if value is not None and (name, value) != ("metric", "error"):
                words += [f"--{name.replace('_', '-')}", value]
        words += ["--seeds", str(seeds)] if seeds else []
        words += ["--first-seed", str(self.base.seed)] if self.base.seed else []
        words += ["--storage", shown_url(storage)] if storage else []
        return shlex.join([*words, "--out", str(self.path)])


def listed(values: Sequence[Any] | None) -> str | None:
    """Return values as an option has them, separated by commas; None where none are given."""
    return None if values is None else ",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)
