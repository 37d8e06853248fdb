"""The record-store port. It is the one door for state: compare and set, never overwrite."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

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
from cts_core.states import JobState

MAX_AUDIT = 1000
"""What operators did that is kept of a job: the latest."""


@dataclass(frozen=True)
class IdempotentJob:
    """The job that a user's Idempotency-Key already stands for."""

    job_id: str
    body_hash: str


class RefdataRecords(Protocol):
    """Raises ``NoSuchRefdataError`` where reference data, or a site of it, is named that is not there."""

    async def add_refdata(self, refdata: AdminReferenceData) -> None:
        """Register reference data. Raises RefdataExistsError when its file is registered already."""

    async def get_refdata(self, refdata_id: str) -> AdminReferenceData:
        """The reference data with this id."""

    async def find_refdata(self, path: str) -> AdminReferenceData:
        """The reference data of this file."""

    async def list_refdata(self) -> list[AdminReferenceData]:
        """All reference data, oldest registration first."""

    async def add_refdata_site(self, refdata_id: str, status: AdminReferenceDataStatus) -> bool:
        """Add a site; False when it is there already, and nothing is written."""

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
        """Move the reference data at a site from ``expected`` to ``new``; False for a lost race."""

    async def mark_refdata_cleaned(self, refdata_id: str, cluster: SiteName) -> None:
        """Note that what staging left at the site is gone."""


class WorkerRecords(Protocol):
    """Tokens are known by their hashes alone."""

    async def add_worker_tokens(
        self, job_id: str, numbers: Mapping[str, int], *, now: datetime, until: datetime
    ) -> None:
        """Let tokens, given by their hashes, stand for containers of a job, ``until`` then or the job's end.

        Tokens that it had before stay good: a start may be doubled, and either may be the one that runs.
        """

    async def find_worker_token(self, token_hash: str, *, now: datetime) -> ContainerId | None:
        """The container that a token stands for; None for one that is unknown, too old, or of a job that has ended."""

    async def claim_container(self, job_id: str, number: int, claim: Claim) -> bool:
        """Give a container to a worker, if ``claim`` may follow what it was given for before; False otherwise.

        Raises NoSuchContainerError.
        """

    async def claims(self, job_id: str) -> dict[int, Claim]:
        """By number, for what each container of a job was given, as far as any was."""


class RecordStore(RefdataRecords, WorkerRecords, Protocol):
    """Each method is one atomic step, durable when it returns.

    Raises ``NoSuchJobError`` with ``No job with ID '<id>' exists`` where a job is named,
    ``RecordTooLargeError`` where one record would be more than the store can keep (a job that could be stored
    can always be moved without an outcome), ``NewerRecordError`` for a job or container that says what only a newer
    version knows, and ``UnavailableError`` when the store cannot be reached.
    """

    async def open(self) -> None:
        """Create or open the store. Raises ConfigError when it is not one of ours, or newer than us."""

    async def close(self) -> None:
        """Finish what is under way and release everything."""

    async def insert_job(
        self,
        job: JobRecord,
        *,
        containers: int,
        idempotency: Idempotency | None = None,
        exclusive_output_dir: bool = False,
    ) -> IdempotentJob | None:
        """Store a new job with its first transition and its containers, all or nothing.

        Containers are born with ``created`` and ``download_submitted`` at the job's creation time. Returns
        None when stored, or the user's job that already holds the key, in which case nothing is stored.
        with ``exclusive_output_dir`` no other job that was stored so has its output folder: raises FolderTakenError.
        """

    async def find_idempotent(self, user: str, key: str) -> IdempotentJob | None:
        """The user's job that holds this Idempotency-Key."""

    async def get_job(self, job_id: str) -> JobRecord:
        """The whole record, its outputs included."""

    async def get_summary(self, job_id: str) -> JobSummary:
        """The record without input files and outputs: cheap, whatever the job's size."""

    async def get_drivable(self, job_id: str) -> JobSummary:
        """The same of a job that is to be acted upon, which must ask for nothing that only a newer version knows."""

    async def list_jobs(self, query: JobQuery) -> JobPage:
        """A page of the jobs that match. Pages partition what does not change while they are read."""

    async def resubmissions(self, parent_ids: Collection[str], *, limit: int) -> list[JobSummary]:
        """The jobs that are resubmissions of these, oldest first, at most ``limit``."""

    async def count_jobs(self, user: str | None = None) -> list[JobCount]:
        """How many jobs there are by site and state, of one user or of all."""

    async def live_jobs(self, cluster: SiteName | None = None) -> list[JobSummary]:
        """Every job in a non-terminal state, oldest first, at a cost that does not grow with ended ones.

        Jobs of ``unadopted_jobs`` are left out, and those that ``get_drivable`` refuses.
        """

    async def live_containers(self, user: str) -> int:
        """The containers of the user's jobs that have not ended."""

    async def unadopted_jobs(self) -> list[JobSummary]:
        """Live jobs that another program wrote into this store, oldest first: not ours to drive until adopted."""

    async def adopt(self, job_id: str) -> None:
        """From now on the job is ours to drive, from the state that it is in."""

    async def set_admin_meta(
        self, job_id: str, values: Mapping[str, MetaValue], unset: Collection[str]
    ) -> None:
        """Set and remove keys of the job's admin metadata, in one write. Keys may have dots."""

    async def add_audit(self, job_id: str, entry: AuditEntry) -> None:
        """Note what an operator did to the job. Only the latest ``MAX_AUDIT`` are kept."""

    async def audit(self, job_id: str) -> list[AuditEntry]:
        """What operators did to the job, oldest first."""

    async def last_look(self, user: str) -> datetime | None:
        """When the user last looked at what had ended."""

    async def set_last_look(self, user: str, time: datetime) -> None:
        """The user has looked at what had ended until then; never moves backwards."""

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

        ``time`` earlier than the last transition's is clamped to it. False when the job is not in
        ``expected`` any more: a lost race, nothing is written.
        """

    async def containers(self, job_id: str) -> list[ContainerRecord]:
        """All containers of a job in the order of their numbers."""

    async def container(self, job_id: str, number: int) -> ContainerRecord:
        """One container of a job, at a cost that does not grow with the others. Raises NoSuchContainerError."""

    async def container_states(self, job_id: str) -> list[JobState]:
        """The containers' states by number: what the parent's next state is derived from."""

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

        Times are clamped to never run backwards. False when the container is not in ``expected``.
        """

    async def mark_cleaned(self, job_id: str) -> None:
        """Note that a job's transient files are gone."""

    async def ended_jobs(
        self, before: datetime, clusters: Collection[SiteName], *, limit: int = 100
    ) -> list[JobSummary]:
        """Jobs of these sites that ended before this time and are not cleaned, oldest first."""

    async def ended_among(self, job_ids: Collection[str], before: datetime) -> set[str]:
        """Those of these jobs that ended before this time, at a cost that does not grow with others.

        Jobs of another program, which were never adopted, are left out, as are those that are not there.
        """

    async def take_leases(
        self,
        job_ids: Collection[str],
        owner: str,
        *,
        now: datetime,
        until: datetime,
    ) -> set[str]:
        """Take or renew the lease on each of these jobs that no other owner holds; returns those held.

        A lease saves two servers from doing the same work. It is no fence: compare-and-set is.
        """

    async def unsent(
        self, *, limit: int = 100, recorded_before: datetime | None = None
    ) -> list[JobEvent]:
        """The oldest unsent transition of each of at most ``limit`` jobs, oldest first."""

    async def mark_sent(self, job_id: str, trans_id: str) -> None:
        """Note that a transition's event was acknowledged."""

    async def events(
        self,
        *,
        since: datetime,
        user: str | None = None,
        job_id: str | None = None,
        limit: int = 1000,
    ) -> list[JobEvent]:
        """Transitions recorded at ``since`` or later in the order of ``recorded_at``.

        A page of ``limit`` events or more is continued by asking again from its last ``recorded_at``. Should
        the page hold that one instant alone, it holds all of it, and is continued from just after it.
        """

    async def add_image(self, image: Image) -> None:
        """Register an image. Raises ImageTagExistsError or ImageDigestExistsError."""

    async def find_image(self, name: str, *, digest: str | None, tag: str | None) -> Image | None:
        """The registered image with this name and digest, or without a digest given, with this tag."""

    async def list_images(self) -> list[Image]:
        """All registered images by name and tag."""

    async def delete_image(self, name: str, *, digest: str) -> bool:
        """Unregister an image; False when it was not there."""

    async def inactive_sites(self) -> set[SiteName]:
        """The sites that an operator has switched off."""

    async def set_site_active(self, cluster: SiteName, *, active: bool) -> None:
        """Switch a site on or off."""
