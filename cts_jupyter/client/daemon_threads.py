"""Threads that the end of the process does not wait for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class DaemonThreads:
    """Runs calls on at most ``limit`` daemon threads; further calls wait for their turn.

    A thread ends when nothing waits. Unlike those of an executor, threads that a silent service holds up do not hold up
    the end of Python.
    """

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._running = 0

    def start(self, call: Callable[[], None]) -> None:
        """Run a call, which must not raise, as soon as a thread is free."""
        with self._lock:
            if self._running < self._limit:
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
                self._running += 1
            self._waiting.append(call)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._running -= 1
                    return
                call = self._waiting.popleft()
            call()
