"""Converts between rows of SQLite and the model.

Stored values were validated when they came in. They are not validated again where that would be slow: thousands of
files, thousands of transitions.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from pydantic_core import to_json

from cts_core.json_pieces import pieces_of_json
from cts_core.model.event import JobEvent
from cts_core.model.image import JobImage
from cts_core.model.job import STORED, JobInputPreview, S3File, S3FileWithDataID
from cts_core.model.preview import ListedJob, write_details, write_steps
from cts_core.model.record import (
    ContainerOutcome,
    ContainerRecord,
    ContainerTransition,
    JobOutcome,
    JobRecord,
    JobSummary,
    JobWait,
    Transition,
)
from cts_core.model.site import SiteName
from cts_core.model.unvalidated import construct, read_input_files, read_outputs, with_input_files
from cts_core.records.sqlite.search_text import search_text
from cts_core.states import JobState

PARSED = 1024
"""Inputs and images of jobs that are kept parsed, since the same jobs are read again and again."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = _EPOCH.replace(tzinfo=None)
_MICROSECOND = timedelta(microseconds=1)


def to_number(time: datetime) -> int:
    """Return the microseconds since 1970."""
    return (time - _EPOCH) // _MICROSECOND


def to_time(number: int) -> datetime:
    """Return the time in UTC of these microseconds since 1970."""
    return _EPOCH + number * _MICROSECOND


def state_list(states: Collection[JobState]) -> str:
    """Return states as the right side of an ``IN``."""
    return f"({', '.join(sorted(repr(state.value) for state in states))})"


@dataclass(frozen=True)
class StoredOutcome:
    """The outcome of a job or container, as it is stored."""

    outcome: str
    outputs: str | None
    error_words: str | None = None
    """The search text of a job's error."""

    @classmethod
    def of_job(cls, outcome: JobOutcome) -> Self:
        """Serialise the outcome of a job."""
        stored = cls._of(outcome, JobOutcome)
        return dataclasses.replace(stored, error_words=outcome.error and outcome.error.casefold())

    @classmethod
    def of_container(cls, outcome: ContainerOutcome) -> Self:
        """Serialise the outcome of a container."""
        return cls._of(outcome, ContainerOutcome)

    @classmethod
    def _of(
        cls,
        outcome: JobOutcome | ContainerOutcome,
        model: type[JobOutcome | ContainerOutcome],
    ) -> Self:
        outputs = None if outcome.outputs is None else serialize_files(outcome.outputs)
        # A job or a container is itself an outcome, with fields besides.
        fields = set(model.model_fields) - {"outputs"}
        return cls(outcome.model_dump_json(include=fields, exclude_none=True), outputs)

    def merged_into(self, stored: str) -> str:
        """Return the stored outcome with the fields of this one replaced."""
        return json.dumps(json.loads(stored) | json.loads(self.outcome))


def search_words(job: JobSummary, labels: Mapping[str, str]) -> str:
    """Return the text that a search for the job looks through, but for its error."""
    texts = (job.cluster.value, job.job_input.image, job.image.name, job.job_input.output_dir)
    return search_text(job.id, labels, texts)


def job_columns(job: JobRecord) -> dict[str, Any]:
    """Return the columns of a job in ``jobs``."""
    outcome = StoredOutcome.of_job(job)
    job_input = job.job_input
    return {
        "id": job.id,
        "user": job.user,
        "parent_id": job.parent_id,
        "cluster": job.cluster.value,
        "state": job.state.value,
        "created": to_number(job.transition_times[0].time),
        "updated": to_number(job.updated),
        "cleaned": job.cleaned,
        "input_file_count": job.input_file_count,
        "labels": json.dumps(job.labels),
        "admin_meta": json.dumps(job.admin_meta),
        "image": job.image.model_dump_json(),
        "job_input": job_input.model_dump_json(exclude={"input_files"}, exclude_none=True),
        "outcome": outcome.outcome,
        "words": search_words(job, job.labels),
        "error_words": outcome.error_words or "",
    }


def serialize_files(files: list[str] | list[S3FileWithDataID] | list[S3File]) -> str:
    """Return input files or outputs as they are stored."""
    return b"".join(pieces_of_json(files, nulls=False)).decode()


@functools.lru_cache(PARSED)
def _parse_image(text: str) -> JobImage:
    return JobImage.model_validate_json(text)


@functools.lru_cache(PARSED)
def _parse_input(text: str) -> JobInputPreview:
    return JobInputPreview.model_validate_json(text, context=STORED)


def _summary_fields(row: sqlite3.Row, steps: Sequence[sqlite3.Row]) -> dict[str, Any]:
    if not steps:
        raise ValueError("The job has no transitions")
    return {
        **dict(JobOutcome.model_validate_json(row["outcome"])),
        "id": row["id"],
        "user": row["user"],
        "state": JobState(row["state"]),
        "transition_times": [_to_transition(step) for step in steps],
        "job_input": _parse_input(row["job_input"]),
        "image": _parse_image(row["image"]),
        "input_file_count": row["input_file_count"],
        "admin_meta": json.loads(row["admin_meta"]),
        "labels": json.loads(row["labels"]),
        "parent_id": row["parent_id"],
        "cleaned": bool(row["cleaned"]),
        "wait": row["wait"] and JobWait.model_validate_json(row["wait"]),
    }


def to_summary(row: sqlite3.Row, steps: Sequence[sqlite3.Row]) -> JobSummary:
    """Return a job without its files from its row and those of its transitions. Raises one of UNREADABLE when it cannot be."""
    return construct(JobSummary, **_summary_fields(row, steps))


@functools.lru_cache(PARSED)
def _write_image(text: str) -> bytes:
    return to_json(_parse_image(text), exclude_none=True)


@functools.lru_cache(PARSED)
def _write_input(text: str) -> tuple[SiteName, bytes]:
    """Return the site of a job, and its input as JSON."""
    job_input = _parse_input(text)
    return job_input.cluster, to_json(job_input, exclude_none=True)


def to_listed(row: sqlite3.Row, steps: Sequence[sqlite3.Row]) -> ListedJob:
    """Return a job for a listing from the same. Raises one of UNREADABLE when it cannot be."""
    cluster, job_input = _write_input(row["job_input"])
    outcome = json.loads(row["outcome"])
    return ListedJob(
        id=row["id"],
        user=row["user"],
        state=JobState(row["state"]),
        cluster=cluster,
        updated=to_time(row["updated"]),
        admin_meta=json.loads(row["admin_meta"]),
        wait=row["wait"] and JobWait.model_validate_json(row["wait"]),
        steps=write_steps(list(map(_to_step, steps))),
        details=write_details(
            job_input,
            _write_image(row["image"]),
            outcome,
            input_file_count=row["input_file_count"],
            labels=json.loads(row["labels"]),
            warnings=outcome.get("warnings"),
            max_anonymous_memory=outcome.get("max_anonymous_memory"),
            parent_id=row["parent_id"],
        ),
    )


def to_record(
    row: sqlite3.Row, steps: Sequence[sqlite3.Row], input_files: str, outputs: str | None
) -> JobRecord:
    """Return the whole record of a job; ``input_files`` and ``outputs`` are JSON."""
    fields = _summary_fields(row, steps)
    preview = fields.pop("job_input")
    job_input = with_input_files(preview, read_input_files(input_files))
    fields["outputs"] = read_outputs(outputs)
    return construct(JobRecord, job_input=job_input, **fields)


def _to_step(row: sqlite3.Row) -> tuple[str, datetime]:
    """Return the state of a transition, and its time in UTC without a zone."""
    return row["state"], _NAIVE_EPOCH + row["time"] * _MICROSECOND


def _to_transition(row: sqlite3.Row) -> Transition:
    return construct(
        Transition,
        state=JobState(row["state"]),
        time=to_time(row["time"]),
        trans_id=row["trans_id"],
        notif_sent=bool(row["notif_sent"]),
        recorded_at=to_time(row["recorded_at"]),
    )


def to_event(row: sqlite3.Row) -> JobEvent:
    """Return a transition of a job as an event."""
    return construct(
        JobEvent,
        job_id=row["job_id"],
        user=row["user"],
        state=JobState(row["state"]),
        time=to_time(row["time"]),
        trans_id=row["trans_id"],
        recorded_at=to_time(row["recorded_at"]),
        number=row["number"],
    )


def serialize_steps(steps: Iterable[ContainerTransition]) -> str:
    """Return the transitions of a container as they are stored."""
    return json.dumps([[step.state.value, to_number(step.time)] for step in steps])


def to_steps(text: str) -> list[ContainerTransition]:
    """Return the transitions of a container."""
    return [
        construct(ContainerTransition, state=JobState(state), time=to_time(time))
        for state, time in json.loads(text)
    ]


def to_container(row: sqlite3.Row) -> ContainerRecord:
    """Return a container from its row in ``containers``, joined with its outputs as ``files``."""
    outcome = ContainerOutcome.model_validate_json(row["outcome"])
    return construct(
        ContainerRecord,
        **{
            **dict(outcome),
            "outputs": read_outputs(row["files"]),
        },
        id=row["job_id"],
        sub_id=row["number"],
        state=JobState(row["state"]),
        transition_times=to_steps(row["transition_times"]),
    )
