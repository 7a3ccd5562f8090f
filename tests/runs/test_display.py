"""Progress: plain lines when not a terminal, nothing when not wanted."""

import pytest

from dropkit.runs import display
from dropkit.runs.display import Lines, Live, duration, training_display

ROW = {"epoch": 3, "val_loss": 0.5, "val_error": 0.125, "train_loss": 0.25, "images_per_second": 1234.5, "seconds": 6.0}


def test_an_epoch_is_one_plain_line_with_loss_gap_speed_and_time_left(capsys):
    with training_display(10, show=True) as shown:
        assert isinstance(shown, Lines)
        shown.step(3, 1, 2)
        shown.epoch(ROW)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "epoch 3/10 val loss 0.500 error 12.50% gap +0.250 1,234 images/s <14 s left\n"


def test_lines_are_at_least_two_seconds_apart_and_the_last_is_never_lost(capsys, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: clock[0])
    with training_display(9, show=True) as shown:
        for epoch in (1, 2, 3, 4):
            shown.epoch({**ROW, "epoch": epoch})
            clock[0] += 0.9
    epochs = [line.split()[1] for line in capsys.readouterr().err.splitlines()]
    assert epochs == ["1/9", "4/9"]


def test_silence_when_not_wanted(capsys):
    with training_display(10, show=False) as shown:
        shown.step(1, 1, 2)
        shown.epoch(ROW)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_live_line(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich's word for: treat this as a terminal
    monkeypatch.setenv("COLUMNS", "140")
    with training_display(10, show=True) as shown:
        assert isinstance(shown, Live)
        shown.step(4, 1, 2)
        shown.epoch(ROW)
    assert "val loss 0.500" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (99, "99 s"),
        (100, "2 min"),
        (3599, "60 min"),
        (5940, "99 min"),
        (6000, "1 h 40 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds, text):
    assert duration(seconds) == text
