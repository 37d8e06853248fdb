"""Why a job failed, on behalf of its owner: its containers, the limits of its site, and the ends of logs."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Collection

from cts_core.concurrency import cancel_and_wait, run_in_pool
from cts_core.engine.access import check_owner
from cts_core.engine.logs import Logs, LogSpan
from cts_core.engine.sites import SiteDirectory
from cts_core.engine.views import container_views
from cts_core.errors import CTSError, NoLogsError, NoSuchJobError
from cts_core.identity.identity import User
from cts_core.model.record import ContainerQuery, JobRecord, JobSummary
from cts_core.model.site import SiteLimits, SiteName
from cts_core.model.why import Why
from cts_core.records.store import RecordStore
from cts_core.sites.site import LogStream
from cts_core.states import JobState
from cts_core.why import (
    TAIL_BYTES,
    JobFacts,
    Lack,
    LogTail,
    explain,
    find_lack,
    logs_to_read,
    memory_used,
    tail_text,
)

log = logging.getLogger(__name__)

_FAILED = ContainerQuery(states=[JobState.ERROR], outputs=False)

WHY_SECONDS = 5.0
"""The time that an answer waits for logs, and for the limits of the site; it comes without them after that."""


async def lack_of(
    store: RecordStore, job: JobSummary, numbers: Collection[int] | None = None
) -> Lack:
    """Return what a job had too little of, by its failed containers, or by those of these numbers among them."""
    containers = await store.containers(job.id, _FAILED)
    chosen = [each for each in containers if numbers is None or each.sub_id in numbers]
    return find_lack(job.job_input.memory, job.job_input.runtime, chosen)


class Explanations:
    """Says why jobs failed."""

    def __init__(
        self, store: RecordStore, sites: SiteDirectory, logs: Logs, *, max_cpu_hours: float
    ) -> None:
        self._store = store
        self._sites = sites
        self._logs = logs
        self._max_cpu_hours = max_cpu_hours

    async def why(self, user: User, job_id: str) -> Why:
        """Return why the job failed. Raises NoSuchJobError, UnauthorizedError."""
        job = await self._store.get_job(job_id)
        check_owner(user, job)
        records = await self._store.containers(job_id)
        containers = await run_in_pool(container_views, job, records)
        facts = JobFacts(
            state=job.state,
            error=job.error,
            memory=job.job_input.memory,
            runtime=job.job_input.runtime,
            cpus=job.job_input.cpus,
            output_mount=job.job_input.params.output_mount_point,
            memory_used=memory_used(job),
            max_cpu_hours=self._max_cpu_hours,
            lacked_before=await self._lack_of_parent(job),
        )
        numbers = await run_in_pool(logs_to_read, facts, containers)
        limits = asyncio.create_task(self._limits(job.cluster))
        tails = {n: asyncio.create_task(self._tail(user, job, n)) for n in numbers}
        try:
            await asyncio.wait({limits, *tails.values()}, timeout=WHY_SECONDS)
        finally:
            await cancel_and_wait(limits, *tails.values())
        # What was read in time is shown.
        if not limits.cancelled():
            facts = dataclasses.replace(facts, limits=limits.result())
        read = {number: tail.result() for number, tail in tails.items() if not tail.cancelled()}
        return await run_in_pool(explain, facts, containers, read)

    async def _lack_of_parent(self, job: JobRecord) -> Lack:
        if job.parent_id is None or job.state is not JobState.ERROR:
            return Lack()
        try:
            parent = await self._store.get_summary(job.parent_id)
        except NoSuchJobError:
            # An operator has removed it from the store by hand.
            return Lack()
        return await lack_of(self._store, parent)

    async def _limits(self, cluster: SiteName) -> SiteLimits | None:
        try:
            return await self._sites.limits(cluster)
        except CTSError as e:
            log.info("The limits of %s are not known now: %s", cluster.value, e)
            return None

    async def _tail(self, user: User, job: JobRecord, number: int) -> LogTail:
        texts = {}
        for stream in LogStream:
            try:
                span = LogSpan(tail=TAIL_BYTES)
                part = await self._logs.open(user, job.id, number, stream, span)
                content = b"".join([piece async for piece in part.body])
            except NoLogsError:
                # A container that was stopped early, or wrote nothing, may have none.
                continue
            except CTSError as e:
                log.info("%s of container %d cannot be read now: %s", stream.value, number, e)
                continue
            texts[stream.value] = tail_text(content, is_whole=len(content) == part.size)
        return LogTail(**texts)
