"""Where a search keeps its trials: optuna's study, in a file of its folder or behind any URL that optuna takes."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dropkit.errors import DropkitError, missing_extra
from dropkit.studies.space import Space

if TYPE_CHECKING:
    from optuna import Study, Trial

FILE = "trials.db"
_IDENTITY = "dropkit"
ATTEMPTS = 20  # of the sampler to choose something new


def default_storage(folder: Path) -> str:
    """Return the URL of the file in a study's folder."""
    return f"sqlite:///{folder / FILE}"


def shown_url(url: str) -> str:
    """Return a storage's URL without its password.

    >>> shown_url("postgresql://ann:secret@localhost/trials")
    'postgresql://ann:***@localhost/trials'
    """
    head, at, tail = url.rpartition("@")
    scheme, slashes, user = head.partition("://")
    name, colon, _ = user.partition(":")
    return f"{scheme}{slashes}{name}:***@{tail}" if at and colon else url


class Storage:
    """The trials of one search, kept by optuna.

    optuna's TPESampler chooses (Bergstra et al., NIPS 2011; several parameters at once: Falkner et al., ICML 2018): of
    its samplers the one that learns from trials that were stopped early, too.

    Args:
        url: where they are kept.
        name: of the study there.
        identity: what the search is; a study of the same name that was made for another one is refused.
        seed: of the search.

    Raises:
        DropkitError: if optuna is missing, the storage cannot be reached, or the study there is another.
    """

    def __init__(self, url: str, name: str, identity: str, seed: int) -> None:
        try:
            import optuna
        except ImportError:
            raise missing_extra("a search", "tune") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.url, self.name, self.seed = url, name, seed
        self._answered = False
        with self._reached():
            self._storage = optuna.storages.RDBStorage(url)
            self.study: Study = optuna.create_study(storage=self._storage, study_name=name, load_if_exists=True)
            known = self.study.user_attrs.get(_IDENTITY)
            if known is None:
                self.study.set_user_attr(_IDENTITY, identity)
        self._answered = True
        if known not in (None, identity):
            self.close()
            raise DropkitError(
                f"the storage {shown_url(url)!r} holds a study {name!r} that was made for other pictures, options or "
                f"another space: give another storage with --storage, or a new folder with --out"
            )

    def close(self) -> None:
        """Give the connections back."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def trial(self, number: int, space: Space, fixed: Mapping[str, Any] | None = None) -> "Trial":
        """Return the trial of this number with its parameters, drawn now unless they are there already.

        What is drawn is a function of the seed, the number and what became of the trials before it; it is none of them
        again.

        Args:
            number: of the trial, from 0; those before it are there.
            space: what may be chosen.
            fixed: the parameters of a trial that is not drawn.

        Raises:
            DropkitError: if the storage cannot be reached.
        """
        import optuna
        from optuna.trial import TrialState

        with self._reached():
            known = self.study.get_trials(deepcopy=False)
            if number < len(known) and known[number].state != TrialState.WAITING:
                # Of an earlier start; optuna has no public way back to it.
                trial = optuna.Trial(self.study, known[number]._trial_id)
            else:
                if number == len(known):  # all parameters at once, so that no stop leaves some of them
                    self.study.enqueue_trial(dict(fixed or self._drawn(number, space)))
                trial = self.study.ask()
            if not self._finished(trial):
                space.suggest(trial)  # which finds them there
            return trial

    def _drawn(self, number: int, space: Space) -> dict[str, Any]:
        """Return the parameters that optuna chooses next, in a copy of the study in memory."""
        import optuna

        before = self.study.get_trials()
        seen = {space.key(trial.params) for trial in before if trial.params}
        copy = optuna.create_study()
        copy.add_trials(before)
        for attempt in range(ATTEMPTS):
            drawn = np.random.SeedSequence([self.seed, number, attempt]).generate_state(1)[0]
            copy.sampler = optuna.samplers.TPESampler(seed=int(drawn))
            trial = copy.ask()
            space.suggest(trial)
            if space.key(trial.params) not in seen:
                return dict(trial.params)
        return self._left(number, space, seen)

    def _left(self, number: int, space: Space, seen: Collection[tuple[str, float]]) -> dict[str, Any]:
        """Return parameters that have not been tried, at random; any where all have been."""
        rng, levels = np.random.default_rng([self.seed, number]), space.levels()
        for _ in range(100 * space.size):
            params = {name: values[rng.integers(len(values))] for name, values in levels.items()}
            if space.key(params) not in seen:
                break
        return params

    def tell(self, trial: "Trial", scores: Mapping[int, float], value: float | None, about: Mapping[str, Any]) -> None:
        """Keep what became of a trial; one that has its end already stays as it is.

        Args:
            trial: which.
            scores: what it was judged by, by epoch.
            value: its validation loss at the end; None where it was stopped, NaN where it diverged.
            about: what else a person may want to see in the dashboard.

        Raises:
            DropkitError: if the storage cannot be reached.
        """
        from optuna.trial import TrialState

        with self._reached():
            if self._finished(trial):
                return
            for name, told in about.items():
                trial.set_user_attr(name, told)
            for epoch, score in scores.items():
                if np.isfinite(score):
                    trial.report(score, epoch)
            if value is None:
                self.study.tell(trial, state=TrialState.PRUNED)
            elif np.isfinite(value):
                self.study.tell(trial, value)
            else:
                self.study.tell(trial, state=TrialState.FAIL)

    def _finished(self, trial: "Trial") -> bool:
        return bool(self.study.get_trials(deepcopy=False)[trial.number].state.is_finished())

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Turn what the storage's libraries raise into a message.

        They raise errors of a dozen kinds: of the URL, of a driver that is not installed, of the network, of the
        database.
        """
        try:
            yield
        except DropkitError:
            raise
        except Exception as error:
            if type(error).__name__ == "UpdateFinishedTrialError":
                raise DropkitError(
                    f"another process works on the search {self.name!r}: wait until it has ended, or give this one "
                    f"another folder with --out"
                ) from None
            reason = str(error.__cause__ or error).strip().partition("\n")[0]
            if self._answered:
                raise DropkitError(
                    f"the storage {shown_url(self.url)!r} does not answer any more ({type(error).__name__}: {reason}). "
                    f"What was trained is kept: when the storage is back, the same command goes on"
                ) from None
            raise DropkitError(
                f"the storage {shown_url(self.url)!r} cannot be used ({type(error).__name__}: {reason}): give a URL "
                f"that optuna takes, such as sqlite:///FILE.db or postgresql://USER@HOST/DATABASE, with --storage. "
                f"What was trained is kept"
            ) from None
