"""A search: trials that optuna draws, thinned out by successive halving."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dropkit.data.pictures import Pictures
from dropkit.errors import DropkitError
from dropkit.runs.config import TrainConfig, safe_name, short_hash
from dropkit.runs.record import RunFolder
from dropkit.runs.run import read_run
from dropkit.runs.training import say
from dropkit.studies.arms import arm_names
from dropkit.studies.display import watch
from dropkit.studies.executor import Executor
from dropkit.studies.halving import best_third, generations, rungs
from dropkit.studies.space import Space
from dropkit.studies.storage import Storage

if TYPE_CHECKING:
    from optuna import Trial as OptunaTrial


@dataclass
class Trial:
    """One policy that a search tried.

    Attributes:
        number: in the search; the policies that are always tried come first.
        config: its training.
        policy: what it is called: the dropout, and the weight decay where that is not the search's own.
        params: what was chosen; None for a policy outside the space.
        drawn: optuna's trial; None for a policy outside the space.
        scores: what it was judged by at each rung, by epoch.
        rows: its epochs.
        status: running, finished, stopped or diverged.
    """

    number: int
    config: TrainConfig
    policy: str
    params: dict[str, Any] | None
    drawn: "OptunaTrial | None" = None
    scores: dict[int, float] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    status: str = "running"

    @property
    def folder(self) -> Path:
        """Where it is kept; trials that are the same share it."""
        return self.config.folder()

    @property
    def best(self) -> dict[str, Any]:
        """The epoch with the lowest validation loss; empty where there is none."""
        return min(self.rows, key=lambda row: float(row["val_loss"]), default={})

    @property
    def loss(self) -> float:
        """The lowest validation loss, in nats; infinite where it diverged."""
        return float(self.best["val_loss"]) if self.rows and self.status != "diverged" else math.inf

    def to_json(self) -> dict[str, Any]:
        """Return the trial as plain JSON."""
        best = self.best
        return {
            "number": self.number,
            "policy": self.policy,
            "params": self.params,
            "status": self.status,
            "epochs": len(self.rows),
            "seconds": float(self.rows[-1]["seconds"]) if self.rows else 0.0,
            "best_epoch": best.get("epoch"),
            "val_loss": best.get("val_loss"),
            "val_error": best.get("val_error"),
            "train_loss": best.get("train_loss"),
            "gap": best["val_loss"] - best["train_loss"] if best else None,
            "curve": [row["val_loss"] for row in self.rows],
            "scores": {str(epoch): score for epoch, score in self.scores.items() if math.isfinite(score)},
            "folder": f"{self.folder.parent.name}/{self.folder.name}",
        }


class Search:
    """The trainings of a search.

    Args:
        base: a training whose seed is the search's.
        space: what may be chosen.
        count: of the trials, those that are always made among them.
        epochs: of a whole training, about.
        folder: of the study; the trials are kept in `trials/` in it.
        executor: what trains.
        storage: where optuna keeps the trials.
        progress: show progress on standard error.
    """

    def __init__(
        self,
        base: TrainConfig,
        space: Space,
        *,
        count: int,
        epochs: int,
        folder: Path,
        executor: Executor,
        storage: Storage,
        progress: bool = True,
    ) -> None:
        self.base, self.space, self.count, self.epochs = base, space, count, epochs
        self.folder, self.executor, self.storage, self.progress = folder, executor, storage, progress
        self.trials: list[Trial] = []
        self.finalists: list[Trial] = []  # the chosen ones that came to the end, from the lowest loss on

    def run(self, pictures: Pictures) -> None:
        """Make every trial; the finalists are then there.

        Raises:
            DropkitError: if none was left: every one diverged.
        """
        self._train_references(pictures)
        sizes = [len(places) for places in generations(self.count - len(self.trials))]
        for index, size in enumerate(sizes, 1):
            generation = [self._draw() for _ in range(size)]
            self._halve(generation, pictures, f"generation {index} of {len(sizes)}")
            best = min(self.trials, key=lambda trial: trial.loss)
            if self.progress and math.isfinite(best.loss):
                say(
                    f"search {index}/{len(sizes)}: {len(self.trials)} policies tried; lowest validation loss so far "
                    f"{best.loss:.3f} with {best.policy}"
                )
        self.finalists.sort(key=lambda trial: (trial.loss, trial.number))
        if not self.finalists or not math.isfinite(self.finalists[0].loss):
            raise DropkitError(
                f"no trial that the search chose came to its end, because all diverged: try a lower --lr than "
                f"{self.base.learning_rate:g}, in a new folder. The records are kept in {str(self.folder)!r}"
            )

    def trained(self) -> list[list[dict[str, Any]]]:
        """Return the epochs of every training that the search has made."""
        folders = dict.fromkeys(trial.folder for trial in self.trials)
        return [RunFolder(folder).read_metrics() for folder in folders]

    def _train_references(self, pictures: Pictures) -> None:
        """Train to the end what is always tried."""
        for policy, params in self.space.references():
            drawn = None if params is None else self.storage.trial(self._known, self.space, params)
            self._add(dataclasses.replace(self.base, dropout=policy), params, drawn)
        self._end(self.trials, pictures, "always tried")

    def _draw(self) -> Trial:
        drawn = self.storage.trial(self._known, self.space)
        return self._add(self.space.config(self.base, drawn.params), dict(drawn.params), drawn)

    @property
    def _known(self) -> int:
        """How many trials optuna knows."""
        return sum(trial.drawn is not None for trial in self.trials)

    def _add(self, config: TrainConfig, params: dict[str, Any] | None, drawn: "OptunaTrial | None") -> Trial:
        name = policy_name(self.base, config)
        # A long name is cut where a file's name has to end.
        folder = self.folder / "trials" / f"{safe_name(name)[:60]}-{short_hash({'policy': name})}"
        trial = Trial(len(self.trials), dataclasses.replace(config, out=str(folder)), name, params, drawn)
        self.trials.append(trial)
        return trial

    def _halve(self, generation: Sequence[Trial], pictures: Pictures, what: str) -> None:
        """Train a generation, stop those that fall behind, and train those that are left to the end."""
        alive = list(generation)
        for rung in rungs(self.epochs):
            self._advance([trial.config for trial in alive], rung, pictures, what)
            for trial in alive:
                # A search that is repeated finds more epochs than it asks for: what it decides is decided by these.
                trial.rows = RunFolder(trial.folder).read_metrics()[:rung]
                trial.status = "diverged" if _diverged(trial.folder) else "running"
                trial.scores[rung] = _score(trial, rung)
            kept = set(best_third({trial.number: trial.scores[rung] for trial in alive}))
            for trial in alive:
                if trial.number not in kept:
                    self._close(trial, "stopped" if trial.status == "running" else trial.status)
            alive = [trial for trial in alive if trial.number in kept]
        self._end(alive, pictures, what)
        self.finalists += alive

    def _end(self, trials: Sequence[Trial], pictures: Pictures, what: str) -> None:
        """Train the trials to their end."""
        self._advance([trial.config for trial in trials], None, pictures, what)
        for trial in trials:
            run = read_run(trial.folder)
            trial.rows = run.epochs
            self._close(trial, "diverged" if run.diverged else "finished")

    def _close(self, trial: Trial, status: str) -> None:
        trial.status = status
        if trial.drawn is None:
            return
        told = trial.to_json()
        about = {name: told[name] for name in ("policy", "epochs", "seconds", "gap", "train_loss", "val_error")}
        value = {"stopped": None, "diverged": math.nan}.get(status, trial.loss)
        self.storage.tell(trial.drawn, trial.scores, value, about)

    def _advance(self, configs: Sequence[TrainConfig], until: int | None, pictures: Pictures, what: str) -> None:
        """Have the executor train what is not there yet."""
        wanted = {config.folder(): config for config in configs}
        for folder, config in wanted.items():
            RunFolder(folder).require_same(config)
        missing = {folder: config for folder, config in wanted.items() if not _is_there(folder, until)}
        there = "" if until is None else f" to epoch {until}"
        names = {folder: f"{what}, {policy_name(self.base, config)}{there}" for folder, config in missing.items()}
        with watch(names, show=self.progress) as done:
            for folder in self.executor.map(list(missing.values()), pictures, self.folder, until=until):
                done(folder)


def policy_name(base: TrainConfig, config: TrainConfig) -> str:
    """Return what a training of a search is called: as an arm of a comparison with `base` would be.

    Example:
        >>> base = TrainConfig(data="digits")
        >>> policy_name(base, dataclasses.replace(base, dropout="fc=0.5", weight_decay=1e-4))
        'fc=0.5;weight_decay=0.0001'
    """
    if config.weight_decay == base.weight_decay:
        return config.dropout
    if config.weight_decay == 0.0:  # the default of a field has no place in an arm's name, but here it is another one
        return f"{config.dropout};weight_decay=0"
    return arm_names([dataclasses.replace(base, dropout="none", seed=config.seed, out=config.out), config])[1]


def _is_there(folder: Path, until: int | None) -> bool:
    run = RunFolder(folder)
    if run.finished or until is None:
        return run.finished
    # The checkpoint is written after the epoch's line.
    return run.checkpoint.is_file() and len(run.read_metrics()) >= until


def _score(trial: Trial, rung: int) -> float:
    """Return what a trial is judged by at a rung; one that ended before, by itself, by its best epoch."""
    if trial.status == "diverged" or not trial.rows:
        return math.inf
    return float(trial.rows[-1]["val_loss"]) if len(trial.rows) == rung else trial.loss


def _diverged(folder: Path) -> bool:
    return RunFolder(folder).finished and read_run(folder).diverged
