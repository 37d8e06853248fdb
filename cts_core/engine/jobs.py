"""Operations of users on their own jobs: listing, reading, canceling."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TypeVar

from cts_core.concurrency import BatchedReads, run_in_pool
from cts_core.engine.access import check_owner
from cts_core.engine.lineage import find_lineage
from cts_core.engine.sites import SiteDirectory
from cts_core.engine.views import (
    container_views,
    job_view,
    make_list_view,
    preview_view,
    status_view,
)
from cts_core.errors import NoSuchJobError, NoSuchRefdataError
from cts_core.identity.identity import User
from cts_core.json_pieces import Written
from cts_core.methods import describe_methods
from cts_core.model.job import (
    MAX_CONTAINERS,
    Containers,
    ExitCodes,
    Job,
    JobPreview,
    JobStatus,
    MetaValue,
)
from cts_core.model.job import Jobs as JobList
from cts_core.model.listing import JobCounts, LabelKeys, LastLook
from cts_core.model.preview import ListedJob
from cts_core.model.record import SEARCHED, ContainerQuery, JobQuery, JobSummary, Waiting
from cts_core.records.store import ALL_CONTAINERS, RecordStore
from cts_core.states import TERMINAL, JobState

_CANCEL_TRIES = len(JobState)
"""A job only moves forward, so that it cannot win the race against a cancel more often than this."""


async def count_containers(
    store: RecordStore, jobs: Sequence[Waiting]
) -> dict[str, dict[str, int]]:
    """Return the number of containers in each state of each job that is not complete: those of a complete one are complete."""
    ids = [job.id for job in jobs if job.state is not JobState.COMPLETE]
    return await store.count_containers(ids) if ids else {}


async def cancel_job(store: RecordStore, job_id: str) -> None:
    """Move a job to ``canceling``. Raises NoSuchJobError also for a job that has ended or is being canceled."""
    for _ in range(_CANCEL_TRIES):
        job = await store.get_summary(job_id)
        if job.state in TERMINAL or job.state is JobState.CANCELING:
            break
        if await store.transition(
            job_id,
            job.state,
            JobState.CANCELING,
            time=await store.now(),
            trans_id=str(uuid.uuid4()),
        ):
            return
    raise NoSuchJobError(
        f"No job with ID '{job_id}' exists that can be canceled: it is {job.state.value}"
    )


_Job = TypeVar("_Job", bound=JobSummary)
_IMPORT_KEYS = frozenset(
    f"cse_event_processing_{outcome}" for outcome in ("complete", "error", "no_operation")
)
"""What the importer of ended jobs adds to a job's metadata; clients of the deployed service wait for one of them."""


def without_import(job: _Job) -> _Job:
    """Return an ended job with the mark that nothing was imported, where nobody else has marked it."""
    mark = _import_mark(job.state, job.updated, job.admin_meta)
    return job.model_copy(update={"admin_meta": job.admin_meta | mark}) if mark else job


def _import_mark(
    state: JobState, updated: datetime, admin_meta: Mapping[str, MetaValue]
) -> dict[str, MetaValue]:
    if state not in TERMINAL or not _IMPORT_KEYS.isdisjoint(admin_meta):
        return {}
    return {"cse_event_processing_no_operation": updated.isoformat()}


def _listed_without_import(job: ListedJob) -> ListedJob:
    mark = _import_mark(job.state, job.updated, job.admin_meta)
    return job._replace(admin_meta={**job.admin_meta, **mark}) if mark else job


_INSTANT = timedelta(milliseconds=1)
"""The smallest difference between the times of two transitions."""


class Jobs:
    """Methods raise NoSuchJobError, and UnauthorizedError for another user's job."""

    def __init__(
        self,
        store: RecordStore,
        sites: SiteDirectory,
        *,
        are_imported: bool,
        on_change: Callable[[str], None],
    ) -> None:
        """``are_imported``: whether there may be someone who imports the outputs of ended jobs, as they hear of them.

        ``on_change(job_id)`` is called for each job that this class moves.
        """
        self._store = store
        # Many clients ask for the states of many jobs, again and again.
        self._summaries = BatchedReads(store.get_summaries)
        self._are_imported = are_imported
        self._sites = sites
        self._on_change = on_change

    async def _summary(self, user: User, job_id: str) -> JobSummary:
        return self._marked(check_owner(user, await self._summaries.get(job_id)))

    def _marked(self, job: _Job) -> _Job:
        return job if self._are_imported else without_import(job)

    async def get(self, user: User, job_id: str) -> Job:
        """Return the whole job."""
        record = check_owner(user, await self._store.get_job(job_id))
        return job_view(self._marked(record), self._sites.waits_for)

    async def preview(self, user: User, job_id: str) -> JobPreview:
        """Return the job without its files, with the number of its containers in each state unless it is complete."""
        job = await self._summary(user, job_id)
        counts = await count_containers(self._store, [job])
        return preview_view(job, counts.get(job_id), self._sites.waits_for)

    async def status(self, user: User, job_id: str, *, containers: bool = False) -> JobStatus:
        """Return the job's state and transitions; with ``containers``, the number of containers in each state."""
        job = await self._summary(user, job_id)
        counts = await count_containers(self._store, [job]) if containers else {}
        return status_view(job, counts.get(job_id), self._sites.waits_for)

    async def events_from(self, user: User, job_id: str, after: datetime | None) -> datetime:
        """Return where a stream of the job's events begins: at ``after`` or its first transition, never after its last.

        A stream that ends with the job therefore contains its end, however late a client subscribes.
        """
        steps = (await self._summary(user, job_id)).transition_times
        return steps[0].recorded_at if after is None else min(after, steps[-1].recorded_at)

    async def list(
        self, user: User, query: JobQuery, *, new: bool = False, containers: bool = False
    ) -> Written[JobList]:
        """Return one page of the user's jobs that match.

        With ``new``, only those that ended since the user's read marker; with ``containers``, each job that is not complete with
        the number of its containers in each state.
        """
        mine = dataclasses.replace(query, user=user.name)
        if new:
            mine = dataclasses.replace(mine, ended=True)
            seen = await self._store.last_look(user.name)
            if seen is not None:
                after = seen + _INSTANT
                mine = dataclasses.replace(mine, after=max(after, query.after or after))
        page = await self._store.list_jobs(mine)
        counts = await count_containers(self._store, page.jobs) if containers else None
        if not self._are_imported:
            page = dataclasses.replace(
                page, jobs=[_listed_without_import(job) for job in page.jobs]
            )
        return await make_list_view(page, mine, counts, self._sites.waits_for)

    async def any_live(self) -> bool:
        """Return whether a job of anybody has not ended."""
        return bool(await self._store.live_jobs())

    async def counts(self, user: User) -> JobCounts:
        """Count the user's jobs."""
        return JobCounts(counts=await self._store.count_jobs(user.name))

    async def set_labels(self, user: User, job_id: str, labels: Mapping[str, str]) -> None:
        """Replace the labels of the job, whatever its state."""
        await self._summary(user, job_id)
        await self._store.set_labels(job_id, labels)

    async def label_keys(self, user: User) -> LabelKeys:
        """Return the keys of the labels of the user's latest jobs."""
        return LabelKeys(keys=await self._store.label_keys(user.name, latest=SEARCHED))

    async def set_last_seen(self, user: User, marker: LastLook) -> None:
        """Set the user's read marker: jobs that end after it are new."""
        await self._store.set_last_look(user.name, min(marker.until, await self._store.now()))

    async def exit_codes(self, user: User, job_id: str) -> ExitCodes:
        """Return the exit code of each container."""
        await self._summary(user, job_id)
        containers = await self._store.containers(job_id)
        return ExitCodes(exit_codes=[container.exit_code for container in containers])

    async def containers(
        self, user: User, job_id: str, query: ContainerQuery = ALL_CONTAINERS
    ) -> Containers:
        """Return one page of the job's containers; with ``outputs`` also the inputs of each."""
        job = None
        if query.outputs:
            job = check_owner(user, await self._store.get_job(job_id))
        else:
            await self._summary(user, job_id)
        limit = query.limit or MAX_CONTAINERS
        # One more than the page holds, to see whether there is another page.
        records = await self._store.containers(job_id, dataclasses.replace(query, limit=limit + 1))
        shown = records[:limit]
        return Containers.model_construct(
            containers=container_views(job, shown),
            next=shown[-1].sub_id if len(records) > len(shown) else None,
        )

    async def methods(self, user: User, job_id: str) -> str:
        """Return the paragraph on the job for a paper."""
        job = await self._store.get_job(job_id)
        check_owner(user, job)
        refdata = None
        if job.image.refdata_id is not None:
            with suppress(NoSuchRefdataError):
                refdata = await self._store.get_refdata(job.image.refdata_id)
        lineage = [member.id for member in await find_lineage(self._store, job)]
        return await run_in_pool(describe_methods, job, refdata, lineage)

    async def cancel(self, user: User, job_id: str) -> None:
        """Cancel the job. Raises NoSuchJobError also for a job that has ended or is being canceled."""
        await self._summary(user, job_id)
        await cancel_job(self._store, job_id)
        self._on_change(job_id)
