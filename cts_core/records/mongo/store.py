"""The record store in a MongoDB database. Any number of servers may share it, beside the deployed service's layout."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from cts_core.model.event import JobEvent
from cts_core.model.image import Image
from cts_core.model.job import MetaValue
from cts_core.model.record import (
    AuditEntry,
    ContainerOutcome,
    ContainerRecord,
    ContainerTransition,
    Idempotency,
    JobCount,
    JobOutcome,
    JobPage,
    JobQuery,
    JobRecord,
    JobSummary,
)
from cts_core.model.refdata import AdminReferenceData, AdminReferenceDataStatus, ReferenceDataState
from cts_core.model.site import SiteName
from cts_core.model.worker import Claim, ContainerId
from cts_core.records.mongo import audit as mongo_admin
from cts_core.records.mongo import containers as mongo_containers
from cts_core.records.mongo import events as mongo_events
from cts_core.records.mongo import images, jobs, listing, workers
from cts_core.records.mongo import refdata as mongo_refdata
from cts_core.records.mongo.connection import Connection
from cts_core.records.store import IdempotentJob
from cts_core.states import JobState
from cts_core.worker.failpoints import failpoint


class MongoStore(Connection):
    """The port ``RecordStore``, whose methods these are, with those of the connection."""

    async def insert_job(
        self,
        job: JobRecord,
        *,
        containers: int,
        idempotency: Idempotency | None = None,
        exclusive_output_dir: bool = False,
    ) -> IdempotentJob | None:
        """See the port."""
        failpoint("store:before")
        async with self.use() as db:
            had = await jobs.insert(
                db, job, containers, idempotency, exclusive_output_dir=exclusive_output_dir
            )
        failpoint("store:after")
        return had

    async def find_idempotent(self, user: str, key: str) -> IdempotentJob | None:
        """See the port."""
        async with self.use() as db:
            return await jobs.find_idempotent(db, user, key)

    async def get_job(self, job_id: str) -> JobRecord:
        """See the port."""
        async with self.use() as db:
            return await jobs.get(db, job_id)

    async def get_summary(self, job_id: str) -> JobSummary:
        """See the port."""
        async with self.use() as db:
            return await jobs.summary(db, job_id)

    async def get_drivable(self, job_id: str) -> JobSummary:
        """See the port."""
        async with self.use() as db:
            return await jobs.drivable(db, job_id)

    async def list_jobs(self, query: JobQuery) -> JobPage:
        """See the port."""
        async with self.use() as db:
            return await listing.page(db, query)

    async def resubmissions(self, parent_ids: Collection[str], *, limit: int) -> list[JobSummary]:
        """See the port."""
        async with self.use() as db:
            return await jobs.resubmissions(db, parent_ids, limit)

    async def count_jobs(self, user: str | None = None) -> list[JobCount]:
        """See the port."""
        async with self.use() as db:
            return await listing.counts(db, user)

    async def live_jobs(self, cluster: SiteName | None = None) -> list[JobSummary]:
        """See the port."""
        async with self.use() as db:
            return await jobs.live(db, cluster)

    async def live_containers(self, user: str) -> int:
        """See the port."""
        async with self.use() as db:
            return await mongo_containers.count_live(db, user)

    async def unadopted_jobs(self) -> list[JobSummary]:
        """See the port."""
        async with self.use() as db:
            return await jobs.unadopted(db)

    async def adopt(self, job_id: str) -> None:
        """See the port."""
        async with self.use() as db:
            await mongo_containers.complete(db, job_id)
            await mongo_events.adopt(db, job_id)

    async def set_admin_meta(
        self, job_id: str, values: Mapping[str, MetaValue], unset: Collection[str]
    ) -> None:
        """See the port."""
        async with self.use() as db:
            await mongo_admin.set_meta(db, job_id, values, unset)

    async def add_audit(self, job_id: str, entry: AuditEntry) -> None:
        """See the port."""
        async with self.use() as db:
            await mongo_admin.add_audit(db, job_id, entry)

    async def audit(self, job_id: str) -> list[AuditEntry]:
        """See the port."""
        async with self.use() as db:
            return await mongo_admin.audit(db, job_id)

    async def last_look(self, user: str) -> datetime | None:
        """See the port."""
        async with self.use() as db:
            return await mongo_admin.last_look(db, user)

    async def set_last_look(self, user: str, time: datetime) -> None:
        """See the port."""
        async with self.use() as db:
            await mongo_admin.set_last_look(db, user, time)

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
        """See the port."""
        async with self.use() as db:
            return await jobs.transition(
                db, job_id, expected, new, time=time, trans_id=trans_id, outcome=outcome
            )

    async def containers(self, job_id: str) -> list[ContainerRecord]:
        """See the port."""
        async with self.use() as db:
            return await mongo_containers.records(db, job_id)

    async def container(self, job_id: str, number: int) -> ContainerRecord:
        """See the port."""
        async with self.use() as db:
            return await mongo_containers.record(db, job_id, number)

    async def container_states(self, job_id: str) -> list[JobState]:
        """See the port."""
        async with self.use() as db:
            return await mongo_containers.states(db, job_id)

    async def transition_container(
        self,
        job_id: str,
        number: int,
        expected: JobState,
        steps: Sequence[ContainerTransition],
        *,
        outcome: ContainerOutcome | None = None,
    ) -> bool:
        """See the port."""
        async with self.use() as db:
            return await mongo_containers.transition(
                db, job_id, number, expected, steps=steps, outcome=outcome
            )

    async def mark_cleaned(self, job_id: str) -> None:
        """See the port."""
        async with self.use() as db:
            await jobs.mark_cleaned(db, job_id)

    async def ended_jobs(
        self, before: datetime, clusters: Collection[SiteName], *, limit: int = 100
    ) -> list[JobSummary]:
        """See the port."""
        async with self.use() as db:
            return await jobs.ended(db, before, clusters, limit)

    async def ended_among(self, job_ids: Collection[str], before: datetime) -> set[str]:
        """See the port."""
        async with self.use() as db:
            return await jobs.ended_among(db, job_ids, before)

    async def take_leases(
        self, job_ids: Collection[str], owner: str, *, now: datetime, until: datetime
    ) -> set[str]:
        """See the port."""
        async with self.use() as db:
            return await jobs.take_leases(db, job_ids, owner, now, until)

    async def unsent(
        self, *, limit: int = 100, recorded_before: datetime | None = None
    ) -> list[JobEvent]:
        """See the port."""
        async with self.use() as db:
            return await mongo_events.unsent(db, limit, recorded_before)

    async def mark_sent(self, job_id: str, trans_id: str) -> None:
        """See the port."""
        async with self.use() as db:
            await mongo_events.mark_sent(db, job_id, trans_id)

    async def events(
        self,
        *,
        since: datetime,
        user: str | None = None,
        job_id: str | None = None,
        limit: int = 1000,
    ) -> list[JobEvent]:
        """See the port."""
        async with self.use() as db:
            return await mongo_events.page(db, since, user, job_id, limit)

    async def add_image(self, image: Image) -> None:
        """See the port."""
        async with self.use() as db:
            await images.add(db, image)

    async def find_image(self, name: str, *, digest: str | None, tag: str | None) -> Image | None:
        """See the port."""
        async with self.use() as db:
            return await images.find(db, name, digest=digest, tag=tag)

    async def list_images(self) -> list[Image]:
        """See the port."""
        async with self.use() as db:
            return await images.listing(db)

    async def delete_image(self, name: str, *, digest: str) -> bool:
        """See the port."""
        async with self.use() as db:
            return await images.delete(db, name, digest)

    async def add_refdata(self, refdata: AdminReferenceData) -> None:
        """See the port."""
        async with self.use() as db:
            await mongo_refdata.add(db, refdata)

    async def get_refdata(self, refdata_id: str) -> AdminReferenceData:
        """See the port."""
        async with self.use() as db:
            return await mongo_refdata.get(db, refdata_id)

    async def find_refdata(self, path: str) -> AdminReferenceData:
        """See the port."""
        async with self.use() as db:
            return await mongo_refdata.find(db, path)

    async def list_refdata(self) -> list[AdminReferenceData]:
        """See the port."""
        async with self.use() as db:
            return await mongo_refdata.listing(db)

    async def add_refdata_site(self, refdata_id: str, status: AdminReferenceDataStatus) -> bool:
        """See the port."""
        async with self.use() as db:
            return await mongo_refdata.add_site(db, refdata_id, status)

    async def transition_refdata(
        self,
        refdata_id: str,
        cluster: SiteName,
        expected: ReferenceDataState,
        new: ReferenceDataState,
        *,
        time: datetime,
        error: str | None = None,
        admin_error: str | None = None,
        traceback: str | None = None,
    ) -> bool:
        """See the port."""
        news = {"error": error, "admin_error": admin_error, "traceback": traceback}
        async with self.use() as db:
            return await mongo_refdata.transition(
                db, refdata_id, cluster, expected, new, time=time, news=news
            )

    async def mark_refdata_cleaned(self, refdata_id: str, cluster: SiteName) -> None:
        """See the port."""
        async with self.use() as db:
            await mongo_refdata.mark_cleaned(db, refdata_id, cluster)

    async def add_worker_tokens(
        self,
        job_id: str,
        numbers: Mapping[str, int],
        *,
        now: datetime,  # noqa: ARG002 - MongoDB knows itself which are too old
        until: datetime,
    ) -> None:
        """See the port."""
        async with self.use() as db:
            await workers.add_tokens(db, job_id, numbers, until=until)

    async def find_worker_token(self, token_hash: str, *, now: datetime) -> ContainerId | None:
        """See the port."""
        async with self.use() as db:
            return await workers.find_token(db, token_hash, now)

    async def claim_container(self, job_id: str, number: int, claim: Claim) -> bool:
        """See the port."""
        async with self.use() as db:
            return await workers.claim(db, job_id, number, claim)

    async def claims(self, job_id: str) -> dict[int, Claim]:
        """See the port."""
        async with self.use() as db:
            return await workers.claims(db, job_id)

    async def inactive_sites(self) -> set[SiteName]:
        """See the port."""
        async with self.use() as db:
            return await mongo_admin.inactive_sites(db)

    async def set_site_active(self, cluster: SiteName, *, active: bool) -> None:
        """See the port."""
        async with self.use() as db:
            await mongo_admin.set_site_active(db, cluster, active=active)
