"""Ctrl-C waits for what is being written."""

import signal
import subprocess
import sys
import threading

import pytest

from dropkit.runs.interrupts import Terminated, deferred_interrupt, deferred_termination, terminated_in_order


def test_an_interrupt_waits_for_the_end_of_the_block():
    reached = []

    def work():
        with deferred_interrupt():
            signal.raise_signal(signal.SIGINT)
            reached.append("end")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == ["end"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)  # afterwards it is as before


def test_a_process_that_ignores_interrupts_goes_on_ignoring_them():
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with deferred_interrupt():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, former)


def test_an_error_in_the_block_is_not_hidden():
    with pytest.raises(ValueError, match="inside"), deferred_interrupt():
        raise ValueError("inside")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_are_left_alone():
    failures = []

    def work():
        try:
            with deferred_interrupt():
                pass
        except ValueError as error:  # what signal.signal raises outside the main thread
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []


@pytest.mark.usefixtures("plain_sigterm")
@pytest.mark.parametrize("defer", [deferred_interrupt, deferred_termination])
def test_sigterm_waits_for_the_end_of_the_block(defer):
    reached = []

    def work():
        with defer():
            signal.raise_signal(signal.SIGTERM)
            reached.append("end")

    with pytest.raises(Terminated), terminated_in_order():
        work()
    assert reached == ["end"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_block_can_ask_whether_sigterm_has_come():
    former = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with deferred_termination() as come:
            assert not come()
            signal.raise_signal(signal.SIGTERM)
            assert come()
    finally:
        signal.signal(signal.SIGTERM, former)


def test_a_handler_of_the_callers_is_left_alone_and_called():
    heard = []
    former = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with terminated_in_order(), deferred_termination():
            signal.raise_signal(signal.SIGTERM)
            assert heard == []
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, former)


def test_without_a_handler_the_process_ends_by_the_signal_after_the_block():
    code = (
        "import signal\n"
        "from dropkit.runs.interrupts import deferred_termination\n"
        "with deferred_termination():\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    print('end of the block', flush=True)\n"
        "print('beyond')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGTERM
    assert ended.stdout == "end of the block\n"
