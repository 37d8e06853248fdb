"""A user's jobs as a table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from cts_core.states import JobState
from cts_core.why import NON_ZERO_EXIT, has_failed
from cts_core.worker.units import format_seconds
from cts_jupyter import formatting
from cts_jupyter.client.client import CTSClient
from cts_jupyter.client.models import JobPreview
from cts_jupyter.client.search import JobQuery, find_jobs
from cts_jupyter.client.transport import CTSClientError
from cts_jupyter.notebook.job import Job
from cts_jupyter.notebook.last_seen import find_new
from cts_jupyter.notebook.session import Session
from cts_jupyter.notebook.table import Column, Table

log = logging.getLogger(__name__)

_MAX_REASONS = 20
"""The failed jobs of a list whose containers are asked for their reason."""


def list_jobs(session: Session, query: JobQuery) -> Table[Job]:
    """Return the user's jobs that match. Raises CTSClientError, and OSError where ``query.new`` cannot be noted."""
    if query.new:
        result = find_new(session, query)
        empty = "No job has ended since you last looked"
    else:
        result = find_jobs(session.client, query)
        empty = f"You have no jobs at {session.where} that match"
    jobs = [Job(session, job.id, job) for job in result.jobs]
    live = any(not formatting.has_ended(job.state) for job in result.jobs)
    as_of = [f"As of {formatting.format_zoned_time(datetime.now(UTC))}"] if live else []
    reasons = _find_reasons(session.client, result.jobs)
    return Table(_columns(reasons), jobs, empty=empty, notes=[*result.notes, *as_of])


def _elapsed_seconds(job: Job) -> float:
    times = job.summary.transition_times
    end = times[-1].time if formatting.has_ended(job.summary.state) else datetime.now(UTC)
    return (end - times[0].time).total_seconds()


def _state(job: Job) -> str:
    return formatting.shown_state(job.summary.state, job.summary.containers)


def _labels(job: Job) -> str:
    return " ".join(f"{key}={value}" for key, value in job.summary.labels.items())


def _find_reasons(client: CTSClient, jobs: Sequence[JobPreview]) -> Mapping[str, str]:
    """Return the reason of the first failed container of jobs whose own error names none, by the jobs' ids."""
    unclear = [job.id for job in jobs if job.error == NON_ZERO_EXIT][:_MAX_REASONS]
    reasons = {}
    try:
        for job_id in unclear:
            page = client.container_page(job_id, state=JobState.ERROR, limit=1)
            for container in filter(has_failed, page.containers[:1]):
                why = container.error or f"ended with exit code {container.exit_code}"
                reasons[job_id] = f"Container {container.number} {why}"
    except CTSClientError as e:
        log.info("The list of jobs goes without reasons of containers: %s", e)
    return reasons


def _columns(reasons: Mapping[str, str]) -> Sequence[Column[Job]]:
    def error(job: Job) -> str | None:
        return reasons.get(job.id, job.summary.error)

    return [
        *_COLUMNS,
        Column("error", lambda j: formatting.first_line(error(j) or ""), error, is_below=True),
    ]


_COLUMNS: Sequence[Column[Job]] = [
    Column("job", lambda j: formatting.short_id(j.id), lambda j: j.id),
    Column("state", lambda j: formatting.format_state(_state(j)), _state),
    Column("image", lambda j: j.summary.job_input.image),
    Column("containers", lambda j: str(j.summary.job_input.num_containers),
           lambda j: j.summary.job_input.num_containers, is_number=True),
    Column("submitted", lambda j: formatting.format_time(j.summary.transition_times[0].time),
           lambda j: j.summary.transition_times[0].time),
    Column("took", lambda j: format_seconds(_elapsed_seconds(j)), _elapsed_seconds, is_number=True),
    Column("outputs in", lambda j: j.summary.job_input.output_dir),
    Column("labels", _labels, lambda j: dict(j.summary.labels), is_below=True),
    Column("waits for", lambda j: j.summary.waits_for or "", lambda j: j.summary.waits_for, is_below=True),
]  # fmt: skip
