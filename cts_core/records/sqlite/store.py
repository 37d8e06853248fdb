"""The record store in one SQLite file. Any number of processes of one machine may share it."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

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
from cts_core.model.refdata import (
    AdminReferenceData,
    AdminReferenceDataStatus,
    ReferenceDataState,
)
from cts_core.model.site import SiteName
from cts_core.model.worker import Claim, ContainerId
from cts_core.records.sqlite import audit as sqlite_admin
from cts_core.records.sqlite import containers as sqlite_containers
from cts_core.records.sqlite import events as sqlite_events
from cts_core.records.sqlite import images, jobs, listing, workers
from cts_core.records.sqlite import refdata as sqlite_refdata
from cts_core.records.sqlite.connection import BUSY_SECONDS, Connections
from cts_core.records.sqlite.rows import News
from cts_core.records.store import IdempotentJob
from cts_core.states import JobState
from cts_core.worker.failpoints import failpoint


class SQLiteStore:
    """The port ``RecordStore``, whose methods these are.

    ``busy_seconds`` is how long a write waits for another process's before it raises UnavailableError.
    """

    def __init__(self, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self._connections = Connections(path, busy_seconds=busy_seconds)
        self._run = self._connections.run
        self._read = self._connections.read
        self._write = self._connections.write

    async def open(self) -> None:
        """See the port."""
        await self._connections.open()

    async def close(self) -> None:
        """See the port."""
        await self._connections.close()

    async def insert_job(
        self,
        job: JobRecord,
        *,
        containers: int,
        idempotency: Idempotency | None = None,
        exclusive_output_dir: bool = False,
    ) -> IdempotentJob | None:
        """See the port."""
        await self._run(self._connections.check_room)
        new = await self._run(
            lambda: jobs.NewJob.of(job, containers, exclusive_output_dir=exclusive_output_dir)
        )
        failpoint("store:before")
        known = await self._write(lambda db: jobs.insert(db, new, idempotency))
        failpoint("store:after")
        return known

    async def find_idempotent(self, user: str, key: str) -> IdempotentJob | None:
        """See the port."""
        return await self._read(lambda db: jobs.find_idempotent(db, user, key))

    async def get_job(self, job_id: str) -> JobRecord:
        """See the port."""
        return await self._read(lambda db: jobs.get(db, job_id))

    async def get_summary(self, job_id: str) -> JobSummary:
        """See the port."""
        return await self._read(lambda db: jobs.summary(db, job_id))

    async def get_drivable(self, job_id: str) -> JobSummary:
        """See the port. A file that a newer version has written is not opened."""
        return await self.get_summary(job_id)

    async def list_jobs(self, query: JobQuery) -> JobPage:
        """See the port."""
        return await self._read(lambda db: listing.page(db, query))

    async def resubmissions(self, parent_ids: Collection[str], *, limit: int) -> list[JobSummary]:
        """See the port."""
        return await self._read(lambda db: jobs.resubmissions(db, parent_ids, limit))

    async def count_jobs(self, user: str | None = None) -> list[JobCount]:
        """See the port."""
        return await self._read(lambda db: listing.counts(db, user))

    async def live_jobs(self, cluster: SiteName | None = None) -> list[JobSummary]:
        """See the port."""
        return await self._read(lambda db: jobs.live(db, cluster))

    async def live_containers(self, user: str) -> int:
        """See the port."""
        return await self._read(lambda db: sqlite_containers.count_live(db, user))

    async def unadopted_jobs(self) -> list[JobSummary]:
        """See the port. No other program writes into this store."""
        return []

    async def adopt(self, job_id: str) -> None:
        """See the port."""
        await self._read(lambda db: sqlite_admin.check_job(db, job_id))

    async def set_admin_meta(
        self, job_id: str, values: Mapping[str, MetaValue], unset: Collection[str]
    ) -> None:
        """See the port."""
        await self._write(lambda db: sqlite_admin.set_meta(db, job_id, values, unset))

    async def add_audit(self, job_id: str, entry: AuditEntry) -> None:
        """See the port."""
        await self._write(lambda db: sqlite_admin.add_audit(db, job_id, entry))

    async def audit(self, job_id: str) -> list[AuditEntry]:
        """See the port."""
        return await self._read(lambda db: sqlite_admin.audit(db, job_id))

    async def last_look(self, user: str) -> datetime | None:
        """See the port."""
        return await self._read(lambda db: listing.last_look(db, user))

    async def set_last_look(self, user: str, time: datetime) -> None:
        """See the port."""
        await self._write(lambda db: listing.set_last_look(db, user, time))

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
        news = await self._run(partial(News.of_job, outcome)) if outcome else None
        return await self._write(
            lambda db: jobs.transition(
                db, job_id, expected, new, time=time, trans_id=trans_id, news=news
            )
        )

    async def containers(self, job_id: str) -> list[ContainerRecord]:
        """See the port."""
        return await self._read(lambda db: sqlite_containers.records(db, job_id))

    async def container(self, job_id: str, number: int) -> ContainerRecord:
        """See the port."""
        return await self._read(lambda db: sqlite_containers.record(db, job_id, number))

    async def container_states(self, job_id: str) -> list[JobState]:
        """See the port."""
        return await self._read(lambda db: sqlite_containers.states(db, job_id))

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
        news = await self._run(partial(News.of_container, outcome)) if outcome else None
        return await self._write(
            lambda db: sqlite_containers.transition(
                db, job_id, number, expected, steps=steps, news=news
            )
        )

    async def mark_cleaned(self, job_id: str) -> None:
        """See the port."""
        await self._write(lambda db: jobs.mark_cleaned(db, job_id))

    async def ended_jobs(
        self, before: datetime, clusters: Collection[SiteName], *, limit: int = 100
    ) -> list[JobSummary]:
        """See the port."""
        return await self._read(lambda db: jobs.ended(db, before, clusters, limit))

    async def ended_among(self, job_ids: Collection[str], before: datetime) -> set[str]:
        """See the port."""
        return await self._read(lambda db: jobs.ended_among(db, job_ids, before))

    async def take_leases(
        self,
        job_ids: Collection[str],
        owner: str,
        *,
        now: datetime,
        until: datetime,
    ) -> set[str]:
        """See the port."""
        return await self._write(lambda db: jobs.take_leases(db, job_ids, owner, now, until))

    async def unsent(
        self, *, limit: int = 100, recorded_before: datetime | None = None
    ) -> list[JobEvent]:
        """See the port."""
        return await self._read(lambda db: sqlite_events.unsent(db, limit, recorded_before))

    async def mark_sent(self, job_id: str, trans_id: str) -> None:
        """See the port."""
        await self._write(lambda db: sqlite_events.mark_sent(db, job_id, trans_id))

    async def events(
        self,
        *,
        since: datetime,
        user: str | None = None,
        job_id: str | None = None,
        limit: int = 1000,
    ) -> list[JobEvent]:
        """See the port."""
        return await self._read(lambda db: sqlite_events.page(db, since, user, job_id, limit))

    async def add_image(self, image: Image) -> None:
        """See the port."""
        await self._write(lambda db: images.add(db, image))

    async def find_image(self, name: str, *, digest: str | None, tag: str | None) -> Image | None:
        """See the port."""
        return await self._read(lambda db: images.find(db, name, digest=digest, tag=tag))

    async def list_images(self) -> list[Image]:
        """See the port."""
        return await self._read(images.listing)

    async def delete_image(self, name: str, *, digest: str) -> bool:
        """See the port."""
        return await self._write(lambda db: images.delete(db, name, digest))

    async def add_refdata(self, refdata: AdminReferenceData) -> None:
        """See the port."""
        await self._write(lambda db: sqlite_refdata.add(db, refdata))

    async def get_refdata(self, refdata_id: str) -> AdminReferenceData:
        """See the port."""
        return await self._read(lambda db: sqlite_refdata.get(db, refdata_id))

    async def find_refdata(self, path: str) -> AdminReferenceData:
        """See the port."""
        return await self._read(lambda db: sqlite_refdata.find(db, path))

    async def list_refdata(self) -> list[AdminReferenceData]:
        """See the port."""
        return await self._read(sqlite_refdata.listing)

    async def add_refdata_site(self, refdata_id: str, status: AdminReferenceDataStatus) -> bool:
        """See the port."""
        return await self._write(lambda db: sqlite_refdata.add_site(db, refdata_id, status))

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
        return await self._write(
            lambda db: sqlite_refdata.transition(
                db, refdata_id, cluster, expected, new, time=time, news=news
            )
        )

    async def mark_refdata_cleaned(self, refdata_id: str, cluster: SiteName) -> None:
        """See the port."""
        await self._write(lambda db: sqlite_refdata.mark_cleaned(db, refdata_id, cluster))

    async def add_worker_tokens(
        self, job_id: str, numbers: Mapping[str, int], *, now: datetime, until: datetime
    ) -> None:
        """See the port."""
        await self._write(lambda db: workers.add_tokens(db, job_id, numbers, now=now, until=until))

    async def find_worker_token(self, token_hash: str, *, now: datetime) -> ContainerId | None:
        """See the port."""
        return await self._read(lambda db: workers.find_token(db, token_hash, now))

    async def claim_container(self, job_id: str, number: int, claim: Claim) -> bool:
        """See the port."""
        return await self._write(lambda db: workers.claim(db, job_id, number, claim))

    async def claims(self, job_id: str) -> dict[int, Claim]:
        """See the port."""
        return await self._read(lambda db: workers.claims(db, job_id))

    async def inactive_sites(self) -> set[SiteName]:
        """See the port."""

        def read(db: sqlite3.Connection) -> set[SiteName]:
            return {
                SiteName(row["cluster"]) for row in db.execute("SELECT cluster FROM inactive_sites")
            }

        return await self._read(read)

    async def set_site_active(self, cluster: SiteName, *, active: bool) -> None:
        """See the port."""
        statement = (
            "DELETE FROM inactive_sites WHERE cluster = ?"
            if active
            else "INSERT OR IGNORE INTO inactive_sites (cluster) VALUES (?)"
        )

        def write(db: sqlite3.Connection) -> None:
            db.execute(statement, (cluster.value,))

        await self._write(write)
