"""Limits per user. Each server process counts requests for itself; live containers are counted in the record store."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cachetools import FIFOCache

from cts_core.config.sections import LimitsSettings
from cts_core.errors import TooManyRequestsError
from cts_core.identity.identity import User
from cts_core.records.store import RecordStore

MAX_USERS = 10_000
"""Users whose recent requests each rate limit remembers; it forgets the one with the oldest last request first."""
CONTAINERS_RETRY_SECONDS = 60
"""Seconds after which a client should retry: the end of containers cannot be foreseen."""

PLACE_RETRY_SECONDS = 1
"""Seconds after which a client should retry that found no place."""


@dataclass
class _Bucket:
    left: float
    at: float


class RateLimit:
    """A token bucket for each user, which fills steadily and holds the requests of one minute."""

    def __init__(
        self, per_minute: int, what: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``what`` completes the message "User ... may ..."; ``clock`` is in seconds."""
        self._per_minute = per_minute
        self._what = what
        self._clock = clock
        self._buckets: FIFOCache[str, _Bucket] = FIFOCache(MAX_USERS)

    def consume(self, user: User) -> None:
        """Count a request. Raises TooManyRequestsError, which says when to retry."""
        now = self._clock()
        bucket = self._buckets.get(user.name) or _Bucket(self._per_minute, now)
        rate = self._per_minute / 60
        bucket.left = min(self._per_minute, bucket.left + (now - bucket.at) * rate)
        bucket.at = now
        self._buckets[user.name] = bucket
        if bucket.left < 1:
            seconds = max(1, math.ceil((1 - bucket.left) / rate))
            raise TooManyRequestsError(
                f"User {user.name} may {self._what} {self._per_minute} times a minute: try again in {seconds} s",
                retry_after=seconds,
            )
        bucket.left -= 1


class Places:
    """Counts the requests of one kind that are in progress: at most so many in all, and of one user."""

    def __init__(self, what: str, most: int, *, of_user: int) -> None:
        """``what`` completes the message "Too many requests ..."."""
        self._what = what
        self._most = most
        self._of_user = of_user
        self._taken: Counter[str] = Counter()

    @contextmanager
    def take(self, user: User) -> Iterator[None]:
        """Count a request until it ends. Raises TooManyRequestsError."""
        if self._taken[user.name] >= self._of_user or self._taken.total() >= self._most:
            raise TooManyRequestsError(
                f"Too many requests {self._what}: try again in {PLACE_RETRY_SECONDS} s",
                retry_after=PLACE_RETRY_SECONDS,
            )
        self._taken[user.name] += 1
        try:
            yield
        finally:
            self._taken[user.name] -= 1
            # Forgets users without any.
            self._taken += Counter()


class Limits:
    """The limits of the settings. Every method raises TooManyRequestsError."""

    def __init__(self, settings: LimitsSettings, store: RecordStore) -> None:
        self._store = store
        self._containers = settings.live_containers
        self._submissions = RateLimit(settings.submissions_per_min, "submit jobs")
        self._checks = RateLimit(settings.checks_per_min, "check jobs")

    def count_check(self, user: User) -> None:
        """Count a request to check a job."""
        self._checks.consume(user)

    def count_submission(self, user: User) -> None:
        """Count a request to submit a job."""
        self._submissions.consume(user)

    async def check_containers(self, user: User, containers: int) -> None:
        """Check that the user may have so many more live containers."""
        # The exact number takes a further read, which most submissions do without.
        if await self._store.live_containers_at_most(user.name) + containers <= self._containers:
            return
        live = await self._store.live_containers(user.name)
        if live + containers > self._containers:
            raise TooManyRequestsError(
                f"User {user.name} has {live} containers that have not ended, and may have {self._containers}: "
                f"submit a job of {containers} once enough of them have ended",
                retry_after=CONTAINERS_RETRY_SECONDS,
            )
