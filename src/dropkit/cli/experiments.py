"""Commands that train: train, compare, tune, reproduce."""

import json as json_module
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from rich.console import Console
from tyro.conf import FlagCreatePairsOff

from dropkit.cli.said import DONE, GOES_ON, INCOMPLETE, print_out
from dropkit.runs.config import TrainConfig
from dropkit.runs.torchrun import is_first
from dropkit.studies.config import CompareConfig, ReproduceConfig, TuneConfig


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
            print_out(json_module.dumps({"folder": str(run.folder), **run.summary}, indent=1))
            return
        if run.repeated:
            print_out("already finished; nothing was trained:")
        print_out(str(run))
        print_out(f"page: {run.page}")


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
        print_out(json_module.dumps(study.record, indent=1))
    else:
        study.print(Console())
        print_out(f"\npage: {study.page}")
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
class ReproduceCommand(ReproduceConfig):
    """Train what a table or a figure of a paper was trained from, and hold ours beside the paper's.

    The same command goes on where it was stopped, and repeats no finished training.
    """

    stopped: ClassVar[str] = GOES_ON

    json: FlagCreatePairsOff[bool] = False
    """Print the reproduction's record as JSON on standard output."""

    def run(self) -> int:
        """Train, compare with the paper, and say what came out; return the exit code."""
        from dropkit.studies.reproduce import reproduce

        made = reproduce(
            self.paper,
            self.table,
            budget=self.budget,
            data=self.data,
            seeds=self.seeds,
            out=self.out,
            **self.execution(),
        )
        if self.json:
            print_out(json_module.dumps(made.record, indent=1))
        else:
            made.print(Console())
            print_out(f"\npage: {made.page}")
        return INCOMPLETE if made.diverged else DONE
