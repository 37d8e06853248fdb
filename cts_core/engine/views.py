"""Responses about jobs, made from their records. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic_core import to_json

from cts_core.concurrency import run_sized
from cts_core.engine.cursor import write_cursor
from cts_core.json_pieces import Written
from cts_core.model.admin import AdminJobDetails, AdminJobStateTransition, SubJob
from cts_core.model.event import JobEvent
from cts_core.model.job import (
    Container,
    Job,
    JobPreview,
    Jobs,
    JobStateTransition,
    JobStatus,
    S3FileWithDataID,
)
from cts_core.model.preview import JobPage
from cts_core.model.record import (
    ContainerRecord,
    JobQuery,
    JobRecord,
    JobSummary,
    Transition,
    Waiting,
)
from cts_core.model.unvalidated import construct
from cts_core.plan import split_evenly

WaitsFor = Callable[[Waiting], str | None]
"""Returns what keeps a live job from going on, in one sentence for its owner."""


def _nothing(job: Waiting) -> None:  # noqa: ARG001 - as WaitsFor has it
    return None


# Records were validated when they were written: validating 10,000 files again would block the event loop.


def job_view(record: JobRecord, waits_for: WaitsFor = _nothing) -> Job:
    """Return the job as its owner sees it."""
    return Job.model_construct(
        **_shared_fields(record, waits_for), job_input=record.job_input, outputs=record.outputs
    )


def admin_view(record: JobRecord, waits_for: WaitsFor = _nothing) -> AdminJobDetails:
    """Return the job as an admin sees it."""
    transitions = [
        AdminJobStateTransition(
            state=t.state, time=t.time, trans_id=t.trans_id, notif_sent=t.notif_sent
        )
        for t in record.transition_times
    ]
    return AdminJobDetails.model_construct(
        **{**_shared_fields(record, waits_for), "transition_times": transitions},
        job_input=record.job_input,
        outputs=record.outputs,
        admin_error=record.admin_error,
        traceback=record.traceback,
        cleaned=record.cleaned,
        htcondor_details=record.htcondor_details,
        nersc_details=record.nersc_details,
        jaws_details=record.jaws_details,
    )


def status_view(
    job: JobSummary, counts: dict[str, int] | None, waits_for: WaitsFor = _nothing
) -> JobStatus:
    """Return the job's state; ``counts`` has the number of containers in each."""
    return JobStatus(
        id=job.id,
        state=job.state,
        transition_times=_transitions(job.transition_times),
        user=job.user,
        admin_meta=job.admin_meta,
        containers=counts,
        waits_for=waits_for(job),
    )


def preview_view(
    job: JobSummary, counts: dict[str, int] | None, waits_for: WaitsFor = _nothing
) -> JobPreview:
    """Return the job without its files; ``counts`` has the number of containers in each state."""
    return construct(
        JobPreview, **_shared_fields(job, waits_for), job_input=job.job_input, containers=counts
    )


def list_view(
    page: JobPage,
    query: JobQuery,
    counts: Mapping[str, dict[str, int]] | None = None,
    waits_for: WaitsFor = _nothing,
) -> Written[Jobs]:
    """Return one page of a listing, with the cursor of the next; ``counts`` has the containers in each state by job id."""
    counts = counts or {}
    previews = [job.write(counts.get(job.id), waits_for(job)) for job in page.jobs]
    rest = Jobs(
        jobs=[],
        next=write_cursor(page.next, query.sort, ascending=query.ascending) if page.next else None,
        is_cut=page.is_cut or None,
        searched_until=page.searched_until,
    )
    before, brackets, after = to_json(rest, exclude_none=True).partition(b"[]")
    return Written(before + brackets[:1] + b",".join(previews) + brackets[1:] + after)


async def make_list_view(
    page: JobPage,
    query: JobQuery,
    counts: Mapping[str, dict[str, int]] | None,
    waits_for: WaitsFor,
) -> Written[Jobs]:
    """Return the same, made in a thread if it is a large page; what belongs to the event loop is read before."""
    waits = {job.id: waits_for(job) for job in page.jobs}
    return await run_sized(
        len(page.jobs), list_view, page, query, counts, lambda job: waits[job.id]
    )


def container_view(record: ContainerRecord, inputs: Sequence[S3FileWithDataID] | None) -> Container:
    """Return a container as its job's owner sees it, without its inputs if they are not given."""
    return construct(
        Container,
        number=record.sub_id,
        state=record.state,
        transition_times=list(record.transition_times),
        exit_code=record.exit_code,
        error=record.error,
        cpu_seconds=record.cpu_seconds,
        wall_seconds=record.wall_seconds,
        max_memory=record.max_memory,
        max_anonymous_memory=record.max_anonymous_memory,
        inputs=None if inputs is None else list(inputs),
        outputs=record.outputs,
        warnings=record.warnings,
    )


def container_views(job: JobRecord | None, records: Sequence[ContainerRecord]) -> list[Container]:
    """Return containers as their job's owner sees them, with their inputs if the job is given."""
    if job is None:
        return [container_view(record, None) for record in records]
    parts = list(split_evenly(job.job_input.files, job.job_input.num_containers))
    return [container_view(record, parts[record.sub_id]) for record in records]


def admin_container_view(record: ContainerRecord) -> SubJob:
    """Return a container as an admin sees it."""
    return construct(
        SubJob,
        id=record.id,
        sub_id=record.sub_id,
        state=record.state,
        transition_times=list(record.transition_times),
        exit_code=record.exit_code,
        outputs=record.outputs,
        admin_error=record.admin_error,
        traceback=record.traceback,
    )


def event_of(job: JobSummary, transition: Transition) -> JobEvent:
    """Return the event of one of a job's transitions."""
    return JobEvent(
        job_id=job.id,
        user=job.user,
        state=transition.state,
        time=transition.time,
        trans_id=transition.trans_id,
        recorded_at=transition.recorded_at,
        number=job.transition_times.index(transition),
    )


def _transitions(steps: Sequence[Transition]) -> list[JobStateTransition]:
    return [construct(JobStateTransition, state=step.state, time=step.time) for step in steps]


def _shared_fields(job: JobSummary, waits_for: WaitsFor) -> dict[str, Any]:
    return {
        "waits_for": waits_for(job),
        "id": job.id,
        "state": job.state,
        "transition_times": _transitions(job.transition_times),
        "user": job.user,
        "admin_meta": job.admin_meta,
        "image": job.image,
        "input_file_count": job.input_file_count,
        "output_file_count": job.output_file_count,
        "cpu_hours": job.cpu_hours,
        "cpu_factor": job.cpu_factor,
        "max_memory": job.max_memory,
        "max_anonymous_memory": job.max_anonymous_memory,
        "error": job.error,
        "logpath": job.logpath,
        "labels": job.labels or None,
        "warnings": job.warnings or None,
        "parent_id": job.parent_id,
    }
