"""Search the dropout that a network needs: on validation loss, in a fraction of the time, and confirmed afterwards."""

import dataclasses
import math
import shlex
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import torch

from dropkit.data.pictures import Pictures
from dropkit.data.split import Split
from dropkit.errors import DropkitError, unknown
from dropkit.files import make_folder
from dropkit.models.site_search import sites as find_sites
from dropkit.models.sites import HasSites
from dropkit.runs.config import TrainConfig, require_number
from dropkit.runs.display import duration
from dropkit.runs.fitting import Fit, build_model
from dropkit.runs.metrics import METRICS
from dropkit.runs.occupied import occupied
from dropkit.runs.torchrun import refuse_torchrun
from dropkit.runs.training import keep_features, say
from dropkit.studies.arms import require_batch_size
from dropkit.studies.compare import answer, require_seeds
from dropkit.studies.estimate import Estimate, estimate, parse_budget
from dropkit.studies.executor import FEATURES, Executor, choose_executor
from dropkit.studies.halving import planned_epochs
from dropkit.studies.pictures import study_pictures
from dropkit.studies.plan import DEFAULT_SEEDS, Plan
from dropkit.studies.question import Question
from dropkit.studies.search import Search
from dropkit.studies.search_folder import SearchFolder, listed
from dropkit.studies.search_record import SearchRecord
from dropkit.studies.space import Space, make_space, require_names
from dropkit.studies.storage import Storage, default_storage, shown_url
from dropkit.studies.study import Study

FEWEST_TRIALS = 5  # two that are always made, and a generation that can be thinned out once
MOST_TRIALS = 300  # that a budget of time may buy


def tune(
    config: TrainConfig,
    *,
    trials: int | None = None,
    budget: str | None = None,
    sites: str | Sequence[str] | None = None,
    kinds: str | Sequence[str] | None = None,
    weight_decays: Sequence[float] | None = None,
    seeds: int | None = None,
    metric: str = "error",
    storage: str | None = None,
    workers: int | None = None,
    ray: str | None = None,
    cpus_per_trial: float | None = None,
    gpus_per_trial: float | None = None,
    out: str | Path | None = None,
    progress: bool = True,
) -> Study:
    """Search the rate of each role, the kind of dropout and the weight decay; then confirm what was found.

    The search reads validation losses alone. Successive halving stops most trials early (`dropkit.studies.halving`),
    optuna's TPE chooses the next ones, and no dropout and the tutorial's policy (fc=0.5) are always among them. The
    best policy is then trained anew, with fresh seeds, beside those two, and held against no dropout on the test
    pictures as `compare` does: what the search owes to luck is gone. All of it goes on when it is called again after a
    stop, and its result does not depend on how often that was, nor on how many trainings ran at a time.

    Args:
        config: how to train; its dropout does not count. Its seed is the search's; fresh ones confirm.
        trials: policies to try (default 30).
        budget: a time such as "20m" for search and confirmation together, instead of `trials`.
        sites: where to drop, as a policy names sites (default: conv, and fc or head).
        kinds: what may be dropped (default: unit, channel, dropblock), as far as it can act at a site.
        weight_decays: to choose from (default: 0, 1e-5, 1e-4, 1e-3); config's own is always one.
        seeds: trainings of each policy in the confirmation (default 5).
        metric: of the confirmation: "error", "nll" or "balanced-error".
        storage: URL of optuna's storage (default: trials.db in the study's folder).
        workers: as `compare`.
        ray: as `compare`.
        cpus_per_trial: as `compare`.
        gpus_per_trial: as `compare`.
        out: the study's folder; a name made from the options when not given.
        progress: show progress on standard error.

    Returns:
        The study, as `compare` returns it; `record["search"]` has the trials, the response to each rate, the importance
        of each choice, and what was spent and saved.

    Raises:
        DropkitError: if an option is out of range, the data, the storage or the cluster cannot be used, the folder
            holds another study, or every trial diverged.

    Example:
        >>> import tempfile
        >>> config = TrainConfig(data="digits", model="mlp", epochs=2)
        >>> study = tune(config, trials=8, seeds=3, workers=1, out=tempfile.mkdtemp(), progress=False)
        >>> len(study.record["search"]["trials"])
        8
    """
    refuse_torchrun("tune")
    require_batch_size(config)
    require_number("trials", trials, whole=True, low=FEWEST_TRIALS)
    require_seeds(seeds)
    if metric not in METRICS:
        raise unknown("metric", str(metric), METRICS)
    if trials is not None and budget is not None:
        raise DropkitError("give either trials or a budget of time, not both")
    seconds = None if budget is None else parse_budget(budget)
    sites, kinds = _parts(sites), _parts(kinds)
    require_names(sites, kinds)
    executor = choose_executor(workers, config.threads, ray, cpus_per_trial, gpus_per_trial)
    base = dataclasses.replace(config, dropout="none", out=None)
    if weight_decays is not None and not weight_decays:
        weight_decays = (base.weight_decay,)
    asked = {"sites": listed(sites), "kinds": listed(kinds), "weight_decays": listed(weight_decays)}
    folder = SearchFolder(base, {**asked, "metric": metric}, out)
    folder.refuse_other()
    tuning = _Tuning(base, folder, executor, storage, seeds, progress)
    with study_pictures(base, folder.path, executor, begun=lambda: folder.begun, progress=progress) as data:
        folder.refuse_other_pictures(data[0])
        roles = _roles(base, data[0])
        space = make_space(roles, sites=sites, kinds=kinds, decays=weight_decays, decay=base.weight_decay)
        search = tuning.search(space, data, trials, seconds)
        return tuning.confirm(search, data, metric)


@dataclass(frozen=True)
class _Tuning:
    """A search and its confirmation, in one folder.

    Attributes:
        base: the training.
        folder: where all is kept.
        executor: what trains.
        storage: URL of optuna's storage; None for a file in the folder.
        seeds: of the confirmation; None for the default.
        progress: show progress on standard error.
    """

    base: TrainConfig
    folder: SearchFolder
    executor: Executor
    storage: str | None
    seeds: int | None
    progress: bool

    @property
    def url(self) -> str:
        """The storage's."""
        return self.storage or default_storage(self.folder.path)

    def search(self, space: Space, data: tuple[Pictures, Split], trials: int | None, seconds: float | None) -> Search:
        """Make all trials; return the search."""
        cost = _cost(self.base, space, data, self.folder.path, self.executor.threads, progress=self.progress)
        room, count, workers = _room(space, trials), self.seeds or DEFAULT_SEEDS, self.executor.workers
        if seconds is not None and not self.folder.begun:  # a search that goes on keeps what its budget once bought
            trials = trials_within(seconds - self.executor.start_seconds, cost, count, workers)
        trials = self.folder.trials(trials, room)
        if self.storage is None:
            make_folder(self.folder.path)
        identity = self.folder.fingerprint(trials, space, data[0])
        with ExitStack() as opened:
            storage = opened.enter_context(
                closing(Storage(self.url, self.folder.path.resolve().name, identity, self.base.seed))
            )
            self.folder.note(trials, data[0])
            opened.enter_context(occupied(self.folder.path))
            if self.progress:
                say(_forecast(trials, cost, workers, count))
                say(f"watch it: optuna-dashboard {shlex.quote(shown_url(self.url))}")
            made = Search(
                self.base,
                space,
                count=trials,
                epochs=cost.epochs,
                folder=self.folder.path,
                executor=self.executor,
                storage=storage,
                progress=self.progress,
            )
            made.run(data[0])
        return made

    def confirm(self, search: Search, data: tuple[Pictures, Split], metric: str) -> Study:
        """Compare what was found with no dropout and the tutorial's policy, by fresh seeds."""
        found = dataclasses.replace(search.finalists[0].config, seed=self.base.seed, out=None)
        arms = [self.base, dataclasses.replace(self.base, dropout=search.space.tutorial), found]
        plan = Plan(Question(arms, metric, self.base.seed + 1), self.folder.path, self.executor)
        if plan.begun:
            plan.refuse_other_study()
        plan.refuse_other_pictures(data[0])
        command = self.folder.command(len(search.trials), self.storage, self.seeds)
        about = SearchRecord(search, arms, data[0].shape, shown_url(self.url), command)
        return answer(plan, data, seeds=self.seeds, progress=self.progress, about=about)


def _parts(names: str | Sequence[str] | None) -> Sequence[str] | None:
    """Return names, which may be given as the option has them, with commas between."""
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else names


def _roles(base: TrainConfig, pictures: Pictures) -> set[str]:
    """Return the roles of the network's sites."""
    if base.pretrained:
        return {"head"}
    model = build_model(dataclasses.replace(base, finetune=False), pictures.shape, pictures.classes)
    found = model.dropout_sites() if isinstance(model, HasSites) else find_sites(model, torch.zeros(2, *pictures.shape))
    return {site.role for site in found}


def _cost(
    base: TrainConfig, space: Space, data: tuple[Pictures, Split], folder: Path, threads: int, *, progress: bool
) -> Estimate:
    """Return what a training costs; what cannot be built is said before anything is written."""
    features = keep_features(base, data, folder / FEATURES, progress=progress) if base.pretrained else None
    for params in space.samples():
        Fit(space.config(base, params), *data, features)
    return estimate(dataclasses.replace(base, dropout=space.tutorial), data, threads, features)


def _room(space: Space, asked: int | None) -> int:
    """Return how many different trials there are, with those that are always made.

    Raises:
        DropkitError: if more are asked for, or too few are left to search.
    """
    outside = sum(params is None for _, params in space.references())
    most = space.size + outside
    if (asked or FEWEST_TRIALS) > most:
        raise DropkitError(
            f"the space has {most} different policies, and {asked or FEWEST_TRIALS} trials are "
            f"{'asked for' if asked else 'the fewest'}: add --sites, --kinds or --weight-decays"
            f"{', or ask for fewer --trials' if asked else ''}"
        )
    return most


def trials_within(seconds: float, cost: Estimate, seeds: int, workers: int) -> int:
    """Return how many trials a time is enough for, with the confirmation's trainings.

    Args:
        seconds: that search and confirmation may take.
        cost: of one training.
        seeds: of each of the three policies that are compared in the end.
        workers: trainings at a time.
    """
    left = seconds * cost.epochs / cost.seconds - confirmation_epochs(seeds, cost.epochs, workers)
    counts = range(FEWEST_TRIALS, MOST_TRIALS + 1)
    return max((n for n in counts if search_epochs(n, cost.epochs, workers) <= left), default=FEWEST_TRIALS)


def search_epochs(trials: int, epochs: int, workers: int = 1) -> int:
    """Return about how many epochs a search takes, of as many trainings at a time as there are workers.

    >>> search_epochs(30, 40), search_epochs(30, 40, workers=2), 30 * 40
    (486, 256, 1200)
    """
    return math.ceil(2 / workers) * epochs + planned_epochs(trials - 2, epochs, workers)


def confirmation_epochs(seeds: int, epochs: int, workers: int) -> int:
    """Return how many epochs the comparison of three policies takes.

    >>> confirmation_epochs(5, 40, workers=2)
    320
    """
    return math.ceil(3 * seeds / workers) * epochs


def _forecast(trials: int, cost: Estimate, workers: int, seeds: int) -> str:
    both = search_epochs(trials, cost.epochs, workers), confirmation_epochs(seeds, cost.epochs, workers)
    times = [duration(epochs * cost.seconds / cost.epochs) for epochs in both]
    return (
        f"search: {trials} trials, about {search_epochs(trials, cost.epochs):,} epochs in {times[0]}; then 3 policies "
        f"with {seeds} fresh seeds each, about {times[1]} ({workers} at a time)"
    )
