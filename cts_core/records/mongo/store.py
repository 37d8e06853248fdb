"""The record store in a MongoDB database, which any number of servers may share.

Its layout is the deployed service's, with additions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from typing_extensions import override

from cts_core.config.sections import MongoSettings
from cts_core.model.checksums import (
    ChecksumSummary,
    ChecksumTask,
    FileResult,
    RunningChecksums,
    TaskState,
)
from cts_core.model.event import JobEvent
from cts_core.model.image import Image
from cts_core.model.job import MetaValue
from cts_core.model.preview import JobPage
from cts_core.model.record import (
    AuditEntry,
    ContainerOutcome,
    ContainerQuery,
    ContainerRecord,
    ContainerTransition,
    Idempotency,
    JobCount,
    JobOutcome,
    JobQuery,
    JobRecord,
    JobSummary,
    JobWait,
)
from cts_core.model.refdata import AdminReferenceData, AdminReferenceDataStatus, ReferenceDataState
from cts_core.model.site import SiteName
from cts_core.model.worker import Claim, ContainerId
from cts_core.records.mongo import (
    audit,
    checksums,
    containers,
    events,
    images,
    instance,
    jobs,
    listing,
    refdata,
    workers,
)
from cts_core.records.mongo.connection import Connection
from cts_core.records.store import ALL_CONTAINERS, KeyHolder, RecordStore
from cts_core.states import JobState
from cts_core.worker.failpoints import failpoint


class MongoStore(RecordStore):
    """The port ``RecordStore`` on MongoDB."""

    def __init__(self, settings: MongoSettings) -> None:
        self._connection = Connection(settings)
        self._use = self._connection.use

    @override
    async def open(self) -> None:
        await self._connection.open()

    @override
    async def close(self) -> None:
        await self._connection.close()

    @override
    async def check_room(self) -> None:
        """Do nothing: MongoDB itself ends on a full disk, and refuses writes above a quota."""

    @override
    async def instance(self) -> str:
        async with self._use() as db:
            return await instance.read(db)

    @override
    async def now(self) -> datetime:
        async with self._use() as db:
            return await db.now()

    @override
    async def insert_job(
        self,
        job: JobRecord,
        *,
        containers: int,
        idempotency: Idempotency | None = None,
        exclusive_output_dir: bool = False,
    ) -> KeyHolder | None:
        failpoint("store:before")
        async with self._use() as db:
            existing = await jobs.insert(
                db, job, containers, idempotency, exclusive_output_dir=exclusive_output_dir
            )
        failpoint("store:after")
        return existing

    @override
    async def find_idempotent(self, user: str, key: str) -> KeyHolder | None:
        async with self._use() as db:
            return await jobs.find_idempotent(db, user, key)

    @override
    async def get_job(self, job_id: str) -> JobRecord:
        async with self._use() as db:
            return await jobs.get(db, job_id)

    @override
    async def get_summary(self, job_id: str) -> JobSummary:
        async with self._use() as db:
            return await jobs.summary(db, job_id)

    @override
    async def get_summaries(self, job_ids: Sequence[str]) -> list[JobSummary | Exception]:
        async with self._use() as db:
            return await jobs.summaries(db, job_ids)

    @override
    async def get_drivable(self, job_id: str) -> JobSummary:
        async with self._use() as db:
            return await jobs.drivable(db, job_id)

    @override
    async def list_jobs(self, query: JobQuery) -> JobPage:
        async with self._use() as db:
            return await listing.page(db, query)

    @override
    async def resubmissions(self, parent_ids: Collection[str], *, limit: int) -> list[JobSummary]:
        async with self._use() as db:
            return await jobs.resubmissions(db, parent_ids, limit)

    @override
    async def count_jobs(self, user: str | None = None) -> list[JobCount]:
        async with self._use() as db:
            return await listing.counts(db, user)

    @override
    async def live_jobs(
        self, site: SiteName | None = None, *, owner: str | None = None
    ) -> list[JobSummary]:
        async with self._use() as db:
            return await jobs.live(db, site, owner)

    @override
    async def live_containers(self, user: str) -> int:
        async with self._use() as db:
            return await containers.count_live(db, user)

    @override
    async def live_containers_at_most(self, user: str) -> int:
        async with self._use() as db:
            return await containers.count_of_live_jobs(db, user)

    @override
    async def unadopted_jobs(self) -> list[JobSummary]:
        async with self._use() as db:
            return await jobs.unadopted(db)

    @override
    async def adopt(self, job_id: str) -> None:
        async with self._use() as db:
            await containers.ensure_stored(db, job_id)
            await events.adopt(db, job_id)

    @override
    async def set_admin_meta(
        self, job_id: str, values: Mapping[str, MetaValue], unset: Collection[str]
    ) -> None:
        async with self._use() as db:
            await audit.set_meta(db, job_id, values, unset)

    @override
    async def set_labels(self, job_id: str, labels: Mapping[str, str]) -> None:
        async with self._use() as db:
            await jobs.set_labels(db, job_id, labels)

    @override
    async def label_keys(self, user: str, *, latest: int) -> list[str]:
        async with self._use() as db:
            return await listing.label_keys(db, user, latest)

    @override
    async def add_audit(self, job_id: str, entry: AuditEntry) -> None:
        async with self._use() as db:
            await audit.add_entry(db, job_id, entry)

    @override
    async def audit(self, job_id: str) -> list[AuditEntry]:
        async with self._use() as db:
            return await audit.entries(db, job_id)

    @override
    async def last_look(self, user: str) -> datetime | None:
        async with self._use() as db:
            return await listing.last_look(db, user)

    @override
    async def set_last_look(self, user: str, time: datetime) -> None:
        async with self._use() as db:
            await listing.set_last_look(db, user, time)

    @override
    async def transition(
        self,
        job_id: str,
        expected: JobState,
        new: JobState,
        *,
        time: datetime,
        trans_id: str,
        outcome: JobOutcome | None = None,
    ) -> bool:
        async with self._use() as db:
            return await jobs.transition(
                db, job_id, expected, new, time=time, trans_id=trans_id, outcome=outcome
            )

    @override
    async def set_wait(self, job_ids: Collection[str], wait: JobWait | None) -> None:
        async with self._use() as db:
            await jobs.set_wait(db, job_ids, wait)

    @override
    async def containers(
        self, job_id: str, query: ContainerQuery = ALL_CONTAINERS
    ) -> list[ContainerRecord]:
        async with self._use() as db:
            return await containers.records(db, job_id, query)

    @override
    async def container(self, job_id: str, number: int) -> ContainerRecord:
        async with self._use() as db:
            return await containers.record(db, job_id, number)

    @override
    async def container_states(self, job_id: str) -> list[JobState]:
        async with self._use() as db:
            return await containers.states(db, job_id)

    @override
    async def states_of_containers(self, job_ids: Collection[str]) -> dict[str, list[JobState]]:
        async with self._use() as db:
            return await containers.states_of(db, job_ids)

    @override
    async def count_containers(self, job_ids: Collection[str]) -> dict[str, dict[str, int]]:
        async with self._use() as db:
            return await containers.counts(db, job_ids)

    @override
    async def transition_container(
        self,
        job_id: str,
        number: int,
        expected: JobState,
        steps: Sequence[ContainerTransition],
        *,
        outcome: ContainerOutcome | None = None,
    ) -> bool:
        async with self._use() as db:
            return await containers.transition(
                db, job_id, number, expected, steps=steps, outcome=outcome
            )

    @override
    async def mark_cleaned(self, job_id: str) -> None:
        async with self._use() as db:
            await jobs.mark_cleaned(db, job_id)

    @override
    async def ended_jobs(
        self, before: datetime, sites: Collection[SiteName], *, limit: int = 100
    ) -> list[JobSummary]:
        async with self._use() as db:
            return await jobs.ended(db, before, sites, limit)

    @override
    async def ended_among(self, job_ids: Collection[str], before: datetime) -> set[str]:
        async with self._use() as db:
            return await jobs.ended_among(db, job_ids, before)

    @override
    async def take_leases(
        self, job_ids: Collection[str], owner: str, *, now: datetime, until: datetime
    ) -> set[str]:
        async with self._use() as db:
            return await jobs.take_leases(db, job_ids, owner, now, until)

    @override
    async def unsent(
        self, *, limit: int = 100, recorded_before: datetime | None = None, foreign: bool = True
    ) -> list[JobEvent]:
        async with self._use() as db:
            return await events.unsent(db, limit, recorded_before, foreign=foreign)

    @override
    async def mark_sent(self, job_id: str, trans_id: str) -> None:
        async with self._use() as db:
            await events.mark_sent(db, job_id, trans_id)

    @override
    async def events(
        self,
        *,
        since: datetime,
        user: str | None = None,
        job_id: str | None = None,
        limit: int = 1000,
    ) -> list[JobEvent]:
        async with self._use() as db:
            return await events.page(db, since, user, job_id, limit)

    @override
    async def add_image(self, image: Image) -> None:
        async with self._use() as db:
            await images.add(db, image)

    @override
    async def find_image(self, name: str, *, digest: str | None, tag: str | None) -> Image | None:
        async with self._use() as db:
            return await images.find(db, name, digest=digest, tag=tag)

    @override
    async def list_images(self) -> list[Image]:
        async with self._use() as db:
            return await images.listing(db)

    @override
    async def delete_image(self, name: str, *, digest: str) -> bool:
        async with self._use() as db:
            return await images.delete(db, name, digest)

    @override
    async def add_refdata(self, record: AdminReferenceData) -> None:
        async with self._use() as db:
            await refdata.add(db, record)

    @override
    async def get_refdata(self, refdata_id: str) -> AdminReferenceData:
        async with self._use() as db:
            return await refdata.get(db, refdata_id)

    @override
    async def find_refdata(self, path: str) -> AdminReferenceData:
        async with self._use() as db:
            return await refdata.find(db, path)

    @override
    async def list_refdata(self) -> list[AdminReferenceData]:
        async with self._use() as db:
            return await refdata.listing(db)

    @override
    async def add_refdata_site(self, refdata_id: str, status: AdminReferenceDataStatus) -> bool:
        async with self._use() as db:
            return await refdata.add_site(db, refdata_id, status)

    @override
    async def transition_refdata(
        self,
        refdata_id: str,
        site: SiteName,
        expected: ReferenceDataState,
        new: ReferenceDataState,
        *,
        time: datetime,
        error: str | None = None,
        admin_error: str | None = None,
        traceback: str | None = None,
        task_ids: Sequence[str] | None = None,
    ) -> bool:
        details = {
            "error": error,
            "admin_error": admin_error,
            "traceback": traceback,
            "nersc_download_task_id": task_ids and list(task_ids),
        }
        async with self._use() as db:
            return await refdata.transition(
                db, refdata_id, site, expected, new, time=time, details=details
            )

    @override
    async def mark_refdata_cleaned(self, refdata_id: str, site: SiteName) -> None:
        async with self._use() as db:
            await refdata.mark_cleaned(db, refdata_id, site)

    @override
    async def add_worker_tokens(
        self,
        job_id: str,
        numbers: Mapping[str, int],
        *,
        now: datetime,
        until: datetime,
    ) -> None:
        async with self._use() as db:
            await workers.add_tokens(db, job_id, numbers, until=until)

    @override
    async def find_worker_token(self, token_hash: str, *, now: datetime) -> ContainerId | None:
        async with self._use() as db:
            return await workers.find_token(db, token_hash, now)

    @override
    async def claim_container(self, job_id: str, number: int, claim: Claim) -> bool:
        async with self._use() as db:
            return await workers.claim(db, job_id, number, claim)

    @override
    async def find_claim(self, job_id: str, number: int) -> Claim | None:
        async with self._use() as db:
            return await workers.find_claim(db, job_id, number)

    @override
    async def claims(self, job_id: str) -> dict[int, Claim]:
        async with self._use() as db:
            return await workers.claims(db, job_id)

    @override
    async def add_checksums(
        self, task: ChecksumTask, *, max_running: int, idempotency: Idempotency | None = None
    ) -> KeyHolder | None:
        async with self._use() as db:
            return await checksums.add(db, task, max_running, idempotency)

    @override
    async def get_checksums(self, task_id: str) -> ChecksumTask:
        async with self._use() as db:
            return await checksums.get(db, task_id)

    @override
    async def list_checksums(self, user: str) -> list[ChecksumSummary]:
        async with self._use() as db:
            return await checksums.listing(db, user)

    @override
    async def running_checksums(self, owner: str, *, now: datetime) -> list[RunningChecksums]:
        async with self._use() as db:
            return await checksums.running(db, owner, now)

    @override
    async def take_checksums(
        self, task_ids: Collection[str], owner: str, *, now: datetime, until: datetime
    ) -> set[str]:
        async with self._use() as db:
            return await checksums.take(db, task_ids, owner, now, until)

    @override
    async def record_checksum(self, task_id: str, number: int, result: FileResult) -> None:
        async with self._use() as db:
            await checksums.record(db, task_id, number, result)

    @override
    async def end_checksums(self, task_id: str, state: TaskState) -> bool:
        async with self._use() as db:
            return await checksums.end(db, task_id, state)

    @override
    async def inactive_sites(self) -> set[SiteName]:
        async with self._use() as db:
            return await audit.inactive_sites(db)

    @override
    async def set_site_active(self, site: SiteName, *, active: bool) -> None:
        async with self._use() as db:
            await audit.set_site_active(db, site, active=active)
