"""Operations of admins on all users' jobs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from cts_core.engine.jobs import cancel_job, count_containers
from cts_core.engine.sites import SiteDirectory
from cts_core.engine.transitions import check_number
from cts_core.engine.views import admin_container_view, admin_view, event_of, make_list_view
from cts_core.errors import IllegalParameterError, JobStateError
from cts_core.events.outbox import Outbox
from cts_core.events.publisher import EventPublisher
from cts_core.identity.identity import User
from cts_core.json_pieces import Written
from cts_core.model.admin import (
    AdminJobDetails,
    SubJob,
    SubJobs,
    UnsentNotifications,
    UpdateAdminMeta,
)
from cts_core.model.job import ExitCodes
from cts_core.model.job import Jobs as JobList
from cts_core.model.listing import JobCounts
from cts_core.model.record import AuditEntry, JobQuery
from cts_core.records.store import RecordStore
from cts_core.states import TERMINAL, JobState

MAX_META_KEYS = 1000
"""Keys of one job's admin metadata."""
_INT64 = 1 << 63


class AdminJobs:
    """Methods that name a job raise NoSuchJobError. The route table checks that the caller is an admin."""

    def __init__(
        self,
        store: RecordStore,
        sites: SiteDirectory,
        publisher: EventPublisher,
        outbox: Outbox,
        *,
        on_change: Callable[[str], None],
    ) -> None:
        """``on_change(job_id)`` is called for each job that this class moves."""
        self._store = store
        self._sites = sites
        self._publisher = publisher
        self._outbox = outbox
        self._on_change = on_change

    async def list(self, query: JobQuery, *, containers: bool = False) -> Written[JobList]:
        """Return one page of all users' jobs that match.

        With ``containers``, each job that is not complete with the number of its containers in each state.
        """
        page = await self._store.list_jobs(query)
        counts = await count_containers(self._store, page.jobs) if containers else None
        return await make_list_view(page, query, counts, self._sites.waits_for)

    async def counts(self, user: str | None) -> JobCounts:
        """Count the jobs of one user, or of all."""
        return JobCounts(counts=await self._store.count_jobs(user))

    async def get(self, job_id: str) -> AdminJobDetails:
        """Return the job with every field of its record."""
        return admin_view(await self._store.get_job(job_id), self._sites.waits_for)

    async def exit_codes(self, job_id: str) -> ExitCodes:
        """Return the exit code of each container."""
        containers = await self._store.containers(job_id)
        return ExitCodes(exit_codes=[container.exit_code for container in containers])

    async def containers(self, job_id: str) -> SubJobs:
        """Return the job's containers."""
        records = await self._store.containers(job_id)
        return SubJobs.model_construct(subjobs=[admin_container_view(r) for r in records])

    async def container(self, job_id: str, number: int) -> SubJob:
        """Return one container. Raises NoSuchContainerError."""
        check_number(await self._store.get_summary(job_id), number)
        return admin_container_view(await self._store.container(job_id, number))

    async def cancel(self, admin: User, job_id: str) -> None:
        """Cancel the job. Raises NoSuchJobError also for a job that has ended or is being canceled."""
        await cancel_job(self._store, job_id)
        self._on_change(job_id)
        await self._audit(admin, job_id, "cancel")

    async def clean(self, admin: User, job_id: str, *, force: bool) -> None:
        """Remove what the job left at its site, once it has ended.

        With ``force`` this works in every state, and the job is not marked as cleaned. Raises IllegalParameterError.
        """
        job = await self._store.get_summary(job_id)
        if not force:
            if job.cleaned:
                return
            if job.state not in TERMINAL:
                raise IllegalParameterError(
                    f"Job {job_id} is {job.state.value}, and only a job that has ended can be cleaned; force "
                    "cleans it all the same, and what runs of it fails"
                )
        await self._sites.get(job.cluster).clean(job_id)
        if force:
            await self._audit(admin, job_id, "clean by force")
        else:
            await self._store.mark_cleaned(job_id)

    async def _audit(self, admin: User, job_id: str, action: str) -> None:
        entry = AuditEntry(
            time=await self._store.now(),
            actor=admin.name,
            action=action,
            reason="asked for over the API",
        )
        await self._store.add_audit(job_id, entry)

    async def update_meta(self, job_id: str, update: UpdateAdminMeta) -> None:
        """Set and remove keys of the job's admin metadata. Raises IllegalParameterError."""
        if not (update.set_fields or update.unset_keys):
            raise IllegalParameterError("There is nothing to do: give set_fields or unset_keys")
        both = sorted(update.set_fields.keys() & update.unset_keys)
        if both:
            raise IllegalParameterError(f"Keys cannot be both set and unset: {', '.join(both)}")
        if any("\0" in key for key in (*update.set_fields, *update.unset_keys)):
            raise IllegalParameterError("Keys cannot have the character NUL in them")
        for key, value in update.set_fields.items():
            if isinstance(value, int) and not -_INT64 <= value < _INT64:
                raise IllegalParameterError(f"The value of key {key} has more than 64 bits")
        stored = (await self._store.get_summary(job_id)).admin_meta
        count = len((stored.keys() | update.set_fields.keys()) - update.unset_keys)
        if count > MAX_META_KEYS:
            raise IllegalParameterError(
                f"Job {job_id} would have {count} keys of admin metadata, and may have {MAX_META_KEYS}"
            )
        await self._store.set_admin_meta(job_id, update.set_fields, update.unset_keys)

    async def notify(self, job_id: str, state: JobState) -> None:
        """Publish the event of a recorded transition again, unchanged. Raises JobStateError."""
        job = await self._store.get_summary(job_id)
        for transition in job.transition_times:
            if transition.state is state:
                await self._publisher.publish(event_of(job, transition))
                return
        raise JobStateError(f"Job {job_id} was never in state {state.value}")

    async def runner_status(self, job_id: str, number: int) -> dict[str, Any]:
        """Return the site's own status of a container; empty before the job was submitted to the site.

        Raises IllegalParameterError for a container that the job does not have.
        """
        job = await self._store.get_summary(job_id)
        check_number(job, number, IllegalParameterError)
        if job.state is JobState.CREATED:
            return {}
        return await self._sites.get(job.cluster).runner_status(job, number)

    async def send_unsent(self, age: timedelta) -> UnsentNotifications:
        """Publish every event that was not acknowledged and is older than ``age``. Raises UnavailableError."""
        try:
            due = await self._store.now() - age
        except OverflowError:
            # Before the first date that a datetime can hold: no event is that old.
            return UnsentNotifications(jobs=0, transitions=0)
        sent = await self._outbox.send_older(due)
        return UnsentNotifications(jobs=len(sent), transitions=sent.total())
