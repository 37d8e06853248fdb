"""A monotonic clock that a test moves."""

from __future__ import annotations


class MonotonicClock:
    """Stands for the module ``time`` where only its monotonic clock is read."""

    now = 1000.0

    def monotonic(self) -> float:
        """Return the seconds that the test has set."""
        return self.now
