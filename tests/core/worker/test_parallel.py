"""Things done at once: in few threads, in order, and given up together."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest

from cts_core.worker.parallel import AbandonedError, ParallelMap

PATIENCE = 60.0


class Counter:
    """How many were there at once, at most."""

    def __init__(self) -> None:
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    @contextmanager
    def one(self):
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            yield
        finally:
            with self._lock:
                self._now -= 1


def test_results_come_in_the_order_of_the_items():
    waited = threading.Event()

    def square(number: int) -> int:
        # The first ends last.
        if number == 0:
            assert waited.wait(PATIENCE)
        elif number == 9:
            waited.set()
        return number * number

    assert ParallelMap(2).map(square, range(10)) == [number * number for number in range(10)]
    assert ParallelMap(2).map(square, []) == []


def test_as_many_are_done_at_once_as_there_are_lanes_and_no_more():
    together, counter = threading.Barrier(3), Counter()

    def meet(_: int) -> None:
        with counter.one():
            together.wait(PATIENCE)

    ParallelMap(3).map(meet, range(12))
    assert counter.most == 3


def test_one_lane_is_the_thread_that_asks():
    assert set(ParallelMap(1).map(lambda _: threading.current_thread(), range(5))) == {
        threading.current_thread()
    }


def test_parts_are_done_by_the_same_lanes_and_by_all_that_are_free():
    lanes, together, counter = ParallelMap(3), threading.Barrier(3), Counter()

    def part(_: int) -> None:
        with counter.one():
            together.wait(PATIENCE)

    lanes.map(lambda _: lanes.map(part, range(3)), [0])
    assert counter.most == 3

    many = Counter()

    def leaf(_: int) -> None:
        with many.one():
            pass

    lanes.map(lambda _: lanes.map(leaf, range(20)), range(20))
    assert many.most <= 3


def test_the_first_failure_is_raised_when_the_others_have_ended():
    lanes, is_under_way, ended = ParallelMap(2), threading.Event(), []

    def work(name: str) -> None:
        if name == "bad":
            assert is_under_way.wait(PATIENCE)
            raise ValueError(name)
        is_under_way.set()
        try:
            while True:
                lanes.check()
        except AbandonedError:
            ended.append(name)
            raise

    with pytest.raises(ValueError, match="bad"):
        lanes.map(work, ["bad", "good", "later"])
    assert ended == ["good"], "what had not begun was begun, or what had begun was left"
    lanes.check()
    assert lanes.map(str, [1]) == ["1"], "they are of no more use"


def test_a_failure_of_a_part_is_what_it_was_turned_into():
    lanes, is_under_way = ParallelMap(2), threading.Event()

    def fail(_: int) -> None:
        assert is_under_way.wait(PATIENCE)
        raise KeyError

    def work(name: str) -> None:
        if name == "bad":
            try:
                lanes.map(fail, [0])
            except KeyError as e:
                raise ValueError(name) from e
        is_under_way.set()
        while True:
            lanes.check()

    with pytest.raises(ValueError, match="bad"):
        lanes.map(work, ["bad", "good"])


def test_what_is_not_wanted_any_more_is_not_begun():
    begun = []

    class CanceledError(Exception):
        pass

    def is_wanted() -> None:
        if len(begun) == 2:
            raise CanceledError

    lanes = ParallelMap(1)
    with pytest.raises(CanceledError):
        lanes.map(begun.append, range(5), is_wanted)
    assert begun == [0, 1]
    lanes.check()
