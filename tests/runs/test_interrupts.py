"""Ctrl-C waits for what is being written."""

import signal
import threading

import pytest

from dropkit.runs.interrupts import deferred_interrupt


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
