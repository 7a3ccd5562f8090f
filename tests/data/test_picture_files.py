import threading
import time

import pytest

from dropkit.data import picture_files
from dropkit.data.picture_files import in_order


def test_results_come_in_order_whoever_is_first():
    def work(i):
        time.sleep(0.002 * (i % 3 == 0))
        return i

    assert list(in_order(work, range(50))) == list(range(50))


def test_only_a_few_items_are_taken_ahead(monkeypatch):
    monkeypatch.setattr(picture_files, "_usable_cpus", lambda: 2)
    taken = []
    results = in_order(abs, (taken.append(i) or i for i in range(1000)))
    next(results)
    assert len(taken) == 9  # two threads, four items ahead each, and the one that was asked for
    results.close()


def test_a_reader_that_stops_early_leaves_no_thread_and_no_work(monkeypatch):
    monkeypatch.setattr(picture_files, "_usable_cpus", lambda: 2)
    before, release, begun = threading.active_count(), threading.Event(), []

    def work(i):
        begun.append(i)
        if i > 0:
            release.wait(10)
        return i

    results = in_order(work, range(1000))
    next(results)
    threading.Timer(0.1, release.set).start()  # while the two that have begun are waited for
    results.close()
    assert begun == [0, 1, 2]
    assert threading.active_count() <= before + 1  # the timer's own


def test_an_error_of_the_function_is_raised_where_its_result_would_be():
    def work(i):
        return 1 // (i - 3)

    results = in_order(work, range(7))
    assert [next(results) for _ in range(3)] == [-1, -1, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)
