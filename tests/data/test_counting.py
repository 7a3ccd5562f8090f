import io

from rich.console import Console

from dropkit.data import counting as module
from dropkit.data.counting import counting


class Clock:
    """Time that passes only when told."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


def test_two_seconds_pass_in_silence_then_plain_lines_come_now_and_then(monkeypatch, capsys):
    clock = Clock(monkeypatch)
    with counting("reading pictures", 1700, show=True) as tick:
        for seconds in (1, 0.5, 1, 1, 5):
            clock.now += seconds
            tick(300)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["reading pictures: 900 of 1,700", "reading pictures: 1,500 of 1,700"]


def test_nothing_is_shown_where_nothing_is_wanted(monkeypatch, capsys):
    clock = Clock(monkeypatch)
    with counting("reading pictures", 7, show=False) as tick:
        clock.now += 100
        tick(7)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_that_goes_away(monkeypatch):
    clock, terminal = Clock(monkeypatch), io.StringIO()
    monkeypatch.setattr(module, "Console", lambda stderr: Console(file=terminal, force_terminal=True, width=80))
    with counting("reading pictures", 7, show=True) as tick:
        tick(1)
        assert terminal.getvalue() == ""
        clock.now += 3
        tick(4)
    assert "reading pictures" in terminal.getvalue()
    assert "5/7" in terminal.getvalue()
