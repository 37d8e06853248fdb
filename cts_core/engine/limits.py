"""What one user may do at a time. Each server process counts for itself; live containers are the store's."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from cts_core.config.sections import LimitsSettings
from cts_core.errors import TooManyRequestsError
from cts_core.identity.identity import User
from cts_core.records.store import RecordStore

REMEMBERED = 10_000
"""Users whose recent requests are remembered, of each kind. The one who asked longest ago is forgotten first."""
CONTAINERS_RETRY_SECONDS = 60
"""When to look again whether containers have ended: nobody can tell when they will."""


@dataclass
class _Bucket:
    left: float
    at: float


class RateLimit:
    """So many a minute for each user: a bucket that fills steadily, and holds a minute's worth."""

    def __init__(
        self, per_minute: int, what: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``what`` is asked for in messages; ``clock`` is in seconds."""
        self._per_minute = per_minute
        self._what = what
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, user: User) -> None:
        """Count a request. Raises TooManyRequestsError, which says when to come again."""
        now = self._clock()
        bucket = self._buckets.pop(user.name, None) or _Bucket(self._per_minute, now)
        rate = self._per_minute / 60
        bucket.left = min(self._per_minute, bucket.left + (now - bucket.at) * rate)
        bucket.at = now
        self._buckets[user.name] = bucket
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        if bucket.left < 1:
            seconds = max(1, math.ceil((1 - bucket.left) / rate))
            raise TooManyRequestsError(
                f"User {user.name} may {self._what} {self._per_minute} times a minute: try again in {seconds} s",
                retry_after=seconds,
            )
        bucket.left -= 1


class Limits:
    """The limits of the settings. Every method raises TooManyRequestsError."""

    def __init__(self, settings: LimitsSettings, store: RecordStore) -> None:
        self._store = store
        self._containers = settings.live_containers
        self._submissions = RateLimit(settings.submissions_per_min, "submit jobs")
        self._checks = RateLimit(settings.checks_per_min, "check jobs")

    def check(self, user: User) -> None:
        """A job is to be checked."""
        self._checks.take(user)

    async def submission(self, user: User, containers: int) -> None:
        """A job with so many containers is to be submitted."""
        self._submissions.take(user)
        live = await self._store.live_containers(user.name)
        if live + containers > self._containers:
            raise TooManyRequestsError(
                f"User {user.name} has {live} containers that have not ended, and may have {self._containers}: "
                f"submit a job of {containers} once enough of them have ended",
                retry_after=CONTAINERS_RETRY_SECONDS,
            )
