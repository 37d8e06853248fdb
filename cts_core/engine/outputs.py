"""The outputs of a job, or of its whole lineage merged as if it were one job."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterator, Sequence

from cts_core.concurrency import run_in_pool
from cts_core.engine.access import check_owner
from cts_core.engine.lineage import MAX_LINEAGE, find_lineage
from cts_core.engine.outcome import overwritten
from cts_core.errors import IllegalParameterError
from cts_core.identity.identity import User
from cts_core.model.job import S3File, S3FileWithDataID
from cts_core.model.record import ContainerRecord, JobRecord
from cts_core.model.resubmission import JobOutput, JobOutputs
from cts_core.plan import split_evenly
from cts_core.records.store import RecordStore
from cts_core.states import JobState

MAX_OUTPUTS = 10_000
"""Outputs on one page."""
MAX_REPLACED = 100
"""Lost outputs that an answer names."""


class Outputs:
    """Methods raise NoSuchJobError, and UnauthorizedError for another user's job."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store

    async def page(
        self, user: User, job_id: str, *, lineage: bool, after: str | None, limit: int
    ) -> JobOutputs:
        """Return one page of the outputs of the containers that have completed, whatever became of the others.

        With ``lineage`` also those of the jobs of which it is a resubmission, and of all their resubmissions: if
        several of these jobs completed an input, only the outputs of the latest one count. Raises
        IllegalParameterError for a lineage that is too large.
        """
        job = check_owner(user, await self._store.get_summary(job_id))
        members = await find_lineage(self._store, job) if lineage else [job]
        if len(members) > MAX_LINEAGE:
            raise IllegalParameterError(
                f"Job {job_id} and its resubmissions are more than {MAX_LINEAGE} jobs: ask for the outputs of "
                "each job by itself"
            )
        merged = MergedOutputs()
        for member in reversed(members):
            record = await self._store.get_job(member.id)
            containers = await self._store.containers(member.id)
            await run_in_pool(merged.add_older, record, containers)
            # To free 100,000 outputs takes ten milliseconds, and these are not freed in one turn of the event loop.
            del record
            await asyncio.sleep(0)
            del containers
            await asyncio.sleep(0)
        outputs, following = await run_in_pool(merged.page, after, limit)
        return JobOutputs.model_construct(
            outputs=outputs,
            jobs=[member.id for member in members],
            open_inputs=merged.open_inputs,
            replaced=merged.replaced or None,
            next=following,
        )


class MergedOutputs:
    """The merged outputs of several jobs."""

    def __init__(self) -> None:
        self._outputs: dict[str, _Written] = {}
        """By path."""
        self.replaced: list[JobOutput] = []
        """Some outputs that are lost: a later job stored another at the path, and it is of other inputs."""
        self._inputs: set[str] = set()
        self._completed: set[str] = set()

    def page(self, after: str | None, limit: int) -> tuple[list[JobOutput], str | None]:
        """Return outputs in the order of their paths, and the last path if more follow."""
        # Sorting all of them would be one long call into C, which holds the event loop from any thread.
        left = (path for path in self._outputs if after is None or path > after)
        paths = heapq.nsmallest(limit + 1, left)
        shown = paths[:limit]
        following = shown[-1] if len(paths) > limit else None
        return [_to_job_output(path, *self._outputs[path]) for path in shown], following

    @property
    def open_inputs(self) -> int:
        """The number of input files that no container has completed."""
        return len(self._inputs - self._completed)

    def add_older(self, job: JobRecord, containers: Sequence[ContainerRecord]) -> None:
        """Add a job that is older than those before, which win where both have an input or a path."""
        # Of a path that several containers wrote, only the job record has the checksum of the last one, and only if the
        # job has completed.
        kept = dict.fromkeys(overwritten(containers)) | {
            output.file: output.crc64nvme for output in job.outputs or ()
        }
        completed: set[str] = set()
        for number, inputs, outputs in _completed_parts(job, containers):
            files = {file.file for file in inputs}
            if files <= self._completed:
                continue
            completed |= files
            for output in outputs:
                crc64nvme = kept.get(output.file, output.crc64nvme)
                written = self._outputs.setdefault(output.file, (crc64nvme, job.id, number))
                if written[1] != job.id and len(self.replaced) < MAX_REPLACED:
                    self.replaced.append(_to_job_output(output.file, crc64nvme, job.id, number))
        self._completed |= completed
        self._inputs.update(file.file for file in job.job_input.files)


_Written = tuple[str | None, str, int | None]
"""The checksum of an output, the job and the container that wrote it."""
_Part = tuple[int | None, Sequence[S3FileWithDataID], Sequence[S3File]]


def _to_job_output(path: str, crc64nvme: str | None, job_id: str, number: int | None) -> JobOutput:
    return JobOutput.model_construct(
        file=path, crc64nvme=crc64nvme, job_id=job_id, container=number
    )


def _completed_parts(job: JobRecord, containers: Sequence[ContainerRecord]) -> Iterator[_Part]:
    """Yield number, inputs and outputs of each completed container; those of the whole job if its containers are unknown."""
    if job.state is JobState.COMPLETE and not any(record.outputs for record in containers):
        yield None, job.job_input.files, job.outputs or ()
        return
    parts = split_evenly(job.job_input.files, job.job_input.num_containers)
    for record, inputs in zip(containers, parts, strict=False):
        if record.state is JobState.COMPLETE:
            yield record.sub_id, inputs, record.outputs or ()
