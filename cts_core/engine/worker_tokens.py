"""Tokens by which remote workers authenticate: one for each container, valid while its job lives."""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress
from datetime import timedelta

from cachetools import FIFOCache
from pydantic import SecretStr

from cts_core.clock import utc_now
from cts_core.model.record import JobSummary
from cts_core.model.worker import ContainerId
from cts_core.records.store import RecordStore

PREFIX = "cts-worker."
"""Begins every worker token and tells it from other tokens; the rest is random."""
LIFETIME = timedelta(days=30)
"""As long as a container may wait in a queue, and run; its token ends with its job."""
MAX_CACHED = 20_000
"""Tokens of the latest starts that are cached for a retry of the start, as a pool may be full for long."""


def token_hash(token: str) -> str:
    """Return the hash that the records keep of a token, which is random and long: a salt would add nothing."""
    return hashlib.sha256(token.encode()).hexdigest()


class WorkerTokens:
    """Issues and recognises worker tokens."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self._issued: FIFOCache[str, list[SecretStr]] = FIFOCache(MAX_CACHED, len)

    async def issue(self, job: JobSummary) -> list[SecretStr]:
        """Return a token for each container of a job, in the order of their numbers. Raises NoSuchJobError.

        While the tokens are cached, a second call returns them again.
        """
        if job.id in self._issued:
            return self._issued[job.id]
        count = job.job_input.num_containers
        tokens = [PREFIX + secrets.token_urlsafe(32) for _ in range(count)]
        now = await self._store.now()
        numbers = {token_hash(token): number for number, token in enumerate(tokens)}
        await self._store.add_worker_tokens(job.id, numbers, now=now, until=now + LIFETIME)
        issued = [SecretStr(token) for token in tokens]
        with suppress(ValueError):  # one job has more tokens than the cache holds
            self._issued[job.id] = issued
        return issued

    async def find(self, token: str) -> ContainerId | None:
        """Return the container that a token belongs to; None for an unknown token, and once the job has ended."""
        # By this server's clock, to save a question to the store at each request: tokens are valid for days.
        return await self._store.find_worker_token(token_hash(token), now=utc_now())

    async def claimants(self, job_id: str) -> dict[int, str]:
        """Return, by container number, the processes that have claimed containers of a job."""
        claims = await self._store.claims(job_id)
        return {number: claim.process for number, claim in claims.items()}
