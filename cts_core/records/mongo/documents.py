"""Converts between documents of MongoDB and the model.

The layout is the deployed service's (docs/reference/contract.md §7), so that either can read what the other wrote. Additions are
in separate fields: ``_cts`` in jobs and containers, ``_recorded_at`` in transitions. A field that is absent and one
that is null mean the same.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
from bson import CodecOptions
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument
from pydantic import BaseModel, TypeAdapter
from pydantic_core import to_json

from cts_core.model.event import JobEvent
from cts_core.model.image import JobImage
from cts_core.model.job import (
    STORED,
    HTCondorDetails,
    JAWSDetails,
    JobInput,
    JobInputPreview,
    MetaValue,
    NERSCDetails,
    S3File,
    S3Folder,
)
from cts_core.model.preview import ListedJob, write_details, write_steps
from cts_core.model.record import (
    ContainerOutcome,
    ContainerRecord,
    ContainerTransition,
    Idempotency,
    JobOutcome,
    JobRecord,
    JobSummary,
    JobWait,
    Transition,
)
from cts_core.model.site import SiteName
from cts_core.model.unvalidated import construct, to_input_files, to_outputs, with_input_files
from cts_core.states import JobState

Document = Mapping[str, Any]

PARSED = 1024
"""Inputs and images of jobs that are kept parsed, since the same jobs are read again and again."""
BYTES_OF_FILE = 200
"""About as many bytes are taken by an input, an output, an argument or a container without outputs in a document."""
SUMMARY = {
    "_id": 0,
    "job_input.input_files": 0,
    "outputs": 0,
    "_cts.audit": 0,
    "_cts.lease": 0,
    "traceback": 0,
}
"""The projection of a job for its summary: without what that does not need, what can be large, and what changes all the time."""

_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True, tzinfo=UTC)
# A text that is not UTF-8, as a record edited by hand may have, must not end the reading of all.
RAW_CODEC: CodecOptions[RawBSONDocument] = CodecOptions(
    RawBSONDocument, tz_aware=True, tzinfo=UTC, unicode_decode_error_handler="replace"
)
_FOLDER: TypeAdapter[str] = TypeAdapter(S3Folder)
_MILLISECOND = timedelta(milliseconds=1)
_LAST = datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
_OURS_OF_JOB = ("max_anonymous_memory", "warnings")
_OURS_OF_CONTAINER = (
    *("error", "cpu_seconds", "wall_seconds", "max_memory", "max_anonymous_memory", "warnings"),
)


def round_up(time: datetime) -> datetime:
    """Return the time rounded up to the milliseconds that BSON stores, at most the last time that it can store."""
    rest = timedelta(microseconds=time.microsecond % 1000)
    whole = time - rest
    return whole + _MILLISECOND if rest and whole < _LAST else whole


def size_of_input(job_input: JobInput) -> int:
    """Return about how many bytes the input of a job takes."""
    params = job_input.params
    arguments = len(params.args or ()) + len(params.environment or ())
    return (len(job_input.input_files) + arguments) * BYTES_OF_FILE


def size_of_outputs(outcome: JobOutcome | ContainerOutcome) -> int:
    """Return about how many bytes a container or the outcome of a job takes."""
    return (1 + len(outcome.outputs or ())) * BYTES_OF_FILE


def encode(document: Document) -> RawBSONDocument:
    """Return the document as BSON."""
    return RawBSONDocument(bson.encode(document), RAW_CODEC)


def decode(document: RawBSONDocument) -> dict[str, Any]:
    """Return the document as plain Python, decoded at once."""
    return bson.decode(document.raw, _CODEC)


# -- jobs --


def from_job(
    job: JobRecord, idempotency: Idempotency | None, *, exclusive_output_dir: bool
) -> RawBSONDocument:
    """Return the document of a new job. MongoDB adds the times when its transitions are recorded."""
    ours: dict[str, Any] = {"ours": True}
    if job.labels:
        ours["labels"] = label_pairs(job.labels)
    if job.parent_id is not None:
        ours["parent_id"] = job.parent_id
    if idempotency:
        ours["idempotency"] = {"key": idempotency.key, "body_hash": idempotency.body_hash}
    if exclusive_output_dir:
        ours["sole_folder"] = job.job_input.output_dir
    outcome, added = _split(job, JobOutcome, _OURS_OF_JOB)
    return encode(
        {
            "id": job.id,
            "state": job.state.value,
            "transition_times": [
                transition(step.state, step.time, step.trans_id) for step in job.transition_times
            ],
            "user": job.user,
            "admin_meta": job.admin_meta,
            "job_input": _from_input(job.job_input),
            "image": _from_image(job.image),
            "input_file_count": job.input_file_count,
            "cleaned": job.cleaned,
            "_update_time": job.updated,
            "_retry": 0,
            "_cts": ours | added,
            **outcome,
        }
    )


def label_pairs(labels: Mapping[str, str]) -> list[str]:
    """Return labels as they are stored and searched; a key has no equals sign."""
    return [f"{key}={value}" for key, value in labels.items()]


def transition(state: JobState, time: datetime, trans_id: str) -> dict[str, Any]:
    """Return the document of a transition whose event is not sent."""
    return {
        "state": state.value,
        "time": time,
        "trans_id": trans_id,
        "notif_sent": False,
        "_retry": 0,
    }


def _from_input(job_input: JobInput) -> dict[str, Any]:
    document = job_input.model_dump(mode="json", exclude_none=True)
    return document | {"runtime": job_input.runtime.total_seconds()}


def _from_image(image: JobImage) -> dict[str, Any]:
    document = image.model_dump(exclude_none=True)
    if not image.tag:
        del document["tag"]
    return document


def from_outcome(outcome: JobOutcome) -> dict[str, Any]:
    """Return the outcome of a job by the paths of its fields."""
    return _by_path(*_split(outcome, JobOutcome, _OURS_OF_JOB))


def from_container_outcome(outcome: ContainerOutcome) -> dict[str, Any]:
    """Return the outcome of a container by the paths of its fields."""
    return _by_path(*_split(outcome, ContainerOutcome, _OURS_OF_CONTAINER))


def _split(
    outcome: JobOutcome | ContainerOutcome,
    model: type[JobOutcome | ContainerOutcome],
    ours: Sequence[str],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields of an outcome that the deployed service has, and those that are additions."""
    # A job or a container is itself an outcome, with fields besides.
    fields = set(model.model_fields) - {"outputs"}
    document = outcome.model_dump(mode="json", include=fields, exclude_none=True)
    if outcome.outputs is not None:
        # By Python: one call into C for 100,000 of them would hold the event loop.
        document["outputs"] = [_from_output(file) for file in outcome.outputs]
    added = {name: document.pop(name) for name in ours if name in document}
    return document, added


def _from_output(file: S3File) -> dict[str, str]:
    if file.crc64nvme is None:
        return {"file": file.file}
    return {"file": file.file, "crc64nvme": file.crc64nvme}


def _by_path(deployed: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
    return deployed | {f"_cts.{name}": value for name, value in added.items()}


@functools.lru_cache(PARSED)
def _parse_image(raw: bytes) -> JobImage:
    document = bson.decode(raw, _CODEC)
    return JobImage.model_validate(document | {"tag": document.get("tag") or ""})


@functools.lru_cache(PARSED)
def _parse_input(raw: bytes) -> JobInputPreview:
    return JobInputPreview.model_validate(bson.decode(raw, _CODEC), extra="ignore", context=STORED)


@functools.lru_cache(PARSED)
def _check_input(raw: bytes) -> None:
    JobInputPreview.model_validate(bson.decode(raw, _CODEC), context=STORED)


def _to_meta(document: Document) -> dict[str, MetaValue]:
    return {
        key: int(value) if isinstance(value, Int64) else value for key, value in document.items()
    }


def to_transition(document: Document) -> Transition:
    """Return a transition of a job. Those of the deployed service lack the time of recording: ``time`` stands in.

    Raises TypeError for a time that is none: jobs and events are sorted by it, and one must not end the reading of all.
    """
    time = document["time"]
    recorded_at = document.get("_recorded_at") or time
    if not isinstance(time, datetime) or not isinstance(recorded_at, datetime):
        raise TypeError(f"The times of a transition are {time!r} and {recorded_at!r}")
    return construct(
        Transition,
        state=JobState(document["state"]),
        time=time,
        trans_id=document["trans_id"],
        notif_sent=document["notif_sent"],
        recorded_at=recorded_at,
    )


def _to_transitions(steps: Sequence[Document]) -> list[Transition]:
    if not steps:
        raise ValueError("The job has no transitions")
    return [to_transition(step) for step in steps]


_DETAILS: dict[str, type[BaseModel]] = {
    "htcondor_details": HTCondorDetails,
    "nersc_details": NERSCDetails,
    "jaws_details": JAWSDetails,
}
"""The fields that say where a job is at its site, and their models."""


def _summary_fields(document: Document, image: JobImage) -> dict[str, Any]:
    ours = document.get("_cts") or {}
    outcome = {name: document.get(name) for name in JobOutcome.model_fields}
    details = {
        name: model.model_validate(outcome[name])
        for name, model in _DETAILS.items()
        if outcome[name]
    }
    return {
        **outcome,
        "max_memory": _to_int(outcome["max_memory"]),
        **details,
        "max_anonymous_memory": _to_int(ours.get("max_anonymous_memory")),
        "warnings": ours.get("warnings"),
        "id": document["id"],
        "user": document["user"],
        "state": JobState(document["state"]),
        "transition_times": _to_transitions(document["transition_times"]),
        "image": image,
        "input_file_count": document["input_file_count"],
        "admin_meta": _to_meta(document.get("admin_meta") or {}),
        "labels": _to_labels(ours.get("labels") or ()),
        "parent_id": ours.get("parent_id"),
        "cleaned": bool(document.get("cleaned")),
        "wait": _to_wait(ours["wait"]) if ours.get("wait") else None,
    }


def _to_labels(pairs: Iterable[str]) -> dict[str, str]:
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


def _to_wait(document: Document) -> JobWait:
    return JobWait.model_validate(document, extra="ignore")


def _to_int(value: int | None) -> int | None:
    return None if value is None else int(value)


def to_summary(raw: RawBSONDocument) -> JobSummary:
    """Return a job that was read by the projection ``SUMMARY``. Raises one of UNREADABLE when it cannot be."""
    fields = _summary_fields(decode(raw), _parse_image(raw["image"].raw))
    return construct(JobSummary, **fields, job_input=_parse_input(raw["job_input"].raw))


@functools.lru_cache(PARSED)
def write_image(raw: bytes) -> bytes:
    """Return the image of a job as JSON."""
    return to_json(_parse_image(raw), exclude_none=True)


@functools.lru_cache(PARSED)
def write_input_without_folder(raw: bytes) -> tuple[SiteName, bytes]:
    """Return the site of a job, and its input as JSON up to the last field, the output folder."""
    document = bson.decode(raw) | {"output_dir": "any/folder/"}
    job_input = JobInputPreview.model_validate(document, extra="ignore", context=STORED)
    text, _, _ = to_json(job_input, exclude_none=True).rpartition(b',"output_dir":')
    return job_input.cluster, text


def _write_input(document: dict[str, Any]) -> tuple[SiteName, bytes]:
    """Return the site of a job, and its input as JSON."""
    # The folder is another in each job, while the other fields of many jobs are the same.
    folder = _FOLDER.validate_python(document.pop("output_dir", None), context=STORED)
    cluster, start = write_input_without_folder(bson.encode(document))
    return cluster, b'%b,"output_dir":%b}' % (start, to_json(folder))


def to_listed(raw: bytes) -> ListedJob:
    """Return a job for a listing, of what was read by the projection ``SUMMARY``. Raises one of UNREADABLE when it cannot be."""
    # Times without a zone are decoded in half the time.
    document = bson.decode(raw)
    ours = document.get("_cts") or {}
    steps = document["transition_times"]
    cluster, job_input = _write_input(document["job_input"])
    wait = ours.get("wait")
    return ListedJob(
        id=document["id"],
        user=document["user"],
        state=JobState(document["state"]),
        cluster=cluster,
        updated=steps[-1]["time"].replace(tzinfo=UTC),
        admin_meta=_to_meta(document.get("admin_meta") or {}),
        wait=wait and _to_wait(wait | {"since": wait["since"].replace(tzinfo=UTC)}),
        steps=write_steps([(step["state"], step["time"]) for step in steps]),
        details=write_details(
            job_input,
            write_image(bson.encode(document["image"])),
            document,
            input_file_count=document["input_file_count"],
            labels=_to_labels(ours.get("labels") or ()),
            warnings=ours.get("warnings"),
            max_anonymous_memory=ours.get("max_anonymous_memory"),
            parent_id=ours.get("parent_id"),
        ),
    )


def to_drivable(raw: RawBSONDocument) -> JobSummary:
    """Return the same. Raises ValueError when its input has fields that this version does not know."""
    _check_input(raw["job_input"].raw)
    return to_summary(raw)


def to_record(raw: RawBSONDocument) -> JobRecord:
    """Return the whole record of a job. Raises one of UNREADABLE when it cannot be."""
    document = decode(raw)
    fields = _summary_fields(document, _parse_image(raw["image"].raw))
    files = to_input_files(document["job_input"].pop("input_files"))
    preview = JobInputPreview.model_validate(document["job_input"], extra="ignore", context=STORED)
    job_input = with_input_files(preview, files)
    outputs = to_outputs(document.get("outputs"))
    return construct(JobRecord, **fields | {"job_input": job_input, "outputs": outputs})


def to_event(job: Document, step: Document, number: int) -> JobEvent:
    """Return a transition of a job, the ``number``-th from 0 on, as an event."""
    made = to_transition(step)
    return construct(
        JobEvent,
        job_id=job["id"],
        user=job["user"],
        state=made.state,
        time=made.time,
        trans_id=made.trans_id,
        recorded_at=made.recorded_at,
        number=number,
    )


# -- containers --


def from_container(record: ContainerRecord) -> RawBSONDocument:
    """Return the document of a container. Unknown outcomes are null, as the deployed service stores them."""
    outcome, added = _split(record, ContainerOutcome, _OURS_OF_CONTAINER)
    return encode(
        {
            "id": record.id,
            "state": record.state.value,
            "transition_times": container_steps(record.transition_times),
            "sub_id": record.sub_id,
            **dict.fromkeys(("exit_code", "outputs", "admin_error", "traceback")),
            **outcome,
            "_update_time": record.transition_times[-1].time,
            **({"_cts": added} if added else {}),
        }
    )


def container_steps(steps: Iterable[ContainerTransition]) -> list[dict[str, Any]]:
    """Return the documents of a container's transitions."""
    return [{"state": step.state.value, "time": step.time, "_retry": 0} for step in steps]


def to_state(raw: RawBSONDocument) -> JobState:
    """Return the state of a container. Raises one of UNREADABLE for one that this version does not know."""
    return JobState(raw["state"])


def to_container(raw: RawBSONDocument) -> ContainerRecord:
    """Return a container. Raises one of UNREADABLE when it cannot be."""
    document = decode(raw)
    ours = document.get("_cts") or {}
    outcome = {
        name: (ours if name in _OURS_OF_CONTAINER else document).get(name)
        for name in ContainerOutcome.model_fields
    }
    return construct(
        ContainerRecord,
        **outcome
        | {
            "outputs": to_outputs(outcome["outputs"]),
            "max_memory": _to_int(outcome["max_memory"]),
            "max_anonymous_memory": _to_int(outcome["max_anonymous_memory"]),
        },
        id=document["id"],
        sub_id=int(document["sub_id"]),
        state=JobState(document["state"]),
        transition_times=[
            construct(ContainerTransition, state=JobState(step["state"]), time=step["time"])
            for step in document["transition_times"]
        ],
    )
