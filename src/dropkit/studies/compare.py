"""Train with and without dropout on the same splits and seeds, and say whether the difference is real."""

import dataclasses
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dropkit.errors import DropkitError, unknown
from dropkit.files import make_folder, read_json, write_json
from dropkit.models.policy import Policy
from dropkit.report.page import write_page
from dropkit.runs.config import TrainConfig, require_number, safe_name
from dropkit.runs.display import duration
from dropkit.runs.metrics import METRICS
from dropkit.runs.pictures import Pictures
from dropkit.runs.record import RunFolder, refuse_other_fields
from dropkit.runs.run import changed_options, read_run
from dropkit.runs.split import Split
from dropkit.runs.training import describe_data, load_data, say
from dropkit.studies.analysis import analyse
from dropkit.studies.config import FEWEST_SEEDS, require_comparable, study_folder, study_identity
from dropkit.studies.display import watch
from dropkit.studies.estimate import Estimate, estimate, parse_budget, seeds_within
from dropkit.studies.executor import LocalProcesses
from dropkit.studies.study import Study, describe_looks

DEFAULT_SEEDS = 5
FEWEST_TEST_PICTURES = 2
MOST_SEEDS = 30  # that a budget of time may buy: more would settle little


def compare(
    configs: Iterable[TrainConfig],
    *,
    seeds: int | None = None,
    first_seed: int = 0,
    metric: str = "error",
    out: str | Path | None = None,
    workers: int | None = None,
    budget: str | None = None,
    progress: bool = True,
) -> Study:
    """Train every config with several seeds, and hold each against the first.

    Runs with equal seeds share the split, the initial weights and the batch order, so that their differences are
    paired. A stopped study goes on when it is called again, and repeats no finished training.

    Args:
        configs: trainings that differ in their dropout alone; the first is what the others are held against.
        seeds: trainings of each config (default 5, at least 3), with seeds first_seed, first_seed + 1, ...
        first_seed: of the trainings; a study that is to confirm another takes fresh ones.
        metric: "error" (share of wrong test pictures) or "nll" (test loss in nats), declared beforehand.
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
    configs = list(configs)
    require_comparable(configs)
    if metric not in METRICS:
        raise unknown("metric", str(metric), METRICS)
    _require_seeds(seeds, budget)
    require_number("workers", workers, whole=True, low=1)
    _require_distinct(configs)
    require_number("first_seed", first_seed, whole=True, low=0)
    folder = study_folder(configs, metric, first_seed, out)
    plan = _Plan(configs, metric, first_seed, folder, LocalProcesses(workers, configs[0].threads))
    plan.refuse_other_study()
    data = load_data(configs[0])
    if progress:
        say(describe_data(*data))
    plan.refuse_other_pictures(data[0])
    if len(data[1].test) < FEWEST_TEST_PICTURES:
        raise DropkitError(f"a comparison needs at least {FEWEST_TEST_PICTURES} test pictures, not {len(data[1].test)}")
    plan.settle_seeds(seeds, budget, data, progress=progress)
    record = plan.record(trained=plan.train(progress=progress))
    plan.count_look(record)
    write_json(plan.folder / "study.json", record)
    write_page(record, plan.folder / "report.html")
    return Study(plan.folder, record)


def _require_seeds(seeds: int | None, budget: str | None) -> None:
    if seeds is not None and budget is not None:
        raise DropkitError("give either seeds or a budget of time, not both")
    require_number("seeds", seeds, whole=True)
    if seeds is not None and seeds < FEWEST_SEEDS:
        raise DropkitError(
            f"seeds must be at least {FEWEST_SEEDS}, but got {seeds}: fewer cannot tell chance from effect"
        )
    if budget is not None:
        parse_budget(budget)


class _Plan:
    """The trainings of one study, and where they are kept."""

    def __init__(
        self, configs: list[TrainConfig], metric: str, first_seed: int, folder: Path, executor: LocalProcesses
    ) -> None:
        self.configs = configs
        self.metric = metric
        self.first_seed = first_seed
        self.folder = folder
        self.executor = executor
        self.seeds: list[int] = []
        self.fingerprint = ""

    def refuse_other_study(self) -> None:
        """Raise if the folder holds another study or something else."""
        if self._config_file.is_file():
            refuse_other_fields(
                "study",
                self.folder,
                read_json(self._config_file),
                study_identity(self.configs, self.metric, self.first_seed),
            )
        elif RunFolder(self.folder).begun:
            raise DropkitError(f"the folder {str(self.folder)!r} holds a single run: give another one with --out")
        else:
            RunFolder(self.folder).require_same(self.configs[0])  # refuses whatever is there

    def refuse_other_pictures(self, pictures: Pictures) -> None:
        """Raise if the study in the folder saw other pictures, before anything is trained on the new ones."""
        self.fingerprint = pictures.fingerprint
        if self._stored("fingerprint", pictures.fingerprint) != pictures.fingerprint:
            raise DropkitError(
                f"the study in {str(self.folder)!r} saw other pictures than {self.configs[0].data!r} holds now: "
                f"restore them, or give a new folder with --out"
            )

    def settle_seeds(
        self, seeds: int | None, budget: str | None, data: tuple[Pictures, Split], *, progress: bool
    ) -> None:
        """Decide how many seeds there are, say how long that will take, and note it in the folder."""
        stored = self._stored("seeds", 0)
        if seeds is not None and seeds < stored:
            raise DropkitError(
                f"the study in {str(self.folder)!r} was begun with {stored} seeds: ask for as many or more, "
                f"or give a new folder with --out"
            )
        self._take(seeds or stored or DEFAULT_SEEDS)
        # Building every network also finds a wrong model or policy before anything is written.
        costs = [estimate(config, data, self.executor.threads) for config in self.configs] if self._missing() else []
        if budget is not None and not stored:  # a study that goes on keeps the seeds that its budget once bought
            per_seed = sum(cost.seconds for cost in costs) / self.executor.workers
            left = parse_budget(budget) - self.executor.start_seconds
            self._take(seeds_within(left, per_seed, low=FEWEST_SEEDS, high=MOST_SEEDS))
        if progress:
            say(self._forecast(costs))
        make_folder(self.folder)
        self._note(seeds=len(self.seeds), looks=self._stored("looks", []))

    def _take(self, count: int) -> None:
        self.seeds = list(range(self.first_seed, self.first_seed + count))

    def count_look(self, record: dict[str, Any]) -> None:
        """Note with how many seeds the test pictures were looked at: adding seeds until something shows is no test."""
        looks = self._stored("looks", [])
        if not looks or looks[-1] != len(self.seeds):
            looks.append(len(self.seeds))
        self._note(seeds=len(self.seeds), looks=looks)
        record["looks"] = looks
        if len(looks) > 1:
            record["verdict"] += f" {describe_looks(looks)}"

    def runs(self) -> list[TrainConfig]:
        """Return every training of the study, seed by seed, so that a study that is stopped has whole pairs."""
        return [self._run(config, seed) for seed in self.seeds for config in self.configs]

    def train(self, *, progress: bool) -> int:
        """Make the trainings that are not finished; return how many there were."""
        missing = self._missing()
        with watch(missing, show=progress) as done:
            for folder in self.executor.map(missing, self.fingerprint):
                done(folder)
        return len(missing)

    def record(self, *, trained: int) -> dict[str, Any]:
        """Return what the study found, as plain JSON."""
        groups = {
            config.dropout: [read_run(self._path(config, seed)) for seed in self.seeds] for config in self.configs
        }
        record = analyse(groups, metric=self.metric, command=self._command(), trained=trained)
        command = self._what_settles(record)
        if command is not None:
            record["recommendation"]["command"] = command
        return record

    def _what_settles(self, record: dict[str, Any]) -> str | None:
        """Return the command of the study that would decide what this one left open; None where nothing is open."""
        verdicts = [row["verdict"] for row in record["policies"][1:]]
        config, kinds = self.configs[0], {verdict["kind"] for verdict in verdicts}
        if kinds == {"diverged"}:
            return self._command(self._beside("lower-lr"), lr=config.learning_rate / 10)
        if kinds == {"undertrained"}:
            field = "max_epochs" if config.epochs is None else "epochs"
            return self._command(self._beside("longer"), **{field: 2 * config.epoch_limit})
        enough = [verdict["needed_seeds"] for verdict in verdicts if verdict["needed_seeds"]]
        if kinds == {"none"} and enough:
            # Fresh seeds in a study of its own: more of them in this one would be a second look at the same runs.
            first = self.seeds[-1] + 1
            return self._command(self._beside(f"from-seed-{first}"), seeds=max(FEWEST_SEEDS, *enough), first_seed=first)
        return None

    def _beside(self, suffix: str) -> Path:
        return self.folder.with_name(f"{self.folder.name}-{suffix}")

    @property
    def _config_file(self) -> Path:
        return self.folder / "study-config.json"

    def _stored(self, name: str, default: Any) -> Any:
        return read_json(self._config_file).get(name, default) if self._config_file.is_file() else default

    def _note(self, **state: Any) -> None:
        identity = study_identity(self.configs, self.metric, self.first_seed)
        write_json(self._config_file, {**identity, "fingerprint": self.fingerprint, **state})

    def _path(self, config: TrainConfig, seed: int) -> Path:
        number = [other.dropout for other in self.configs].index(config.dropout)
        return self.folder / "runs" / f"{number}-{safe_name(config.dropout)}-seed{seed}"

    def _run(self, config: TrainConfig, seed: int) -> TrainConfig:
        return dataclasses.replace(config, seed=seed, out=str(self._path(config, seed)))

    def _missing(self) -> list[TrainConfig]:
        return [run for run in self.runs() if not RunFolder(run.folder()).finished]

    def _forecast(self, costs: Sequence[Estimate]) -> str:
        missing = self._missing()
        if not missing:
            return f"all {_trainings(len(self.runs()))} are finished; the verdict is recomputed"
        cost = {config.dropout: each.seconds for config, each in zip(self.configs, costs, strict=True)}
        at_once = min(self.executor.workers, len(missing))
        seconds = self.executor.start_seconds + sum(cost[run.dropout] for run in missing) / at_once
        epochs = max(each.epochs for each in costs)
        basis = f"{epochs} epochs each" if self.configs[0].epochs is not None else f"if each takes some {epochs} epochs"
        kept = len(self.runs()) - len(missing)
        before = f" ({kept} more are finished)" if kept else ""
        return f"{_trainings(len(missing))}{before}, about {duration(seconds)} ({basis}, {at_once} at a time)"

    def _command(
        self, out: Path | None = None, seeds: int | None = None, first_seed: int | None = None, **changes: Any
    ) -> str:
        """Return the command that makes this study, with other options where some are given."""
        plain = dataclasses.replace(self.configs[0], seed=0, out=None, threads=None, **changes)
        words = ["dropkit", "compare", plain.data, *changed_options(plain)]
        words += ["--policies", *(config.dropout for config in self.configs), "--seeds", str(seeds or len(self.seeds))]
        start = self.first_seed if first_seed is None else first_seed
        words += ["--first-seed", str(start)] if start else []
        words += ["--metric", self.metric, "--out", str(out or self.folder)]
        return shlex.join(words)


def _require_distinct(configs: Sequence[TrainConfig]) -> None:
    """Refuse two spellings of one policy, as in fc=0.5 and fc=.5."""
    seen: dict[tuple[Any, ...], str] = {}
    for config in configs:
        policy = Policy.parse(config.dropout)
        meaning = (policy.untouched, policy.items)
        if meaning in seen:
            raise DropkitError(f"the policies {seen[meaning]!r} and {config.dropout!r} are the same: leave one out")
        seen[meaning] = config.dropout


def _trainings(count: int) -> str:
    return f"{count} training{'' if count == 1 else 's'}"
