"""Train with and without dropout on the same splits and seeds, and say whether the difference is real."""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dropkit.data.pictures import Pictures
from dropkit.data.split import Split
from dropkit.errors import DropkitError
from dropkit.files import write_json
from dropkit.report.page import write_page
from dropkit.runs.config import TrainConfig, require_number
from dropkit.runs.details import details
from dropkit.runs.training import describe_data, load_data, say
from dropkit.studies.analysis import shown_policy
from dropkit.studies.arms import arm_config
from dropkit.studies.estimate import parse_budget
from dropkit.studies.executor import LocalProcesses
from dropkit.studies.plan import Plan
from dropkit.studies.question import FEWEST_SEEDS, Question, require_folds
from dropkit.studies.study import Study
from dropkit.studies.sweep import Sweep

FEWEST_TEST_PICTURES = 2


def compare(
    configs: Iterable[TrainConfig],
    *,
    seeds: int | None = None,
    first_seed: int = 0,
    metric: str = "error",
    folds: int | None = None,
    sweep: str | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    budget: str | None = None,
    progress: bool = True,
) -> Study:
    """Train every config with several seeds, and hold each against the first.

    Runs with equal seeds share the split, the initial weights and the batch order, so that their differences are
    paired. A stopped study goes on when it is called again, and repeats no finished training.

    Args:
        configs: trainings that differ in their dropout, or in other fields too that are not of the data (see
            `dropkit.studies.arms.FIELDS`); the first is what the others are held against.
        seeds: trainings of each config (default 5, at least 3), with seeds first_seed, first_seed + 1, ...; with
            `folds` repetitions of the cross-validation (default 1), each of which divides the pictures anew.
        first_seed: of the trainings, or number of the first repetition; a study that is to confirm another takes fresh
            ones.
        metric: "error" (share of wrong test pictures), "nll" (test loss in nats) or "balanced-error" (share of wrong
            test pictures of a class, mean over the classes), declared beforehand.
        folds: for small sets, K-fold cross-validation (at least 3): each config is trained K times, every picture is
            tested once, and the verdict is that of the corrected resampled t-test (`dropkit.studies.folds`).
        sweep: a policy with a range of rates START:STOP:STEP, such as "fc=0:0.8:0.1"; `configs` is then one training,
            whose dropout does not count, or what `CompareConfig.configs` makes of the sweep.
        out: the study's folder; a name made from the options when not given.
        workers: trainings at a time; one for each core when not given.
        budget: a time such as "20m" instead of `seeds`: as many seeds as fit into it, at least 3.
        progress: show progress on standard error.

    Returns:
        The study: its verdicts, its recommendation, its folder with the page.

    Raises:
        DropkitError: if the trainings cannot be compared, or the data or the folder cannot be used.

    Example:
        >>> import tempfile
        >>> configs = [TrainConfig(data="digits", model="mlp", dropout=p, epochs=1) for p in ("none", "fc=0.5")]
        >>> study = compare(configs, seeds=3, workers=1, out=tempfile.mkdtemp(), progress=False)
        >>> study.recommendation["policy"]
        'none'
    """
    asked = None if sweep is None else Sweep.parse(sweep)
    configs = list(configs) if asked is None else _swept(asked, list(configs))
    _require_seeds(seeds, budget, folds)
    require_number("workers", workers, whole=True, low=1)
    question = Question(configs, metric, first_seed, folds, asked)
    plan = Plan(question, question.folder(out), LocalProcesses(workers, configs[0].threads))
    plan.refuse_other_study()
    with _data(plan, progress) as data:
        plan.refuse_other_pictures(data[0])
        plan.settle_seeds(seeds, budget, data, progress=progress)
        trained = plan.train(data[0], progress=progress)
        groups = plan.groups()
        record = plan.record(groups, trained=trained)
        seen = details(groups, data[0], policy=shown_policy(record), against=question.names[0])
    write_json(plan.folder / "study.json", record)
    write_json(plan.folder / "details.json", seen)
    write_page({**record, "details": seen}, plan.folder / "report.html")
    return Study(plan.folder, record)


def _swept(sweep: Sweep, configs: list[TrainConfig]) -> list[TrainConfig]:
    """Return a training for each rate."""
    if len(configs) == 1:
        return [arm_config(configs[0], policy) for policy in sweep.policies]
    if [config.dropout for config in configs] != list(sweep.policies):
        raise DropkitError(f"sweep {sweep.text!r} makes the policies itself: give one training with it")
    return configs


@contextmanager
def _data(plan: Plan, progress: bool) -> Iterator[tuple[Pictures, Split]]:
    """Yield the pictures and the first round's split; what streaming put on disk is removed when all is done."""
    first = plan.question.rounds(1)[0].training(plan.question.configs[0])
    data = load_data(_shared(first, plan), spool=plan.folder, copies=plan.executor.copies, progress=progress)
    try:
        if progress:
            say(describe_data(*data))
        if len(data[1].test) < FEWEST_TEST_PICTURES:
            raise DropkitError(
                f"a comparison needs at least {FEWEST_TEST_PICTURES} test pictures, not {len(data[1].test)}"
            )
        yield data
    except BaseException:
        if not plan.begun:
            data[0].remove_spool()
        raise  # else the pictures stay: the same command goes on with them
    data[0].remove_spool()


def _shared(config: TrainConfig, plan: Plan) -> TrainConfig:
    """Return how the study reads its pictures: files are decoded once, onto disk, where several processes train."""
    files = config.data != "digits" and not config.data.lower().endswith(".npz")
    if files and config.stream == "auto" and plan.executor.workers > 1:
        return dataclasses.replace(config, stream="yes")
    return config


def _require_seeds(seeds: int | None, budget: str | None, folds: int | None) -> None:
    require_folds(folds)
    if seeds is not None and budget is not None:
        raise DropkitError("give either seeds or a budget of time, not both")
    require_number("seeds", seeds, whole=True, low=-math.inf if folds is None else 1)
    if folds is None and seeds is not None and seeds < FEWEST_SEEDS:
        raise DropkitError(
            f"seeds must be at least {FEWEST_SEEDS}, but got {seeds}: fewer cannot tell chance from effect"
        )
    if budget is not None:
        parse_budget(budget)
