"""Does several things at once, in a bounded number of threads; the first failure ends all."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Callable, Deque, Dict, Generic, Iterable, List, Tuple, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class AbandonedError(Exception):
    """What was done beside this has failed, and this is needed no more."""


class Lanes:
    """Threads to do things in, of which one is the caller's: a thread at a time.

    What is done in one may have its parts done by the same lanes, by those that are free or become so.
    """

    def __init__(self, width: int) -> None:
        """``width``: how many threads there are at most."""
        self._free = width - 1
        self._changed = threading.Condition()
        self._rounds: List[_Round[Any, Any]] = []
        """Each within one before it, or beside one that is."""
        self._threads: List[threading.Thread] = []
        self._has_failed = False
        self._is_wanted: Callable[[], None] = _yes

    def check(self) -> None:
        """Raise AbandonedError where something has failed, and whatever says that none of it is wanted any more."""
        if self._has_failed:
            raise AbandonedError
        self._is_wanted()

    def each(
        self,
        do: Callable[[_Item], _Result],
        items: Iterable[_Item],
        is_wanted: Callable[[], None] | None = None,
    ) -> List[_Result]:
        """What ``do`` returns for each item, in their order. Raises its first failure, once nothing is under way.

        ``is_wanted`` is called now and then, from any thread; what it raises is a failure.
        """
        own = _Round(do, items)
        with self._changed:
            self._rounds.append(own)
            if is_wanted is not None:
                self._is_wanted = is_wanted
        self._work(own)
        with self._changed:
            self._changed.wait_for(lambda: not own.under_way)
            self._rounds.remove(own)
            is_over = not self._rounds
        if is_over:
            # Nothing waits, so they end.
            while self._threads:
                self._threads.pop().join()
            self._has_failed, self._is_wanted = False, _yes
        return own.results()

    def _work(self, own: _Round[Any, Any] | None = None) -> None:
        """Do what waits, of one round or of any."""
        while True:
            with self._changed:
                taken = self._next() if own is None else own
                if taken is None or not taken.waiting or self._has_failed:
                    if own is None:
                        self._free += 1
                    return
                place, item = taken.waiting.popleft()
                taken.under_way += 1
                if self._free and self._next():
                    self._free -= 1
                    self._threads.append(threading.Thread(target=self._work, name="lane"))
                    self._threads[-1].start()
            has_failed = not taken.do(place, item, self.check)
            with self._changed:
                self._has_failed |= has_failed
                taken.under_way -= 1
                self._changed.notify_all()

    def _next(self) -> _Round[Any, Any] | None:
        """The newest round of which something waits: what was begun is to be ended."""
        return next((one for one in reversed(self._rounds) if one.waiting), None)


class _Round(Generic[_Item, _Result]):
    """What is asked of the lanes at once."""

    def __init__(self, do: Callable[[_Item], _Result], items: Iterable[_Item]) -> None:
        self.waiting: Deque[Tuple[int, _Item]] = deque(enumerate(items))
        self.under_way = 0
        self._do = do
        self._count = len(self.waiting)
        self._done: Dict[int, _Result] = {}
        self._failure: BaseException | None = None

    def do(self, place: int, item: _Item, check: Callable[[], None]) -> bool:
        """Whether it could be done."""
        try:
            check()
            self._done[place] = self._do(item)
        except BaseException as e:  # noqa: BLE001 - it is raised to whoever asked for the round
            if self._failure is None or isinstance(self._failure, AbandonedError):
                self._failure = e
            return False
        return True

    def results(self) -> List[_Result]:
        """All, or else why not."""
        if self._failure is not None:
            raise self._failure
        if len(self._done) < self._count:
            raise AbandonedError
        return [self._done[place] for place in range(self._count)]


def _yes() -> None:
    """It is wanted."""
