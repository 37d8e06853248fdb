"""A user's jobs as a table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from cts_core.worker.units import format_seconds
from cts_jupyter import formatting
from cts_jupyter.client.search import JobQuery, find_jobs
from cts_jupyter.notebook.job import Job
from cts_jupyter.notebook.last_seen import find_new
from cts_jupyter.notebook.session import Session
from cts_jupyter.notebook.table import Column, Table


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
    return Table(_COLUMNS, jobs, empty=empty, notes=[*result.notes, *as_of])


def _elapsed_seconds(job: Job) -> float:
    times = job.summary.transition_times
    end = times[-1].time if formatting.has_ended(job.summary.state) else datetime.now(UTC)
    return (end - times[0].time).total_seconds()


def _state(job: Job) -> str:
    return formatting.shown_state(job.summary.state, job.summary.containers)


def _labels(job: Job) -> str:
    return " ".join(f"{key}={value}" for key, value in job.summary.labels.items())


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
    Column("error", lambda j: formatting.first_line(j.summary.error or ""), lambda j: j.summary.error,
           is_below=True),
]  # fmt: skip
