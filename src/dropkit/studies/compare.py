"""Train with and without dropout on the same splits and seeds, and say whether the difference is real."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dropkit.data.pictures import Pictures
from dropkit.data.split import Split
from dropkit.errors import DropkitError
from dropkit.files import write_json
from dropkit.report.page import write_page
from dropkit.runs.config import TrainConfig, require_number
from dropkit.runs.details import details
from dropkit.runs.occupied import occupied
from dropkit.runs.torchrun import refuse_torchrun
from dropkit.studies.analysis import shown_policy
from dropkit.studies.arms import arm_config
from dropkit.studies.estimate import parse_budget
from dropkit.studies.executor import choose_executor
from dropkit.studies.pictures import study_pictures
from dropkit.studies.plan import Plan
from dropkit.studies.question import FEWEST_SEEDS, Question, require_folds
from dropkit.studies.study import Study
from dropkit.studies.sweep import Sweep


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
    ray: str | None = None,
    cpus_per_trial: float | None = None,
    gpus_per_trial: float | None = None,
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
        workers: trainings at a time; one for each core when not given, or as many as the cluster has room for.
        ray: address of a running Ray cluster, on whose nodes the trainings compute: "auto", "HOST:PORT" or
            "ray://HOST:PORT" (`dropkit.studies.cluster.RayCluster`).
        cpus_per_trial: with `ray`, CPUs of each training, and its threads (default 1).
        gpus_per_trial: with `ray`, GPUs of each training, or a share such as 0.25 (default 0).
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
    refuse_torchrun("compare")
    asked = None if sweep is None else Sweep.parse(sweep)
    configs = list(configs) if asked is None else _swept(asked, list(configs))
    require_seeds(seeds, budget, folds)
    executor = choose_executor(workers, configs[0].threads, ray, cpus_per_trial, gpus_per_trial)
    question = Question(configs, metric, first_seed, folds, asked)
    plan = Plan(question, question.folder(out), executor)
    plan.refuse_other_study()
    first = question.rounds(1)[0].training(question.configs[0])
    with study_pictures(first, plan.folder, executor, begun=lambda: plan.begun, progress=progress) as data:
        plan.refuse_other_pictures(data[0])
        return answer(plan, data, seeds=seeds, budget=budget, progress=progress)


def answer(
    plan: Plan,
    data: tuple[Pictures, Split],
    *,
    seeds: int | None,
    budget: str | None = None,
    progress: bool = True,
    about: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Study:
    """Make the trainings of a plan that are missing, and write what they say: record and page.

    Args:
        plan: the trainings; that its folder holds no other study has been seen to.
        data: the pictures and the first round's split.
        seeds: as `compare`.
        budget: as `compare`.
        progress: show progress on standard error.
        about: from the record to the one that is kept, where more is known of the study.
    """
    plan.settle_seeds(seeds, budget, data, progress=progress)
    with occupied(plan.folder):
        trained = plan.train(data[0], progress=progress)
        groups = plan.groups()
        record = about(plan.record(groups, trained=trained))
        seen = details(groups, data[0], policy=shown_policy(record), against=plan.question.names[0])
        write_json(plan.folder / "details.json", seen)
        write_json(plan.folder / "study.json", record)
        write_page({**record, "details": seen}, plan.folder / "report.html")
    return Study(plan.folder, record)


def _swept(sweep: Sweep, configs: list[TrainConfig]) -> list[TrainConfig]:
    """Return a training for each rate."""
    if len(configs) == 1:
        return [arm_config(configs[0], policy) for policy in sweep.policies]
    if [config.dropout for config in configs] != list(sweep.policies):
        raise DropkitError(f"sweep {sweep.text!r} makes the policies itself: give one training with it")
    return configs


def require_seeds(seeds: int | None, budget: str | None = None, folds: int | None = None) -> None:
    """Refuse numbers of seeds that cannot be, or tell nothing.

    Raises:
        DropkitError: naming the number.
    """
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
