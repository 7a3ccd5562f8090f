"""What torchrun tells, and who speaks."""

import sys

import pytest

from dropkit import cli
from dropkit.errors import DropkitError
from dropkit.runs import torchrun
from dropkit.runs.config import TrainConfig
from dropkit.studies.compare import compare


@pytest.fixture
def second(monkeypatch):
    """Be the second of three processes, without a pause."""
    for name, value in {"RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    paused = []
    monkeypatch.setattr(torchrun.time, "sleep", paused.append)
    monkeypatch.setattr(torchrun.os, "_exit", sys.exit)
    return paused


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "3")  # other programs set it too
    assert (torchrun.process_count(), torchrun.is_first()) == (1, True)
    torchrun.refuse_torchrun("compare")


def test_the_first_of_several_speaks(second, monkeypatch):
    assert (torchrun.process_count(), torchrun.is_first()) == (3, False)
    monkeypatch.setenv("RANK", "0")
    assert (torchrun.process_count(), torchrun.is_first()) == (3, True)


def test_a_comparison_is_not_shared(second):
    configs = [TrainConfig(data="digits", dropout=policy) for policy in ("none", "fc=0.5")]
    with pytest.raises(DropkitError, match="3 processes of dropkit compare"):
        compare(configs)


@pytest.mark.parametrize("rank", ["0", "1"])
@pytest.mark.parametrize(("words", "said"), [(["check", "cnn"], "of dropkit check"), (["train"], "required")])
def test_mistakes_are_said_by_the_first_alone(second, monkeypatch, capsys, words, said, rank):
    monkeypatch.setenv("RANK", rank)
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert (said in printed.out + printed.err) is (rank == "0")
    assert bool(second) is (rank == "1")  # it waits, so that torchrun does not end the first before it has spoken
    if rank == "1":
        assert printed == ("", "")


def test_one_voice_gives_the_streams_back(second, capsys):
    with torchrun.one_voice():
        sys.stdout.write("unheard")
    sys.stdout.write("heard")
    assert capsys.readouterr().out == "heard"
