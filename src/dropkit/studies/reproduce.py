"""Make a table or a figure of a paper again, and hold ours beside the paper's."""

import shlex
from contextlib import ExitStack
from pathlib import Path

from dropkit.files import write_json
from dropkit.report.page import write_page
from dropkit.runs.config import require_number
from dropkit.runs.occupied import occupied
from dropkit.runs.torchrun import refuse_torchrun
from dropkit.studies.executor import Executor, choose_executor
from dropkit.studies.pictures import study_pictures
from dropkit.studies.recipes.measures import Measuring
from dropkit.studies.recipes.registry import find_recipe
from dropkit.studies.reproduction import Reproduction
from dropkit.studies.reproduction_plan import Data, ReproductionPlan
from dropkit.studies.reproduction_record import reproduction_record


def reproduce(
    paper: str,
    table: str | None,
    *,
    budget: str = "quick",
    data: str | Path | None = None,
    seeds: int | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    ray: str | None = None,
    cpus_per_trial: float | None = None,
    gpus_per_trial: float | None = None,
    progress: bool = True,
) -> Reproduction:
    """Train what a table or figure of a paper was trained from, and hold the figures beside the paper's.

    Runs with equal seeds share the pictures, the initial weights where the networks are alike, and the batch order, so
    that their differences are paired. A reproduction that was stopped goes on when it is called again, and repeats no
    finished training. What is not as in the paper stands beside the figures.

    Args:
        paper: "srivastava2014", which is Srivastava et al., Dropout, JMLR 15 (2014).
        table: such as "table-9" or "figure-11"; "9" alone is a table.
        budget: "quick" takes minutes on two cores, with few pictures and small networks; "paper" the paper's pictures
            and networks, for a GPU.
        data: folder that holds the data sets; without, ../shared/data where they are there, else the Hugging Face hub.
        seeds: trainings of each row, with seeds 0, 1, ...; the recipe's number when not given.
        out: the folder; a name made from the options when not given.
        workers: trainings at a time; one for each core when not given, or as many as the cluster has room for.
        ray: address of a running Ray cluster, as `dropkit.compare` takes it.
        cpus_per_trial: with `ray`, CPUs of each training, and its threads (default 1).
        gpus_per_trial: with `ray`, GPUs of each training, or a share such as 0.25 (default 0).
        progress: show progress on standard error.

    Returns:
        The reproduction: its record, its folder with the page.

    Raises:
        DropkitError: if there is no such table or budget, or the data or the folder cannot be used.

    Example:
        >>> reproduce("srivastava2014", "table-99")
        Traceback (most recent call last):
        ...
        dropkit.errors.DropkitError: unknown table or figure of srivastava2014 'table-99': allowed are table-4, \
table-9, table-10, figure-8, figure-9, figure-11. Did you mean 'table-9'?
    """
    refuse_torchrun("reproduce")
    recipe = find_recipe(paper, table, budget)
    require_number("seeds", seeds, whole=True, low=1)
    executor = choose_executor(workers, None, ray, cpus_per_trial, gpus_per_trial)
    plan = ReproductionPlan(recipe, out)
    plan.refuse_other()
    plan.settle_seeds(seeds)
    plan.prepare(data, progress=progress)
    with occupied(plan.folder), ExitStack() as stack:
        found = {name: _pictures(name, plan, executor, stack, progress=progress) for name in recipe.pictures}
        trained = plan.train(found, executor, progress=progress)
        return keep(plan, found, trained=trained, progress=progress)


def _pictures(name: str, plan: ReproductionPlan, executor: Executor, stack: ExitStack, *, progress: bool) -> Data:
    """Return the pictures of a source and their split."""
    first = next(config for config in plan.runs() if config.data == str(plan.pictures_file(name)))
    opened = study_pictures(first, plan.folder, executor, begun=lambda: plan.begun, progress=progress)
    return stack.enter_context(opened)


def keep(plan: ReproductionPlan, data: dict[str, Data], *, trained: int, progress: bool) -> Reproduction:
    """Measure what is finished, and write what it says: record and page.

    Args:
        plan: the reproduction.
        data: the pictures and their split, by source.
        trained: how many trainings were made now.
        progress: show progress on standard error.
    """
    recipe = plan.recipe
    measuring = Measuring(plan.folder, [row.measure for row in recipe.rows], progress=progress)
    pictures = {name: found for name, (found, _) in data.items()}
    record = reproduction_record(recipe, plan.groups(), pictures, measuring)
    record |= {"command": _command(plan), "trained": trained}
    write_json(plan.folder / "reproduction.json", record)
    write_page(record, plan.folder / "report.html")
    return Reproduction(plan.folder, record)


def _command(plan: ReproductionPlan) -> str:
    """Return the command that makes the reproduction again."""
    recipe = plan.recipe
    words = ["dropkit", "reproduce", recipe.paper, "--table", recipe.table, "--budget", recipe.budget]
    words += ["--seeds", str(plan.seeds)] if plan.seeds != recipe.seeds else []
    return shlex.join([*words, "--out", str(plan.folder)])
