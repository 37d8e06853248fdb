"""The record-store port. All state changes go through it, by compare-and-set."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

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
from cts_core.states import JobState

MAX_CHECKSUM_TASKS = 100
"""Requests for checksums that are over, of one user; the oldest beyond it are deleted."""
MAX_AUDIT = 1000
"""Entries of the audit log of a job; the oldest beyond it are deleted."""


FIRST_CONTAINER_STATES = (JobState.CREATED, JobState.DOWNLOAD_SUBMITTED)
"""The states through which a container is when its job is stored."""


ALL_CONTAINERS = ContainerQuery()


@dataclass(frozen=True)
class KeyHolder:
    """What already holds a user's Idempotency-Key: a job, or a request for checksums."""

    id: str
    body_hash: str


class RefdataRecords(Protocol):
    """The part of the port for reference data.

    Methods raise ``NoSuchRefdataError`` for reference data, or a site of it, that is not stored.
    """

    async def add_refdata(self, record: AdminReferenceData) -> None:
        """Register reference data. Raises RefdataExistsError when its file is registered already."""

    async def get_refdata(self, refdata_id: str) -> AdminReferenceData:
        """Return the reference data with this id."""

    async def find_refdata(self, path: str) -> AdminReferenceData:
        """Return the reference data of this file."""

    async def list_refdata(self) -> list[AdminReferenceData]:
        """Return all reference data, oldest registration first."""

    async def add_refdata_site(self, refdata_id: str, status: AdminReferenceDataStatus) -> bool:
        """Add the status at a site; return False if there is one already, and write nothing."""

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
        """Move the reference data at a site from ``expected`` to ``new``; return False unless it is in ``expected``.

        ``task_ids`` are those of its transfers at NERSC. What is None leaves the stored value as it is.
        """

    async def mark_refdata_cleaned(self, refdata_id: str, site: SiteName) -> None:
        """Record that the transient files of staging at the site are removed."""


class WorkerRecords(Protocol):
    """The part of the port for remote workers. Of their tokens only the hashes are stored."""

    async def add_worker_tokens(
        self, job_id: str, numbers: Mapping[str, int], *, now: datetime, until: datetime
    ) -> None:
        """Store tokens for containers of a job, valid until ``until`` or the end of the job.

        ``numbers`` has the number of the container by the hash of its token. Earlier tokens stay valid: a start may be
        duplicated, and either duplicate may be the one that runs.
        """

    async def find_worker_token(self, token_hash: str, *, now: datetime) -> ContainerId | None:
        """Return the container that a token stands for; None if it is unknown or expired, or its job has ended."""

    async def claim_container(self, job_id: str, number: int, claim: Claim) -> bool:
        """Give a container to a worker; return False if it is held by a claim that ``claim`` may not follow.

        Raises NoSuchContainerError.
        """

    async def find_claim(self, job_id: str, number: int) -> Claim | None:
        """Return the claim that holds a container; None if none does."""

    async def claims(self, job_id: str) -> dict[int, Claim]:
        """Return the claims on containers of a job by number; those without a claim are left out."""


class ChecksumRecords(Protocol):
    """The part of the port for requests for checksums. Methods raise ``NoSuchChecksumsError`` for one that is not stored."""

    async def add_checksums(
        self, task: ChecksumTask, *, max_running: int, idempotency: Idempotency | None = None
    ) -> KeyHolder | None:
        """Store a request that runs.

        Returns the user's request that already holds the idempotency key, if there is one, and stores nothing. Raises
        TooManyRequestsError if ``max_running`` of its user's run. Of those of its user that are over, the latest
        ``MAX_CHECKSUM_TASKS`` are kept, with their keys.
        """

    async def get_checksums(self, task_id: str) -> ChecksumTask:
        """Return a request with its objects."""

    async def list_checksums(self, user: str) -> list[ChecksumSummary]:
        """Return the user's requests, newest first."""

    async def running_checksums(self, owner: str, *, now: datetime) -> list[RunningChecksums]:
        """Return the requests that run and that no other owner has a lease on, oldest first."""

    async def take_checksums(
        self, task_ids: Collection[str], owner: str, *, now: datetime, until: datetime
    ) -> set[str]:
        """Take or renew the lease on each of these running requests that no other owner holds; return those that ``owner`` holds."""

    async def record_checksum(self, task_id: str, number: int, result: FileResult) -> None:
        """Store what became of one object of a request."""

    async def end_checksums(self, task_id: str, state: TaskState) -> bool:
        """Move a running request to this state; return False if it does not run."""


class RecordStore(RefdataRecords, WorkerRecords, ChecksumRecords, Protocol):
    """Stores jobs and everything about them. Each method is one atomic step, durable when it returns.

    Raises ``NoSuchJobError`` with ``No job with ID '<id>' exists`` for a job that is not stored,
    ``RecordTooLargeError`` for a record that is larger than the store can keep (a job that could be stored can always
    be moved without an outcome), ``NewerRecordError`` for a job or container that only a newer version can read,
    ``StorageFullError`` when there is no space for it, and ``UnavailableError`` when the store cannot be reached.
    """

    async def open(self) -> None:
        """Create or open the store. Raises ConfigError when it is not a store of CTS, or a newer version wrote it."""

    async def close(self) -> None:
        """Finish the operations under way and release all resources."""

    async def check_room(self) -> None:
        """Raise StorageFullError when there is no space for new jobs. A store that cannot tell says nothing."""

    async def instance(self) -> str:
        """Return the id of these records: random, made once, and the same for every server that uses them."""

    async def now(self) -> datetime:
        """Return the time by the store's clock. What servers store or compare with stored times is by this clock."""

    async def insert_job(
        self,
        job: JobRecord,
        *,
        containers: int,
        idempotency: Idempotency | None = None,
        exclusive_output_dir: bool = False,
    ) -> KeyHolder | None:
        """Store a new job with its first transition and its containers, all or nothing.

        Containers start with ``created`` and ``download_submitted`` at the job's creation time. Returns None when
        stored, or the user's job that already holds the idempotency key, in which case nothing is stored.
        With ``exclusive_output_dir`` the job claims its output folder: raises FolderTakenError if another job has
        claimed it.
        """

    async def find_idempotent(self, user: str, key: str) -> KeyHolder | None:
        """Return the user's job that holds this Idempotency-Key."""

    async def get_job(self, job_id: str) -> JobRecord:
        """Return the whole record, input files and outputs included."""

    async def get_summary(self, job_id: str) -> JobSummary:
        """Return the record without input files and outputs: cheap, whatever the job's size."""

    async def get_summaries(self, job_ids: Sequence[str]) -> list[JobSummary | Exception]:
        """Return, in this order, the same of some jobs, each once, or the error that ``get_summary`` would raise."""

    async def get_drivable(self, job_id: str) -> JobSummary:
        """Return the same for acting on the job. Raises NewerRecordError, too, when its input has fields of a newer version."""

    async def list_jobs(self, query: JobQuery) -> JobPage:
        """Return a page of the jobs that match. Pages partition the jobs that do not change while they are read."""

    async def resubmissions(self, parent_ids: Collection[str], *, limit: int) -> list[JobSummary]:
        """Return at most ``limit`` jobs that are resubmissions of these, oldest first."""

    async def count_jobs(self, user: str | None = None) -> list[JobCount]:
        """Return how many jobs there are by site and state, of one user or of all."""

    async def live_jobs(
        self, site: SiteName | None = None, *, owner: str | None = None
    ) -> list[JobSummary]:
        """Return all jobs in a non-terminal state, oldest first, at a cost that does not grow with ended ones.

        With ``owner``, those are left out of which another owner holds the lease by the store's clock.
        Those of ``unadopted_jobs`` are left out, and those for which ``get_drivable`` raises NewerRecordError.
        """

    async def live_containers(self, user: str) -> int:
        """Return how many containers of the user's jobs have not ended."""

    async def live_containers_at_most(self, user: str) -> int:
        """Return a number that ``live_containers`` does not exceed, by one read of the user's live jobs."""

    async def unadopted_jobs(self) -> list[JobSummary]:
        """Return the live jobs that another program wrote into this store, oldest first. Only adopted ones are driven."""

    async def adopt(self, job_id: str) -> None:
        """Make the job ours to drive, from its present state."""

    async def set_admin_meta(
        self, job_id: str, values: Mapping[str, MetaValue], unset: Collection[str]
    ) -> None:
        """Set and remove keys of the job's admin metadata, in one write. Keys may contain dots."""

    async def set_labels(self, job_id: str, labels: Mapping[str, str]) -> None:
        """Replace the labels of the job, whatever its state."""

    async def label_keys(self, user: str, *, latest: int) -> list[str]:
        """Return the keys of the labels of the user's jobs, sorted, of those ``latest`` jobs that were updated last."""

    async def add_audit(self, job_id: str, entry: AuditEntry) -> None:
        """Append to the audit log of the job, which keeps the latest ``MAX_AUDIT`` entries."""

    async def audit(self, job_id: str) -> list[AuditEntry]:
        """Return the audit log of the job, oldest entry first."""

    async def last_look(self, user: str) -> datetime | None:
        """Return the user's read marker: the time until which the user has seen what ended. None if never set."""

    async def set_last_look(self, user: str, time: datetime) -> None:
        """Move the user's read marker forward to this time; it never moves back."""

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
        """Move a job from ``expected`` to ``new``, appending the transition with its unsent event.

        A ``time`` before the last transition's is clamped to it. Returns False, and writes nothing, when the job is
        not in ``expected`` any more: a lost race.
        """

    async def set_wait(self, job_ids: Collection[str], wait: JobWait | None) -> None:
        """Record what those of these jobs that have not ended wait for; a transition makes it None again."""

    async def containers(
        self, job_id: str, query: ContainerQuery = ALL_CONTAINERS
    ) -> list[ContainerRecord]:
        """Return the containers of a job that match, in the order of their numbers."""

    async def container(self, job_id: str, number: int) -> ContainerRecord:
        """Return one container, at a cost that does not grow with the others. Raises NoSuchContainerError."""

    async def container_states(self, job_id: str) -> list[JobState]:
        """Return the containers' states by number, from which the next state of the job is derived."""

    async def states_of_containers(self, job_ids: Collection[str]) -> dict[str, list[JobState]]:
        """Return what ``container_states`` does, by job, in one read.

        Jobs are left out for which ``container_states`` has to look further, or raises something.
        """

    async def count_containers(self, job_ids: Collection[str]) -> dict[str, dict[str, int]]:
        """Return, by job, how many of its containers are in which state; a job without container records is left out."""

    async def transition_container(
        self,
        job_id: str,
        number: int,
        expected: JobState,
        steps: Sequence[ContainerTransition],
        *,
        outcome: ContainerOutcome | None = None,
    ) -> bool:
        """Move a container from ``expected`` through ``steps``, in one write.

        Times are clamped to never run backwards. Returns False, and writes nothing, when the container is not in
        ``expected``.
        """

    async def mark_cleaned(self, job_id: str) -> None:
        """Record that the transient files of a job are removed."""

    async def ended_jobs(
        self, before: datetime, sites: Collection[SiteName], *, limit: int = 100
    ) -> list[JobSummary]:
        """Return the jobs of these sites that ended before this time and are not cleaned, oldest first."""

    async def ended_among(self, job_ids: Collection[str], before: datetime) -> set[str]:
        """Return which of these jobs ended before this time, at a cost that does not grow with others.

        Unadopted jobs of another program are left out, and those that are not stored.
        """

    async def take_leases(
        self,
        job_ids: Collection[str],
        owner: str,
        *,
        now: datetime,
        until: datetime,
    ) -> set[str]:
        """Take or renew the lease on each of these jobs that no other owner holds; return those that ``owner`` holds.

        A lease avoids that two servers do the same work. It is not a fence: compare-and-set is.
        """

    async def unsent(
        self, *, limit: int = 100, recorded_before: datetime | None = None, foreign: bool = True
    ) -> list[JobEvent]:
        """Return the oldest unsent transition of each of at most ``limit`` jobs, oldest first.

        Without ``foreign``, those of ended jobs are left out that another program wrote, and this one never moved.
        """

    async def mark_sent(self, job_id: str, trans_id: str) -> None:
        """Record that the event of a transition was acknowledged."""

    async def events(
        self,
        *,
        since: datetime,
        user: str | None = None,
        job_id: str | None = None,
        limit: int = 1000,
    ) -> list[JobEvent]:
        """Return a page of the transitions recorded at ``since`` or later, in the order of ``recorded_at``.

        A page of ``limit`` events or more is continued by another call from its last ``recorded_at``. If the page
        holds that one instant alone, it holds all of it, and is continued from just after it.
        """

    async def add_image(self, image: Image) -> None:
        """Register an image. Raises ImageTagExistsError or ImageDigestExistsError."""

    async def find_image(self, name: str, *, digest: str | None, tag: str | None) -> Image | None:
        """Return the registered image with this name and digest or, if no digest is given, with this tag."""

    async def list_images(self) -> list[Image]:
        """Return all registered images by name and tag."""

    async def delete_image(self, name: str, *, digest: str) -> bool:
        """Unregister an image; return False when it was not registered."""

    async def inactive_sites(self) -> set[SiteName]:
        """Return the sites that an operator has switched off."""

    async def set_site_active(self, site: SiteName, *, active: bool) -> None:
        """Switch a site on or off."""
