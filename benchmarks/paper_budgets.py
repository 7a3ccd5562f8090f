"""The tables of Srivastava et al. (2014) at the paper's size, a few minutes at a time: for a GPU; a CPU works, too.

    python benchmarks/paper_budgets.py DATA OUT [--table table-9 table-4] [--minutes 9] [--seeds N]

DATA is the folder of mnist.npz and cifar10.npz (or of CIFAR-10's parts), OUT holds a folder for each table. The script
trains as many epochs as fit into the minutes and ends; the same command goes on, in a copy of OUT elsewhere too. It
prints the rows and the marks of what is finished: those of all tables when nothing is left. Only dropkit's own
dependencies are needed. The exit code is 0 when everything is finished, and 3 while something is left.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.text import Text

import dropkit
from dropkit.errors import DropkitError
from dropkit.runs.config import TrainConfig
from dropkit.runs.display import duration
from dropkit.runs.environment import cpu_name
from dropkit.runs.record import RunFolder
from dropkit.runs.training import advance, load_data
from dropkit.studies.recipes.measures import Measuring
from dropkit.studies.recipes.recipe import Recipe
from dropkit.studies.recipes.registry import RECIPES, find_recipe
from dropkit.studies.reproduce import keep
from dropkit.studies.reproduction import Reproduction, mark_line
from dropkit.studies.reproduction_plan import Data, ReproductionPlan
from dropkit.studies.reproduction_record import reproduction_record

PAPER = "srivastava2014"
TABLES = ("table-9", "table-4", "table-10", "figure-8", "figure-11", "figure-9")  # what has marks comes first
PIECE_SECONDS = 45.0  # of training between two looks at the clock: each costs a start
START_SECONDS = 5.0  # about what a start takes: network and pictures to the device, the checkpoint read
LEFT = 3  # exit code while something is left


class Clock:
    """How much of the minutes is left.

    Args:
        minutes: that the script may take.
    """

    def __init__(self, minutes: float) -> None:
        self.end = time.monotonic() + 60 * minutes

    @property
    def left(self) -> float:
        """Seconds until the script is to end."""
        return self.end - time.monotonic()


def work(plan: ReproductionPlan, data: dict[str, Data], clock: Clock) -> bool:
    """Train what is missing while there is time; return whether nothing is."""
    for config in plan.missing():
        while not RunFolder(config.folder()).finished:
            epochs = piece(plan, config, clock.left)
            if epochs == 0:
                return False
            began, before = time.monotonic(), epochs_of(config)
            advance(config, data[Path(config.data).stem], until=before + epochs)
            print(
                f"{plan.recipe.table} {config.folder().name}: epoch {epochs_of(config)} of {config.epochs}, "
                f"{time.monotonic() - began:.0f} s",
                flush=True,
            )
    return True


def piece(plan: ReproductionPlan, config: TrainConfig, left: float) -> int:
    """Return how many epochs are trained before the next look at the clock; 0 where not even one fits."""
    known = pace(plan, config)
    if known is None:
        return 1 if left > 2 * START_SECONDS else 0
    fitting = int((min(left - 2 * START_SECONDS, PIECE_SECONDS)) / known)
    return max(1, fitting) if left > 2 * START_SECONDS + 2 * known else 0


def pace(plan: ReproductionPlan, config: TrainConfig) -> float | None:
    """Return the seconds of an epoch of this training, from its own or another seed's; None where none is known."""
    name = config.folder().name.rpartition("-seed")[0]
    others = (plan.config(name, seed) for seed in range(plan.seeds))
    for each in (config, *others):
        rows = RunFolder(each.folder()).read_metrics()
        if rows:
            return float(rows[-1]["seconds"]) / len(rows)
    return None


def epochs_of(config: TrainConfig) -> int:
    """Return how many epochs a training has behind it."""
    return len(RunFolder(config.folder()).read_metrics())


def remaining(plan: ReproductionPlan) -> str:
    """Say how much is left to train, and about how long it takes at the pace so far."""
    missing = plan.missing()
    epochs = {config.folder(): (config.epochs or 0) - epochs_of(config) for config in missing}
    paces = [pace(plan, config) for config in missing]
    known = [each for each in paces if each is not None]
    about = ""
    if len(known) == len(paces):
        about = f", about {duration(sum(e * p for e, p in zip(epochs.values(), known, strict=True)))}"
    return f"{plan.recipe.table}: {len(missing)} trainings with {sum(epochs.values()):,} epochs are left{about}"


def told(plan: ReproductionPlan, data: dict[str, Data], *, finished: bool) -> dict[str, Any] | None:
    """Return the record of what is finished; None where measuring it would take its time."""
    if finished:
        return keep(plan, data, trained=0, progress=False).record
    recipe = plan.recipe
    if any(row.measure.kind != "error" for row in recipe.rows):
        return None
    pictures = {name: found for name, (found, _) in data.items()}
    measuring = Measuring(plan.folder, [row.measure for row in recipe.rows], progress=False)
    return reproduction_record(recipe, plan.groups(), pictures, measuring)


def show(plan: ReproductionPlan, record: dict[str, Any], console: Console, *, finished: bool) -> None:
    """Print a table: all of it when it is finished, else the rows that have figures and the marks."""
    made = Reproduction(plan.folder, record)
    if finished:
        made.print(console)
        return
    console.print(made.table())
    for mark in record["marks"]:
        console.print(Text(mark_line(mark)))


def run_table(recipe: Recipe, args: argparse.Namespace, clock: Clock, console: Console) -> bool:
    """Go on with one table; return whether it is finished."""
    plan = ReproductionPlan(recipe, args.out / recipe.table)
    plan.refuse_other()
    plan.settle_seeds(args.seeds)
    plan.prepare(None if plan.begun else args.data)
    configs = plan.runs()
    first = {name: next(c for c in configs if Path(c.data).stem == name) for name in recipe.pictures}
    data = {name: load_data(config) for name, config in first.items()}
    finished = work(plan, data, clock)
    if not finished:
        console.print(Text(remaining(plan)))
    record = told(plan, data, finished=finished)
    if record is not None:
        show(plan, record, console, finished=finished)
    return finished


def recipe_of(table: str, args: argparse.Namespace) -> Recipe:
    """Return the recipe of a table at the paper's size, or a share of it."""
    recipe = find_recipe(PAPER, table, "paper")
    return recipe if args.scale == 1 else recipe.scaled(args.scale)


def main() -> None:
    """Go on with each table until the minutes are over."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--table", nargs="+", default=list(TABLES), choices=list(RECIPES[PAPER]), metavar="NAME")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--scale", type=float, default=1.0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    console, clock = Console(width=120), Clock(args.minutes)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu_name()
    print(f"dropkit {dropkit.__version__}, torch {torch.__version__}, {device}", flush=True)
    left = []
    for table in args.table:
        if clock.left <= 2 * START_SECONDS or not run_table(recipe_of(table, args), args, clock, console):
            left.append(table)
    if left:
        print(f"left: {', '.join(left)}; the same command goes on")
        sys.exit(LEFT)
    print("everything is finished")


if __name__ == "__main__":
    try:
        main()
    except DropkitError as error:
        sys.exit(f"paper_budgets: {error}")
