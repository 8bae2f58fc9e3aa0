"""Threads that work ahead: in order, bounded, and no further than somebody wants."""

from __future__ import annotations

import threading
import time

import pytest

from robustad._ahead import ahead


def test_results_come_in_order_however_long_each_takes():
    def call(item):
        time.sleep(0.02 * (item % 3 == 0))
        return -item

    assert list(ahead(call, range(20), num_workers=4, window=6)) == [-item for item in range(20)]


def test_no_more_wait_than_the_window_holds():
    taken, done = [], []
    stream = ahead(done.append, (taken.append(i) or i for i in range(100)), window=5)
    next(stream)
    assert len(taken) == 5
    stream.close()
    assert len(taken) == 5


def test_the_first_error_ends_it_and_nothing_is_begun_afterwards():
    begun, let = [], threading.Event()

    def call(item):
        begun.append(item)
        if item == 1:
            raise ValueError("one")
        if item > 1:
            let.wait(5)
        return item

    stream = ahead(call, range(50), num_workers=1, window=10)
    assert next(stream) == 0
    threading.Timer(0.2, let.set).start()
    with pytest.raises(ValueError, match="one"):
        list(stream)
    assert len(begun) <= 3
