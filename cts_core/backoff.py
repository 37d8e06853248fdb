"""Exponential backoff: the delay before a retry."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

from cachetools import FIFOCache

from cts_core.worker.backoff import exponential_delay

MAX_KEYS = 2000
"""Keys that a KeyedBackoff remembers unless it is given another bound."""


@dataclass(frozen=True)
class Backoff:
    """Delays that double with each failure in a row, from ``first`` up to ``longest``, both in seconds.

    For one loop that counts its own failures; see KeyedBackoff for many things at once.
    """

    first: float
    longest: float = math.inf
    jitter: float = 0.0
    """The fraction of a delay that is random: 0.5 spreads delays between half of the full one and the full one."""

    def delay(self, failures: int) -> float:
        """Return the seconds to wait after this many failures in a row; at least one."""
        full = exponential_delay(failures - 1, first=self.first, longest=self.longest)
        if not self.jitter:
            return full
        return random.uniform((1 - self.jitter) * full, full)  # noqa: S311 - spreads load, no secret


@dataclass(frozen=True)
class _Entry:
    until: float
    """By the monotonic clock."""
    failures: int = 0
    reason: str | None = None


class KeyedBackoff:
    """A Backoff for each of many keys, of which at most ``max_keys`` are remembered.

    Beyond that bound, the key that was set longest ago is forgotten, as if it had not failed.
    """

    def __init__(self, backoff: Backoff, *, max_keys: int = MAX_KEYS) -> None:
        self._backoff = backoff
        self._entries: FIFOCache[str, _Entry] = FIFOCache(max_keys)

    def __len__(self) -> int:
        """Return the number of keys that have failed or were deferred, and were not reset."""
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        """Return whether the key has failed or was deferred, and was not reset."""
        return key in self._entries

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys that have failed or were deferred, and were not reset."""
        return iter(self._entries)

    def is_due(self, key: str) -> bool:
        """Return whether the key may be tried now."""
        return self.seconds_left(key) <= 0

    def seconds_left(self, key: str) -> float:
        """Return the seconds until the key is due; 0 or less if it is due now."""
        entry = self._entries.get(key)
        return entry.until - time.monotonic() if entry else 0.0

    def failures(self, key: str) -> int:
        """Return how many times in a row the key has failed."""
        entry = self._entries.get(key)
        return entry.failures if entry else 0

    def reason(self, key: str) -> str | None:
        """Return why the key has to wait; None if it is due, or was only deferred."""
        return None if self.is_due(key) else self._entries[key].reason

    def fail(self, key: str, reason: str) -> float:
        """Record a failure and return the seconds until the key is due again."""
        failures = self.failures(key) + 1
        delay = self._backoff.delay(failures)
        self._entries[key] = _Entry(time.monotonic() + delay, failures, reason)
        return delay

    def defer(self, key: str, seconds: float) -> None:
        """Make the key due after so many seconds, although it has not failed; its failures are forgotten."""
        self._entries[key] = _Entry(time.monotonic() + seconds)

    def reset(self, key: str) -> None:
        """Forget the key: it has succeeded, or is not needed any more."""
        self._entries.pop(key, None)
