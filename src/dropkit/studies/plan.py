"""The trainings of one study: where they are kept, which are missing, and what the next study would be."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dropkit.data.pictures import Pictures
from dropkit.data.split import Split
from dropkit.errors import DropkitError
from dropkit.files import make_folder, read_record, write_json
from dropkit.models.head import require_head_policy
from dropkit.models.policy import Policy
from dropkit.runs.config import TrainConfig, safe_name
from dropkit.runs.display import duration
from dropkit.runs.features import Features
from dropkit.runs.record import RunFolder, refuse_other_fields
from dropkit.runs.run import Run, read_run
from dropkit.runs.training import keep_features, say
from dropkit.studies.analysis import analyse
from dropkit.studies.display import watch
from dropkit.studies.estimate import Estimate, estimate, parse_budget, seeds_within
from dropkit.studies.executor import FEATURES, Executor
from dropkit.studies.question import FEWEST_SEEDS, Question
from dropkit.studies.rounds import Round
from dropkit.studies.study import describe_looks

DEFAULT_SEEDS = 5
# That a budget of time may buy: more would settle little.
MOST_SEEDS = 30
MOST_REPETITIONS = 10

_CURE = "restore it, or begin a new study with --out (the finished runs of this one stay in its folder runs)"


class Plan:
    """The trainings of one study, and where they are kept.

    Args:
        question: what is asked.
        folder: the study's.
        executor: what runs the trainings.
    """

    def __init__(self, question: Question, folder: Path, executor: Executor) -> None:
        self.question = question
        self.folder = folder
        self.executor = executor
        self.count = 0
        self.fingerprint = ""

    @property
    def rounds(self) -> list[Round]:
        """The rounds of the study: seeds, or the folds of its repetitions."""
        return self.question.rounds(self.count)

    @property
    def begun(self) -> bool:
        """Whether the folder holds a study."""
        return self._config_file.is_file()

    def refuse_other_study(self) -> None:
        """Raise if the folder holds another study or something else."""
        if self.begun:
            refuse_other_fields("study", self.folder, read_record(self._config_file, _CURE), self.question.identity())
        elif RunFolder(self.folder).begun:
            raise DropkitError(f"the folder {str(self.folder)!r} holds a single run: give another one with --out")
        else:
            RunFolder(self.folder).require_same(self.question.configs[0])  # refuses whatever is there

    def refuse_other_pictures(self, pictures: Pictures) -> None:
        """Raise if the study in the folder saw other pictures, before anything is trained on the new ones."""
        self.fingerprint = pictures.fingerprint
        if self._stored("fingerprint", pictures.fingerprint) != pictures.fingerprint:
            raise DropkitError(
                f"the study in {str(self.folder)!r} saw other pictures than {self.question.configs[0].data!r} holds "
                f"now: restore them, or give a new folder with --out"
            )

    def settle_seeds(
        self, seeds: int | None, budget: str | None, data: tuple[Pictures, Split], *, progress: bool
    ) -> None:
        """Decide how many seeds (or repetitions) there are, say how long that will take, and note it in the folder."""
        stored, folds = self._stored("seeds", 0), self.question.folds
        if seeds is not None and seeds < stored:
            raise DropkitError(
                f"the study in {str(self.folder)!r} was begun with {self._counted(stored)}: ask for as many or more, "
                f"or give a new folder with --out"
            )
        self.count = seeds or stored or (DEFAULT_SEEDS if folds is None else 1)
        # Building every network also finds a wrong model or policy before anything is written.
        configs = self.question.configs if self._missing() else []
        features = self._features(configs, data, progress=progress)
        costs = [estimate(config, data, self.executor.threads, features.get(config.model)) for config in configs]
        if budget is not None and not stored:  # a study that goes on keeps the seeds that its budget once bought
            per_seed = (folds or 1) * sum(cost.seconds for cost in costs) / self.executor.workers
            left = parse_budget(budget) - self.executor.start_seconds
            low, high = (FEWEST_SEEDS, MOST_SEEDS) if folds is None else (1, MOST_REPETITIONS)
            self.count = seeds_within(left, per_seed, low=low, high=high)
        if progress:
            say(self._forecast(costs))
        make_folder(self.folder)
        self._note(looks=self._stored("looks", []))

    def _features(
        self, configs: Sequence[TrainConfig], data: tuple[Pictures, Split], *, progress: bool
    ) -> dict[str, Features]:
        """Return the features of every frozen network, computed once and kept for all trainings of the study."""
        frozen = [config for config in configs if config.pretrained]
        for config in frozen:
            require_head_policy(Policy.parse(config.dropout))  # all of them, before what may take minutes
        place, whole = self.folder / FEATURES, self.question.folds is not None
        networks = {config.model: config for config in frozen}
        return {
            name: keep_features(config, data, place, whole=whole, progress=progress)
            for name, config in networks.items()
        }

    def _counted(self, count: int) -> str:
        """Say how many seeds, or repetitions."""
        one = "seed" if self.question.folds is None else "repetition"
        return f"{count} {one}{'' if count == 1 else 's'}"

    def runs(self) -> list[TrainConfig]:
        """Return every training of the study, round by round, so that a study that is stopped has whole pairs."""
        return [self._run(arm, turn) for turn in self.rounds for arm in range(len(self.question.names))]

    def train(self, pictures: Pictures, *, progress: bool) -> int:
        """Make the trainings that are not finished; return how many there were."""
        for run in self.runs():
            RunFolder(run.folder()).require_same(run)  # a user's own code may have changed since
        missing = self._missing()
        names = {
            self._path(arm, turn): f"{name} {turn.words}"
            for turn in self.rounds
            for arm, name in enumerate(self.question.names)
        }
        folders = [config.folder() for config in missing]
        with watch({folder: names[folder] for folder in folders}, show=progress) as done:
            for folder in self.executor.map(missing, pictures, self.folder):
                done(folder)
        return len(missing)

    def groups(self) -> dict[str, list[Run]]:
        """Return the finished runs of each arm, in the order of the rounds."""
        return {
            name: [read_run(self._path(arm, turn)) for turn in self.rounds]
            for arm, name in enumerate(self.question.names)
        }

    def record(self, groups: dict[str, list[Run]], *, trained: int) -> dict[str, Any]:
        """Return what the study found, as plain JSON, and count the look at the test pictures that this is."""
        command = self.question.command(self.count, self.folder)
        record = analyse(self.question, groups, command=command, trained=trained)
        record["recommendation"]["command"] = self._what_settles(record) or record["recommendation"]["command"]
        looks = self._count_look(trained)
        unit = "repetition" if self.question.folds else "seed"
        judged = any(row["verdict"]["kind"] in ("helps", "hurts", "none") for row in record["policies"][1:])
        told = describe_looks(looks, record["tested"], unit, judged=judged)
        if len(looks) > 1:
            record["verdict"] += f" {told}"
        return {**record, "looks": looks, "look_count": len(looks), "look": told}

    def _count_look(self, trained: int) -> list[int]:
        """Note with how many seeds the test pictures were looked at: adding seeds until something shows is no test.

        The same command on a finished study trains nothing and shows the same figures again: that is no further look.
        """
        looks: list[int] = self._stored("looks", [])
        if trained or not looks or looks[-1] != self.count:
            looks.append(self.count)
        self._note(looks=looks)
        return looks

    def _what_settles(self, record: dict[str, Any]) -> str | None:
        """Return the command of the study that would decide what this one left open; None where nothing is open."""
        verdicts = [row["verdict"] for row in record["policies"][1:]]
        question, kinds = self.question, {verdict["kind"] for verdict in verdicts}
        if kinds == {"diverged"}:
            return question.with_lower_rates().command(self.count, self._beside("lower-lr"))
        if kinds == {"undertrained"}:
            return question.with_epochs_doubled().command(self.count, self._beside("longer"))
        enough = [verdict["needed_seeds"] for verdict in verdicts if verdict["needed_seeds"]]
        if kinds == {"none"} and enough:
            # Fresh seeds in a study of its own: more of them in this one would be a second look at the same runs.
            first = question.first_seed + self.count
            fresh = dataclasses.replace(question, first_seed=first)
            least = FEWEST_SEEDS if question.folds is None else 1
            return fresh.command(max(least, *enough), self._beside(f"from-seed-{first}"))
        return None

    def _beside(self, suffix: str) -> Path:
        return self.folder.with_name(f"{self.folder.name}-{suffix}")

    @property
    def _config_file(self) -> Path:
        return self.folder / "study-config.json"

    def _stored(self, name: str, default: Any) -> Any:
        return read_record(self._config_file, _CURE).get(name, default) if self.begun else default

    def _note(self, *, looks: list[int]) -> None:
        state = {"fingerprint": self.fingerprint, "seeds": self.count, "looks": looks}
        write_json(self._config_file, {**self.question.identity(), **state})

    def _path(self, arm: int, turn: Round) -> Path:
        return self.folder / "runs" / f"{arm}-{safe_name(self.question.names[arm])}-{turn.name}"

    def _run(self, arm: int, turn: Round) -> TrainConfig:
        return dataclasses.replace(turn.training(self.question.configs[arm]), out=str(self._path(arm, turn)))

    def _missing(self) -> list[TrainConfig]:
        return [run for run in self.runs() if not RunFolder(run.folder()).finished]

    def _forecast(self, costs: Sequence[Estimate]) -> str:
        everything = self.runs()
        missing = [i for i, run in enumerate(everything) if not RunFolder(run.folder()).finished]
        if not missing:
            return f"all {_trainings(len(everything))} are finished; the verdict is recomputed"
        at_once = min(self.executor.workers, len(missing))
        seconds = self.executor.start_seconds + sum(costs[i % len(costs)].seconds for i in missing) / at_once
        epochs = max(each.epochs for each in costs)
        fixed = all(config.epochs is not None for config in self.question.configs)
        length = f"{epochs} epoch{'' if epochs == 1 else 's'}"
        basis = f"{length} each" if fixed else f"if each takes some {length}"
        kept = len(everything) - len(missing)
        before = f" ({kept} more are finished)" if kept else ""
        return f"{_trainings(len(missing))}{before}, about {duration(seconds)} ({basis}, {at_once} at a time)"


def _trainings(count: int) -> str:
    return f"{count} training{'' if count == 1 else 's'}"
