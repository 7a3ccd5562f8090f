"""Where the trials are kept: the same draws whenever they are made, and clear words where it cannot be reached."""

import math
import sqlite3

import pytest

from dropkit.errors import DropkitError
from dropkit.studies.space import make_space
from dropkit.studies.storage import FILE, Storage, default_storage, shown_url

optuna = pytest.importorskip("optuna", reason="optuna is not installed (extra tune)")

from optuna.trial import TrialState  # noqa: E402

SPACE = make_space({"conv", "fc"})


def opened(folder, identity="this", seed=3):
    return Storage(default_storage(folder), "study", identity, seed)


def searched(storage, count, known=0):
    """Draw trials after a fixed one, and tell of each a loss that is lowest at conv=.2, fc=.6."""
    for number in range(known, count):
        trial = storage.trial(number, SPACE, SPACE.references()[0][1] if number == 0 else None)
        loss = (trial.params["conv"] - 0.2) ** 2 + (trial.params["fc"] - 0.6) ** 2
        storage.tell(trial, {2: loss}, loss if number % 3 == 0 else None, {"policy": SPACE.policy(trial.params)})
    return [trial.params for trial in storage.study.get_trials()]


def test_draws_are_the_same_in_one_go_and_after_stops(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = searched(opened(tmp_path / "a"), 13)
    assert whole[0] == SPACE.references()[0][1]
    for stop in (1, 7, 13):
        searched(opened(tmp_path / "b"), stop, known=len(opened(tmp_path / "b").study.get_trials()))
    parts = opened(tmp_path / "b").study.get_trials()
    assert [trial.params for trial in parts] == whole
    assert [trial.number for trial in parts] == list(range(13))
    assert searched(opened(tmp_path / "b"), 13) == whole  # told again, nothing changes
    other = tmp_path / "c"
    other.mkdir()
    assert searched(opened(other, seed=4), 13) != whole


@pytest.mark.parametrize("number", [0, 12])
@pytest.mark.parametrize("calls", [2, 5, 6, 8])
def test_a_trial_that_was_stopped_while_it_was_drawn_is_drawn_as_it_would_have_been(
    tmp_path, monkeypatch, number, calls
):
    """Of the eight choices four are made in a copy of the study, and four are taken over by the trial."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        searched(opened(tmp_path / name), number)
    whole = opened(tmp_path / "a").trial(number, SPACE).params
    left = [calls]

    def stopped(self, *given, real=optuna.Trial._suggest):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return real(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Trial, "_suggest", stopped)
        with pytest.raises(KeyboardInterrupt):
            opened(tmp_path / "b").trial(number, SPACE)
    assert len(opened(tmp_path / "b").study.get_trials()) == number + (calls > 4)
    assert opened(tmp_path / "b").trial(number, SPACE).params == whole
    assert len(opened(tmp_path / "b").study.get_trials()) == number + 1


def test_no_trial_is_another_ones_again(tmp_path):
    small = make_space({"fc"}, decays=())
    storage = Storage(default_storage(tmp_path), "study", "this", 0)
    for number in range(small.size):
        storage.tell(storage.trial(number, small), {}, 0.5, {})
    assert sorted(trial.params["fc"] for trial in storage.study.get_trials()) == pytest.approx(small.levels()["fc"])
    assert (
        storage.trial(small.size, small).params["fc"] in small.levels()["fc"]
    )  # none is left, and it ends all the same


def test_a_fixed_trial_that_was_only_queued_is_taken_up(tmp_path, monkeypatch):
    fixed, real = SPACE.references()[1][1], optuna.Study.ask
    monkeypatch.setattr(optuna.Study, "ask", lambda *given, **options: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path).trial(0, SPACE, fixed)
    monkeypatch.setattr(optuna.Study, "ask", real)
    assert opened(tmp_path).trial(0, SPACE, fixed).params == fixed
    assert len(opened(tmp_path).study.get_trials()) == 1


def test_what_became_of_a_trial_is_there_for_the_dashboard(tmp_path):
    storage = opened(tmp_path)
    for number, value in enumerate((0.25, None, math.nan)):
        trial = storage.trial(number, SPACE)
        storage.tell(trial, {1: 0.5, 4: 0.375 if value else math.inf}, value, {"policy": "fc=0.1", "epochs": 7})
    kept = opened(tmp_path).study.get_trials()
    assert [trial.state for trial in kept] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    assert (kept[0].value, kept[0].intermediate_values) == (0.25, {1: 0.5, 4: 0.375})
    assert kept[1].intermediate_values == {1: 0.5}
    assert all(trial.user_attrs == {"policy": "fc=0.1", "epochs": 7} for trial in kept)


def test_the_sampler_learns(tmp_path):
    """Of 27 trials the later half lies nearer to the best rates; of 3 seeds all, were it chance, once in 8 times."""
    nearer = 0
    for seed in range(3):
        folder = tmp_path / str(seed)
        folder.mkdir()
        far = [(p["conv"] - 0.2) ** 2 + (p["fc"] - 0.6) ** 2 for p in searched(opened(folder, seed=seed), 28)[1:]]
        nearer += sum(far[14:]) / 13 < sum(far[:13]) / 13
    assert nearer == 3


def test_a_study_for_something_else_is_refused(tmp_path):
    opened(tmp_path)
    with pytest.raises(DropkitError, match="holds a study 'study' that was made for other pictures, options or"):
        opened(tmp_path, identity="that")


def test_a_file_that_another_process_has_locked(tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    expected = searched(opened(whole), 6)
    storage = Storage(f"{default_storage(tmp_path)}?timeout=0.1", "study", "this", 3)
    searched(storage, 3)
    other = sqlite3.connect(tmp_path / FILE)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DropkitError, match="does not answer any more .+locked.+when the storage is back, the same"):
        searched(storage, 6, known=3)
    other.rollback()
    other.close()
    assert searched(storage, 6, known=3) == expected
    storage.close()


@pytest.mark.parametrize(
    "url",
    ["nonsense", "postgresql+psycopg://ann:hunter2@127.0.0.1:1/db", "sqlite:////nowhere/at/all/trials.db", "x://"],
)
def test_what_cannot_be_reached_is_said_without_the_password(url):
    with pytest.raises(DropkitError, match="cannot be used .* give a URL that optuna takes") as caught:
        Storage(url, "study", "this", 0)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///a/b.db", "sqlite:///a/b.db"),
        ("postgresql://ann@host/db", "postgresql://ann@host/db"),
        ("mysql+pymysql://ann:se:c@ret@host:3306/db", "mysql+pymysql://ann:***@host:3306/db"),
    ],
)
def test_passwords_are_not_shown(url, shown):
    assert shown_url(url) == shown
