import pytest

from dropkit.bench import timing
from dropkit.bench.timing import Timing, in_turn


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on only by what the timed calls say they take."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def taking(seconds):
        def call():
            now[0] += seconds if isinstance(seconds, float) else next(seconds)

        return call

    return taking


def test_each_call_is_timed_once_a_round_and_short_ones_several_times(clock):
    timings = in_turn({"long": clock(0.1), "short": clock(1e-5)}, seconds=2.0)
    assert timings["long"].median == pytest.approx(0.1)
    assert timings["short"].median == pytest.approx(1e-5)
    assert len(timings["long"].seconds) == len(timings["short"].seconds)
    assert 15 <= len(timings["long"].seconds) <= 20


@pytest.mark.parametrize(("seconds", "rounds"), [(0.001, 5), (1e6, 101)])
def test_rounds_have_limits(clock, seconds, rounds):
    assert len(in_turn({"a": clock(0.1)}, seconds)["a"].seconds) == rounds


def test_calls_take_turns(clock):
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    slow = clock(1.0)
    in_turn({name: lambda call=call: (call(), slow()) for name, call in calls.items()}, 0.0)
    assert order[-15:] == list("abc") * 5


def test_the_ratio_is_taken_within_each_round():
    """A slow moment that meets both of a round does not count."""
    base, other = Timing([1.0, 50.0, 1.0, 1.0, 30.0]), Timing([2.0, 100.0, 2.0, 2.0, 60.0])
    assert other.ratio(base) == 2.0
    assert Timing([1.0, 2.0, 3.0, 4.0, 5.0]).quartiles == (1.5, 4.5)
