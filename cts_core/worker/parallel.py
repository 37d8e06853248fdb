"""A bounded parallel map whose first failure stops the rest."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Callable, Deque, Dict, Generic, Iterable, List, Tuple, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class AbandonedError(Exception):
    """Another item of the same map has failed, so that this one is not needed."""


class ParallelMap:
    """Calls a function for many items at once, in the caller's thread and up to ``max_threads - 1`` further ones.

    A function may itself call ``map``: the nested items are run by the same threads, as these become free.
    """

    def __init__(self, max_threads: int) -> None:
        """``max_threads``: the most threads that run at once, the caller's included."""
        self._free = max_threads - 1
        self._changed = threading.Condition()
        self._batches: List[_Batch[Any, Any]] = []
        """Each is nested in one before it, or runs beside one that is."""
        self._threads: List[threading.Thread] = []
        self._has_failed = False
        self._check: Callable[[], None] = _no_check

    def check(self) -> None:
        """Raise AbandonedError after a failure, or else call the ``check`` that was given to ``map``."""
        if self._has_failed:
            raise AbandonedError
        self._check()

    def map(
        self,
        function: Callable[[_Item], _Result],
        items: Iterable[_Item],
        check: Callable[[], None] | None = None,
    ) -> List[_Result]:
        """Return ``function(item)`` for each item, in order. Raises the first failure, after all running items have ended.

        ``check`` is called now and then, from any thread; what it raises counts as a failure.
        """
        batch = _Batch(function, items)
        with self._changed:
            self._batches.append(batch)
            if check is not None:
                self._check = check
        self._work(batch)
        with self._changed:
            self._changed.wait_for(lambda: not batch.running)
            self._batches.remove(batch)
            is_over = not self._batches
        if is_over:
            # No item is waiting, so the threads end by themselves.
            while self._threads:
                self._threads.pop().join()
            self._has_failed, self._check = False, _no_check
        return batch.results()

    def _work(self, batch: _Batch[Any, Any] | None = None) -> None:
        """Run waiting items: of one batch, or of any."""
        while True:
            with self._changed:
                current = self._next_batch() if batch is None else batch
                if current is None or not current.waiting or self._has_failed:
                    if batch is None:
                        self._free += 1
                    return
                index, item = current.waiting.popleft()
                current.running += 1
                if self._free and self._next_batch():
                    self._free -= 1
                    self._threads.append(threading.Thread(target=self._work, name="parallel"))
                    self._threads[-1].start()
            has_failed = not current.run(index, item, self.check)
            with self._changed:
                self._has_failed |= has_failed
                current.running -= 1
                self._changed.notify_all()

    def _next_batch(self) -> _Batch[Any, Any] | None:
        """Return the newest batch with waiting items: nested batches finish before new items start."""
        return next((batch for batch in reversed(self._batches) if batch.waiting), None)


class _Batch(Generic[_Item, _Result]):
    """The items of one call of ``map``."""

    def __init__(self, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> None:
        self.waiting: Deque[Tuple[int, _Item]] = deque(enumerate(items))
        self.running = 0
        self._do = function
        self._count = len(self.waiting)
        self._done: Dict[int, _Result] = {}
        self._failure: BaseException | None = None

    def run(self, index: int, item: _Item, check: Callable[[], None]) -> bool:
        """Run one item, and return whether it succeeded."""
        try:
            check()
            self._done[index] = self._do(item)
        except BaseException as e:  # noqa: BLE001 - raised again by results()
            if self._failure is None or isinstance(self._failure, AbandonedError):
                self._failure = e
            return False
        return True

    def results(self) -> List[_Result]:
        """Return all results, or raise the first failure."""
        if self._failure is not None:
            raise self._failure
        if len(self._done) < self._count:
            raise AbandonedError
        return [self._done[index] for index in range(self._count)]


def _no_check() -> None:
    """Pass: without a ``check``, nothing stops a map but a failure."""
