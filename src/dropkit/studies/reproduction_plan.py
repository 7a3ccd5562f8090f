"""The trainings of a reproduction: where they and their pictures are kept, which are missing, how long they take."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dropkit.data.counting import counting
from dropkit.data.pictures import Pictures
from dropkit.data.split import Split
from dropkit.errors import DropkitError
from dropkit.files import make_folder, read_record, write_atomic, write_json
from dropkit.runs.config import TrainConfig, safe_name
from dropkit.runs.display import duration
from dropkit.runs.record import RunFolder
from dropkit.runs.run import Run, read_run
from dropkit.runs.training import say
from dropkit.studies.display import watch
from dropkit.studies.estimate import estimate
from dropkit.studies.executor import Executor
from dropkit.studies.recipes.data_sources import drawn, find, same_arrays
from dropkit.studies.recipes.recipe import Recipe

CONFIG = "reproduction-config.json"

Data = tuple[Pictures, Split]


class ReproductionPlan:
    """The trainings of one recipe, and where they are kept.

    reproduction-config.json    what is made again, with how many seeds
    data/                       the pictures that the recipe takes, a file a source
    runs/                       a folder for each training
    measured/                   what is measured of them and takes its time
    reproduction.json           what came out
    report.html                 its page

    Args:
        recipe: what is trained.
        out: the folder; a name made of the recipe's when not given.
    """

    def __init__(self, recipe: Recipe, out: str | Path | None = None) -> None:
        self.recipe = recipe
        named = f"{recipe.paper}-{recipe.table}-{recipe.budget}"
        self.folder = Path("reproductions") / safe_name(named) if out is None else Path(out)
        self.seeds = recipe.seeds

    @property
    def begun(self) -> bool:
        """Whether the folder holds a reproduction."""
        return self._config_file.is_file()

    @property
    def _config_file(self) -> Path:
        return self.folder / CONFIG

    def identity(self) -> dict[str, Any]:
        """Return what decides the result, except how many seeds there are."""
        trainings = self.recipe.trainings()
        names = ("paper", "table", "budget")
        pictures = {name: [sizes.train, sizes.val] for name, sizes in self.recipe.pictures.items()}
        return {
            **{name: getattr(self.recipe, name) for name in names},
            "pictures": pictures,
            "trainings": {name: config.identity() for name, config in trainings.items()},
        }

    def refuse_other(self) -> None:
        """Raise if the folder holds another reproduction or something else.

        Raises:
            DropkitError: saying what is there, and what to do.
        """
        if not self.begun:
            if (self.folder / "study-config.json").is_file():
                raise DropkitError(f"the folder {str(self.folder)!r} holds a study: give another one with --out")
            if RunFolder(self.folder).begun:
                raise DropkitError(f"the folder {str(self.folder)!r} holds a single run: give another one with --out")
            RunFolder(self.folder).require_same(next(iter(self.recipe.trainings().values())))  # or anything else
            return
        stored, wanted = read_record(self._config_file), self.identity()
        for name in ("paper", "table", "budget"):
            if stored.get(name) != wanted[name]:
                raise DropkitError(
                    f"the folder {str(self.folder)!r} holds another reproduction: {name} is {stored.get(name)!r} "
                    f"there and {wanted[name]!r} here. Give a new folder with --out"
                )
        if any(stored.get(name) != wanted[name] for name in ("pictures", "trainings")):
            raise DropkitError(
                f"the reproduction in {str(self.folder)!r} was begun with another recipe of {wanted['table']} than "
                f"this version of dropkit has: give a new folder with --out"
            )

    def settle_seeds(self, seeds: int | None) -> None:
        """Decide how many trainings each row has: those asked for, those begun with, or the recipe's.

        Raises:
            DropkitError: if fewer are asked for than were begun.
        """
        stored = int(read_record(self._config_file).get("seeds", 0)) if self.begun else 0
        if seeds is not None and seeds < stored:
            raise DropkitError(
                f"the reproduction in {str(self.folder)!r} was begun with {stored} seeds: ask for as many or more, or "
                f"give a new folder with --out"
            )
        self.seeds = seeds or stored or self.recipe.seeds

    def prepare(self, data: str | Path | None, *, progress: bool = True) -> None:
        """Draw the recipe's pictures from their sources and keep them; nothing is written before all are there.

        Args:
            data: the folder of the sources, as `data_sources.find` takes it. A reproduction that has its pictures
                reads it only where one is given, to see that it holds the same.
            progress: say where the pictures come from.

        Raises:
            DropkitError: if a source is not there, or holds other pictures than those that were trained on.
        """
        made = {
            name: drawn(name, find(name, data, progress=progress), sizes)
            for name, sizes in self.recipe.pictures.items()
            if data is not None or not self.pictures_file(name).is_file()
        }
        for name, content in made.items():
            path = self.pictures_file(name)
            if path.is_file() and not same_arrays(path, content):
                raise DropkitError(
                    f"the reproduction in {str(self.folder)!r} was begun with other pictures than {str(data)!r} "
                    f"holds: leave --data out to go on with those, or give a new folder with --out"
                )
        make_folder(self.folder)
        write_json(self._config_file, {**self.identity(), "seeds": self.seeds})
        for name, content in made.items():
            make_folder(self.pictures_file(name).parent)
            if not self.pictures_file(name).is_file():
                write_atomic(self.pictures_file(name), content)

    def pictures_file(self, source: str) -> Path:
        """Return where the pictures of a source are kept."""
        return self.folder / "data" / f"{source}.npz"

    def config(self, training: str, seed: int) -> TrainConfig:
        """Return a training of the recipe with its seed, its pictures and its folder."""
        config = self.recipe.trainings()[training]
        path, out = self.pictures_file(config.data), self.folder / "runs" / f"{training}-seed{seed}"
        return dataclasses.replace(config, data=str(path), seed=seed, out=str(out))

    def runs(self) -> list[TrainConfig]:
        """Return every training, seed by seed, so that a reproduction that is stopped has whole pairs."""
        return [self.config(name, seed) for seed in range(self.seeds) for name in self.recipe.trainings()]

    def missing(self) -> list[TrainConfig]:
        """Return the trainings that are not finished.

        Raises:
            DropkitError: if a run's folder holds another training.
        """
        for config in (runs := self.runs()):
            RunFolder(config.folder()).require_same(config)
        return [config for config in runs if not _finished(config)]

    def groups(self) -> dict[str, list[Run]]:
        """Return the finished runs of each training, by seed."""
        configs = {name: [self.config(name, seed) for seed in range(self.seeds)] for name in self.recipe.trainings()}
        return {name: [_read(config) for config in mine if _finished(config)] for name, mine in configs.items()}

    def train(self, data: Mapping[str, Data], executor: Executor, *, progress: bool) -> int:
        """Make the trainings that are missing; return how many there were.

        Args:
            data: the pictures and their split, by source.
            executor: what trains.
            progress: show progress on standard error.
        """
        missing = self.missing()
        if progress:
            say(self._forecast(missing, data, executor))
        names = {config.folder(): config.folder().name for config in missing}
        with watch(names, show=progress) as done:
            for source, (pictures, _) in data.items():
                mine = [config for config in missing if config.data == str(self.pictures_file(source))]
                for folder in executor.map(mine, pictures, self.folder):
                    done(folder)
        return len(missing)

    def _forecast(self, missing: Sequence[TrainConfig], data: Mapping[str, Data], executor: Executor) -> str:
        """Say how many trainings there are and about how long they take, from a few steps of each kind."""
        every = len(self.runs())
        if not missing:
            return f"all {_trainings(every)} are finished; the table is computed anew"
        seconds, kinds = 0.0, Counter(map(_kind, missing))
        with counting("timing a few steps of each training", len(kinds), show=True) as tick:
            for config, count in kinds.items():
                seconds += count * estimate(config, data[Path(config.data).stem], executor.threads).seconds
                tick(1)
        at_once = min(executor.workers, len(missing))
        kept = every - len(missing)
        before = f" ({kept} more are finished)" if kept else ""
        about = duration(executor.start_seconds + seconds / at_once)
        return f"{_trainings(len(missing))}{before}, about {about} ({at_once} at a time)"


def _finished(config: TrainConfig) -> bool:
    return RunFolder(config.folder()).finished


def _read(config: TrainConfig) -> Run:
    """Return a finished run, which finds its pictures where they are now: the folder may have been moved."""
    run = read_run(config.folder())
    return dataclasses.replace(run, config=dataclasses.replace(run.config, data=config.data, out=config.out))


def _kind(config: TrainConfig) -> TrainConfig:
    return dataclasses.replace(config, seed=0, out=None)


def _trainings(count: int) -> str:
    return f"{count} training{'' if count == 1 else 's'}"
