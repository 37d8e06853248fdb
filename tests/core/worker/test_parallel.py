"""The parallel map: bounded threads, results in order, and a common end after a failure."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest

from cts_core.worker.parallel import AbandonedError, ParallelMap

TIMEOUT = 60.0


class Counter:
    """Records how many calls ran at once, at most."""

    def __init__(self) -> None:
        self.max_running = 0
        self._running = 0
        self._lock = threading.Lock()

    @contextmanager
    def one(self):
        with self._lock:
            self._running += 1
            self.max_running = max(self.max_running, self._running)
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1


def test_results_come_in_the_order_of_the_items():
    waited = threading.Event()

    def square(number: int) -> int:
        # The first ends last.
        if number == 0:
            assert waited.wait(TIMEOUT)
        elif number == 9:
            waited.set()
        return number * number

    assert ParallelMap(2).map(square, range(10)) == [number * number for number in range(10)]
    assert ParallelMap(2).map(square, []) == []


def test_concurrency_is_bounded():
    barrier, counter = threading.Barrier(3), Counter()

    def meet(_: int) -> None:
        with counter.one():
            barrier.wait(TIMEOUT)

    ParallelMap(3).map(meet, range(12))
    assert counter.max_running == 3


def test_one_thread_is_the_callers():
    assert set(ParallelMap(1).map(lambda _: threading.current_thread(), range(5))) == {
        threading.current_thread()
    }


def test_nested_maps_share_the_threads():
    parallel, barrier, counter = ParallelMap(3), threading.Barrier(3), Counter()

    def part(_: int) -> None:
        with counter.one():
            barrier.wait(TIMEOUT)

    parallel.map(lambda _: parallel.map(part, range(3)), [0])
    assert counter.max_running == 3

    many = Counter()

    def leaf(_: int) -> None:
        with many.one():
            pass

    parallel.map(lambda _: parallel.map(leaf, range(20)), range(20))
    assert many.max_running <= 3


def test_first_failure_is_raised_after_running_items_end():
    parallel, is_under_way, ended = ParallelMap(2), threading.Event(), []

    def work(name: str) -> None:
        if name == "bad":
            assert is_under_way.wait(TIMEOUT)
            raise ValueError(name)
        is_under_way.set()
        try:
            while True:
                parallel.check()
        except AbandonedError:
            ended.append(name)
            raise

    with pytest.raises(ValueError, match="bad"):
        parallel.map(work, ["bad", "good", "later"])
    assert ended == ["good"], "what had not begun was begun, or what had begun was left"
    parallel.check()
    assert parallel.map(str, [1]) == ["1"], "they are of no more use"


def test_failure_of_a_nested_map_can_be_translated():
    parallel, is_under_way = ParallelMap(2), threading.Event()

    def fail(_: int) -> None:
        assert is_under_way.wait(TIMEOUT)
        raise KeyError

    def work(name: str) -> None:
        if name == "bad":
            try:
                parallel.map(fail, [0])
            except KeyError as e:
                raise ValueError(name) from e
        is_under_way.set()
        while True:
            parallel.check()

    with pytest.raises(ValueError, match="bad"):
        parallel.map(work, ["bad", "good"])


def test_check_stops_further_items():
    begun = []

    class CanceledError(Exception):
        pass

    def check() -> None:
        if len(begun) == 2:
            raise CanceledError

    parallel = ParallelMap(1)
    with pytest.raises(CanceledError):
        parallel.map(begun.append, range(5), check)
    assert begun == [0, 1]
    parallel.check()
