"""An action that follows many changes at a bearable pace."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

SECONDS_BETWEEN = 1.0


class Throttle:
    """Does something soon after it is asked to, on a thread, and at most once a second."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action
        self._lock = threading.Lock()
        self._done = 0.0
        self._timer: threading.Timer | None = None

    def soon(self) -> None:
        """Do it now, or as soon as a second has passed since the last time."""
        with self._lock:
            if self._timer is not None:
                return
            wait = self._done + SECONDS_BETWEEN - time.monotonic()
            self._timer = threading.Timer(max(wait, 0), self._run)
            self._timer.daemon = True
            self._timer.start()

    def now(self) -> None:
        """Do it now, on this thread, in the place of the next time."""
        self.stop()
        self._run()

    def stop(self) -> None:
        """Leave out the next time."""
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def note_done(self) -> None:
        """Count what was done otherwise as done now."""
        with self._lock:
            self._done = time.monotonic()

    def _run(self) -> None:
        with self._lock:
            self._timer = None
            self._done = time.monotonic()
        self._action()
