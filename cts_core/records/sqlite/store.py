"""The record store in one SQLite file, which any number of processes of one machine may share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from typing_extensions import override

from cts_core.clock import utc_now
from cts_core.concurrency import run_sized
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
from cts_core.model.refdata import (
    AdminReferenceData,
    AdminReferenceDataStatus,
    ReferenceDataState,
)
from cts_core.model.site import SiteName
from cts_core.model.worker import Claim, ContainerId
from cts_core.records.sqlite import (
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
from cts_core.records.sqlite.connection import BUSY_SECONDS, Connections
from cts_core.records.sqlite.require import check_job
from cts_core.records.sqlite.rows import StoredOutcome
from cts_core.records.store import ALL_CONTAINERS, KeyHolder, RecordStore
from cts_core.states import JobState
from cts_core.worker.failpoints import failpoint

_Outcome = TypeVar("_Outcome", JobOutcome, ContainerOutcome)


async def _serialize(
    serialize: Callable[[_Outcome], StoredOutcome], outcome: _Outcome | None
) -> StoredOutcome | None:
    if outcome is None:
        return None
    return await run_sized(len(outcome.outputs or ()), serialize, outcome)


class SQLiteStore(RecordStore):
    """The port ``RecordStore`` on SQLite."""

    def __init__(self, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> None:
        """``busy_seconds`` is how long a write waits for another process's before it raises UnavailableError."""
        self._connections = Connections(path, busy_seconds=busy_seconds)
        self._run = self._connections.run
        self._read = self._connections.read
        self._read_page = self._connections.read_page
        self._write = self._connections.write

    @override
    async def open(self) -> None:
        await self._connections.open()

    @override
    async def close(self) -> None:
        await self._connections.close()

    @override
    async def check_room(self) -> None:
        await self._run(self._connections.check_room)

    @override
    async def instance(self) -> str:
        return await self._read(instance.read)

    @override
    async def now(self) -> datetime:
        # The file is used by processes of one machine. It is asked all the same: a call that succeeds shows that it is up.
        return await self._read(lambda _: utc_now())

    @override
    async def insert_job(
        self,
        job: JobRecord,
        *,
        containers: int,
        idempotency: Idempotency | None = None,
        exclusive_output_dir: bool = False,
    ) -> KeyHolder | None:
        await self.check_room()
        new = await run_sized(
            job.input_file_count,
            jobs.NewJob.of,
            job,
            containers,
            exclusive_output_dir=exclusive_output_dir,
        )
        failpoint("store:before")
        existing = await self._write(lambda db: jobs.insert(db, new, idempotency))
        failpoint("store:after")
        return existing

    @override
    async def find_idempotent(self, user: str, key: str) -> KeyHolder | None:
        return await self._read(lambda db: jobs.find_idempotent(db, user, key))

    @override
    async def get_job(self, job_id: str) -> JobRecord:
        return await self._read_page(lambda db: jobs.get(db, job_id))

    @override
    async def get_summary(self, job_id: str) -> JobSummary:
        return await self._read(lambda db: jobs.summary(db, job_id))

    @override
    async def get_summaries(self, job_ids: Sequence[str]) -> list[JobSummary | Exception]:
        return await self._read(lambda db: jobs.summaries_of(db, job_ids))

    @override
    async def get_drivable(self, job_id: str) -> JobSummary:
        # No job has unknown fields: a file that a newer version wrote is not opened.
        return await self.get_summary(job_id)

    @override
    async def list_jobs(self, query: JobQuery) -> JobPage:
        return await self._read_page(lambda db: listing.page(db, query))

    @override
    async def resubmissions(self, parent_ids: Collection[str], *, limit: int) -> list[JobSummary]:
        return await self._read_page(lambda db: jobs.resubmissions(db, parent_ids, limit))

    @override
    async def count_jobs(self, user: str | None = None) -> list[JobCount]:
        return await self._read(lambda db: listing.counts(db, user))

    @override
    async def live_jobs(
        self, site: SiteName | None = None, *, owner: str | None = None
    ) -> list[JobSummary]:
        return await self._read(lambda db: jobs.live(db, site, owner))

    @override
    async def live_containers(self, user: str) -> int:
        return await self._read(lambda db: containers.count_live(db, user))

    @override
    async def live_containers_at_most(self, user: str) -> int:
        # The exact number is one read here.
        return await self._read(lambda db: containers.count_live(db, user))

    @override
    async def unadopted_jobs(self) -> list[JobSummary]:
        # No other program writes into this store.
        return []

    @override
    async def adopt(self, job_id: str) -> None:
        await self._read(lambda db: check_job(db, job_id))

    @override
    async def set_admin_meta(
        self, job_id: str, values: Mapping[str, MetaValue], unset: Collection[str]
    ) -> None:
        await self._write(lambda db: audit.set_meta(db, job_id, values, unset))

    @override
    async def set_labels(self, job_id: str, labels: Mapping[str, str]) -> None:
        await self._write(lambda db: jobs.set_labels(db, job_id, labels))

    @override
    async def label_keys(self, user: str, *, latest: int) -> list[str]:
        return await self._read(lambda db: listing.label_keys(db, user, latest))

    @override
    async def add_audit(self, job_id: str, entry: AuditEntry) -> None:
        await self._write(lambda db: audit.add_entry(db, job_id, entry))

    @override
    async def audit(self, job_id: str) -> list[AuditEntry]:
        return await self._read(lambda db: audit.entries(db, job_id))

    @override
    async def last_look(self, user: str) -> datetime | None:
        return await self._read(lambda db: listing.last_look(db, user))

    @override
    async def set_last_look(self, user: str, time: datetime) -> None:
        await self._write(lambda db: listing.set_last_look(db, user, time))

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
        stored = await _serialize(StoredOutcome.of_job, outcome)
        return await self._write(
            lambda db: jobs.transition(
                db, job_id, expected, new, time=time, trans_id=trans_id, outcome=stored
            )
        )

    @override
    async def set_wait(self, job_ids: Collection[str], wait: JobWait | None) -> None:
        await self._write(lambda db: jobs.set_wait(db, job_ids, wait))

    @override
    async def containers(
        self, job_id: str, query: ContainerQuery = ALL_CONTAINERS
    ) -> list[ContainerRecord]:
        return await self._read_page(lambda db: containers.records(db, job_id, query))

    @override
    async def container(self, job_id: str, number: int) -> ContainerRecord:
        return await self._read(lambda db: containers.record(db, job_id, number))

    @override
    async def container_states(self, job_id: str) -> list[JobState]:
        return await self._read(lambda db: containers.states(db, job_id))

    @override
    async def states_of_containers(self, job_ids: Collection[str]) -> dict[str, list[JobState]]:
        return await self._read(lambda db: containers.states_of(db, job_ids))

    @override
    async def count_containers(self, job_ids: Collection[str]) -> dict[str, dict[str, int]]:
        return await self._read(lambda db: containers.counts(db, job_ids))

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
        stored = await _serialize(StoredOutcome.of_container, outcome)
        return await self._write(
            lambda db: containers.transition(
                db, job_id, number, expected, steps=steps, outcome=stored
            )
        )

    @override
    async def mark_cleaned(self, job_id: str) -> None:
        await self._write(lambda db: jobs.mark_cleaned(db, job_id))

    @override
    async def ended_jobs(
        self, before: datetime, sites: Collection[SiteName], *, limit: int = 100
    ) -> list[JobSummary]:
        return await self._read(lambda db: jobs.ended(db, before, sites, limit))

    @override
    async def ended_among(self, job_ids: Collection[str], before: datetime) -> set[str]:
        return await self._read(lambda db: jobs.ended_among(db, job_ids, before))

    @override
    async def take_leases(
        self,
        job_ids: Collection[str],
        owner: str,
        *,
        now: datetime,
        until: datetime,
    ) -> set[str]:
        return await self._write(lambda db: jobs.take_leases(db, job_ids, owner, now, until))

    @override
    async def unsent(
        self, *, limit: int = 100, recorded_before: datetime | None = None, foreign: bool = True
    ) -> list[JobEvent]:
        # No other program writes into this store.
        return await self._read(lambda db: events.unsent(db, limit, recorded_before))

    @override
    async def mark_sent(self, job_id: str, trans_id: str) -> None:
        await self._write(lambda db: events.mark_sent(db, job_id, trans_id))

    @override
    async def events(
        self,
        *,
        since: datetime,
        user: str | None = None,
        job_id: str | None = None,
        limit: int = 1000,
    ) -> list[JobEvent]:
        return await self._read_page(lambda db: events.page(db, since, user, job_id, limit))

    @override
    async def add_image(self, image: Image) -> None:
        await self._write(lambda db: images.add(db, image))

    @override
    async def find_image(self, name: str, *, digest: str | None, tag: str | None) -> Image | None:
        return await self._read(lambda db: images.find(db, name, digest=digest, tag=tag))

    @override
    async def list_images(self) -> list[Image]:
        return await self._read(images.listing)

    @override
    async def delete_image(self, name: str, *, digest: str) -> bool:
        return await self._write(lambda db: images.delete(db, name, digest))

    @override
    async def add_refdata(self, record: AdminReferenceData) -> None:
        await self._write(lambda db: refdata.add(db, record))

    @override
    async def get_refdata(self, refdata_id: str) -> AdminReferenceData:
        return await self._read(lambda db: refdata.get(db, refdata_id))

    @override
    async def find_refdata(self, path: str) -> AdminReferenceData:
        return await self._read(lambda db: refdata.find(db, path))

    @override
    async def list_refdata(self) -> list[AdminReferenceData]:
        return await self._read(refdata.listing)

    @override
    async def add_refdata_site(self, refdata_id: str, status: AdminReferenceDataStatus) -> bool:
        return await self._write(lambda db: refdata.add_site(db, refdata_id, status))

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
        return await self._write(
            lambda db: refdata.transition(
                db, refdata_id, site, expected, new, time=time, details=details
            )
        )

    @override
    async def mark_refdata_cleaned(self, refdata_id: str, site: SiteName) -> None:
        await self._write(lambda db: refdata.mark_cleaned(db, refdata_id, site))

    @override
    async def add_worker_tokens(
        self, job_id: str, numbers: Mapping[str, int], *, now: datetime, until: datetime
    ) -> None:
        await self._write(lambda db: workers.add_tokens(db, job_id, numbers, now=now, until=until))

    @override
    async def find_worker_token(self, token_hash: str, *, now: datetime) -> ContainerId | None:
        return await self._read(lambda db: workers.find_token(db, token_hash, now))

    @override
    async def claim_container(self, job_id: str, number: int, claim: Claim) -> bool:
        return await self._write(lambda db: workers.claim(db, job_id, number, claim))

    @override
    async def find_claim(self, job_id: str, number: int) -> Claim | None:
        return await self._read(lambda db: workers.find_claim(db, job_id, number))

    @override
    async def claims(self, job_id: str) -> dict[int, Claim]:
        return await self._read(lambda db: workers.claims(db, job_id))

    @override
    async def add_checksums(
        self, task: ChecksumTask, *, max_running: int, idempotency: Idempotency | None = None
    ) -> KeyHolder | None:
        results = await run_sized(
            len(task.files), lambda: [file.model_dump_json() for file in task.files]
        )
        return await self._write(
            lambda db: checksums.add(db, task, results, max_running, idempotency)
        )

    @override
    async def get_checksums(self, task_id: str) -> ChecksumTask:
        return await self._read_page(lambda db: checksums.get(db, task_id))

    @override
    async def list_checksums(self, user: str) -> list[ChecksumSummary]:
        return await self._read(lambda db: checksums.listing(db, user))

    @override
    async def running_checksums(self, owner: str, *, now: datetime) -> list[RunningChecksums]:
        return await self._read(lambda db: checksums.running(db, owner, now))

    @override
    async def take_checksums(
        self, task_ids: Collection[str], owner: str, *, now: datetime, until: datetime
    ) -> set[str]:
        return await self._write(lambda db: checksums.take(db, task_ids, owner, now, until))

    @override
    async def record_checksum(self, task_id: str, number: int, result: FileResult) -> None:
        stored = result.model_dump_json()
        await self._write(lambda db: checksums.record(db, task_id, number, stored))

    @override
    async def end_checksums(self, task_id: str, state: TaskState) -> bool:
        return await self._write(lambda db: checksums.end(db, task_id, state))

    @override
    async def inactive_sites(self) -> set[SiteName]:
        return await self._read(audit.inactive_sites)

    @override
    async def set_site_active(self, site: SiteName, *, active: bool) -> None:
        await self._write(lambda db: audit.set_site_active(db, site, active=active))
