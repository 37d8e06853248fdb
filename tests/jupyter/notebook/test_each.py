"""Something is done with each of many things, several at a time."""

from __future__ import annotations

import threading

import pytest

from cts_jupyter.client.transport import CTSConnectionError, CTSRequestError
from cts_jupyter.notebook import each
from cts_jupyter.notebook.each import AT_ONCE, StoppedError, try_each
from cts_jupyter.notebook.errors import MagicError


def test_as_many_as_allowed_run_at_once_and_results_are_in_order():
    # All wait for each other: fewer at once would break the barrier, and more would leave a part of them in it.
    barrier = threading.Barrier(AT_ONCE)
    lock = threading.Lock()
    running, most = 0, 0

    def action(number, _stop):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        barrier.wait(30)
        with lock:
            running -= 1
        return -number

    attempts = try_each(range(3 * AT_ONCE), action, doing="put")
    assert list(attempts.done.items()) == [(n, -n) for n in range(3 * AT_ONCE)]
    assert attempts.failed == {}
    assert most == AT_ONCE


def test_failure_of_one_leaves_the_others_alone():
    def action(number, _stop):
        if number == 1:
            raise CTSRequestError("no", status=400)
        return number

    attempts = try_each(range(3), action, doing="put")
    assert list(attempts.done) == [0, 2]
    assert list(attempts.failed) == [1]


def test_failure_of_all_ends_it_with_what_is_under_way():
    begun = []

    def action(number, _stop):
        begun.append(number)
        raise CTSConnectionError("gone")

    with pytest.raises(CTSConnectionError):
        try_each(range(1000), action, doing="put")
    assert len(begun) <= AT_ONCE


def test_interrupt_stops_what_is_under_way(monkeypatch):
    stopped = threading.Event()

    def action(_number, stop):
        try:
            while True:
                stop.check(1)
        except StoppedError:
            stopped.set()
            raise

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(each, "wait", interrupt)
    with pytest.raises(MagicError, match="put is done for 0 of 3"):
        try_each(range(3), action, doing="put")
    assert stopped.wait(30)
