"""Looking at jobs, reading their logs, canceling them: each on behalf of a user."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

from cts_core.engine.sites import SiteDirectory
from cts_core.errors import (
    BucketNotFoundError,
    CTSError,
    IllegalParameterError,
    NoLogsError,
    NoSuchJobError,
    PathNotFoundError,
    UnauthorizedError,
)
from cts_core.identity.identity import User
from cts_core.model.base import utc_now
from cts_core.model.job import (
    Container,
    Containers,
    ExitCodes,
    Job,
    JobPreview,
    JobStateTransition,
    JobStatus,
)
from cts_core.model.job import (
    Jobs as JobList,
)
from cts_core.model.record import ContainerRecord, JobQuery, JobRecord, JobSummary
from cts_core.objects.paths import join_path
from cts_core.objects.store import ObjectStore
from cts_core.plan import split_evenly
from cts_core.records.store import RecordStore
from cts_core.sites.site import Log, LogStream
from cts_core.states import TERMINAL, JobState

_CANCEL_TRIES = len(JobState)
"""A job moves forward only, so that it cannot win the race against a cancel more often than this."""


def log_folder(log_dir: str, job_id: str) -> str:
    """The object folder of a job's logs."""
    return join_path(log_dir, job_id)


def log_path(log_dir: str, job_id: str, number: int, stream: LogStream) -> str:
    """The object that holds one log of a container (contract, facts §4)."""
    return join_path(log_folder(log_dir, job_id), f"container-{number}-{stream.value}.txt")


class Jobs:
    """Every method raises NoSuchJobError, and UnauthorizedError for another user's job."""

    def __init__(
        self,
        store: RecordStore,
        objects: ObjectStore,
        sites: SiteDirectory,
        *,
        log_dir: str,
        on_change: Callable[[str], None],
    ) -> None:
        """``on_change(job_id)`` is told of each job that this class moves."""
        self._store = store
        self._objects = objects
        self._sites = sites
        self._log_dir = log_dir
        self._on_change = on_change

    async def _summary(self, user: User, job_id: str) -> JobSummary:
        return _check_owner(user, await self._store.get_summary(job_id))

    async def get(self, user: User, job_id: str) -> Job:
        """The job, whole."""
        record = await self._store.get_job(job_id)
        _check_owner(user, record)
        return Job.model_construct(
            **_shared_fields(record), job_input=record.job_input, outputs=record.outputs
        )

    async def status(self, user: User, job_id: str) -> JobStatus:
        """The job's state and how it got there."""
        record = await self._summary(user, job_id)
        return JobStatus(
            id=record.id,
            state=record.state,
            transition_times=_transitions(record),
            user=record.user,
            admin_meta=record.admin_meta,
        )

    async def list(self, user: User, query: JobQuery) -> JobList:
        """The user's jobs that match, newest update first."""
        found = await self._store.list_jobs(dataclasses.replace(query, user=user.name))
        return JobList.model_construct(
            jobs=[
                JobPreview.model_construct(**_shared_fields(job), job_input=job.job_input)
                for job in found.jobs
            ]
        )

    async def exit_codes(self, user: User, job_id: str) -> ExitCodes:
        """The exit code of each container."""
        await self._summary(user, job_id)
        containers = await self._store.containers(job_id)
        return ExitCodes(exit_codes=[container.exit_code for container in containers])

    async def containers(self, user: User, job_id: str) -> Containers:
        """Each container with its inputs and, once it has ended well, its outputs."""
        job = await self._store.get_job(job_id)
        _check_owner(user, job)
        records = await self._store.containers(job_id)
        parts = split_evenly(job.job_input.files, job.job_input.num_containers)
        return Containers.model_construct(
            containers=[
                _container(record, inputs) for record, inputs in zip(records, parts, strict=True)
            ]
        )

    async def cancel(self, user: User, job_id: str) -> None:
        """Have the job stopped. A job that has ended, or is being canceled, raises NoSuchJobError."""
        for _ in range(_CANCEL_TRIES):
            job = await self._summary(user, job_id)
            if job.state in TERMINAL or job.state is JobState.CANCELING:
                break
            if await self._store.transition(
                job_id,
                job.state,
                JobState.CANCELING,
                time=utc_now(),
                trans_id=str(uuid.uuid4()),
            ):
                self._on_change(job_id)
                return
        raise NoSuchJobError(
            f"No job with ID '{job_id}' exists that can be canceled: it is {job.state.value}"
        )

    async def open_log(
        self,
        user: User,
        job_id: str,
        number: int,
        stream: LogStream,
        *,
        seek: int = 0,
        length: int | None = None,
    ) -> Log:
        """A container's log from byte ``seek``, in any state of the job.

        Raises IllegalParameterError for a container that the job does not have and for a ``seek`` past
        the end of a finished log, NoLogsError while no byte of the container's output is stored.
        """
        job = await self._summary(user, job_id)
        if number >= job.job_input.num_containers:
            raise IllegalParameterError(
                f"Container number must be < {job.job_input.num_containers} for job {job_id}"
            )
        log = await self._find_log(job, number, stream, seek, length)
        if log is None or log.size == 0:
            (other,) = set(LogStream) - {stream}
            beside = await self._find_log(job, number, other, 0, 1)
            if beside is None or beside.size == 0:
                raise NoLogsError(f"Job ID {job_id} has no logs available")
            log = log or Log(size=0, ended=job.state in TERMINAL, body=_nothing())
        if seek and log.ended and seek >= log.size:
            raise IllegalParameterError(f"Cannot seek to byte {seek}: the log has {log.size} bytes")
        return log

    async def _find_log(
        self, job: JobSummary, number: int, stream: LogStream, seek: int, length: int | None
    ) -> Log | None:
        site = self._sites.find(job.cluster)
        if site is not None:
            log = await site.open_log(job.id, number, stream, seek=seek, length=length)
            if log is not None:
                return log
        path = log_path(self._log_dir, job.id, number, stream)
        (found,) = await self._objects.head([path])
        if isinstance(found, PathNotFoundError | BucketNotFoundError):
            return None
        if isinstance(found, CTSError):
            raise found
        return Log(
            size=found.size,
            ended=True,
            body=self._objects.read(path, seek=seek, length=length),
        )


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""  # makes this a generator


def _check_owner(user: User, job: JobSummary) -> JobSummary:
    if job.user != user.name:
        raise UnauthorizedError(f"User {user.name} may not access job {job.id}")
    return job


def _transitions(job: JobSummary) -> list[JobStateTransition]:
    return [JobStateTransition(state=t.state, time=t.time) for t in job.transition_times]


def _shared_fields(job: JobSummary | JobRecord) -> dict[str, Any]:
    # What the store holds was validated on its way in; validating 10,000 files again would block the loop.
    return {
        "id": job.id,
        "state": job.state,
        "transition_times": _transitions(job),
        "user": job.user,
        "admin_meta": job.admin_meta,
        "image": job.image,
        "input_file_count": job.input_file_count,
        "output_file_count": job.output_file_count,
        "cpu_hours": job.cpu_hours,
        "cpu_factor": job.cpu_factor,
        "max_memory": job.max_memory,
        "error": job.error,
        "logpath": job.logpath,
        "labels": job.labels or None,
        "warnings": job.warnings or None,
    }


def _container(record: ContainerRecord, inputs: list[Any]) -> Container:
    return Container.model_construct(
        number=record.sub_id,
        state=record.state,
        transition_times=[
            JobStateTransition(state=t.state, time=t.time) for t in record.transition_times
        ],
        exit_code=record.exit_code,
        error=record.error,
        cpu_seconds=record.cpu_seconds,
        wall_seconds=record.wall_seconds,
        max_memory=record.max_memory,
        inputs=inputs,
        outputs=record.outputs,
        warnings=record.warnings,
    )
