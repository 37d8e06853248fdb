"""The output folder of a submission: whether the outputs would meet others there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from cts_core.model.job import JobInputPreview
from cts_core.object_paths import as_folder
from cts_core.states import JobState
from cts_core.worker.units import format_seconds
from cts_jupyter import formatting
from cts_jupyter.client.client import CTSClient
from cts_jupyter.client.models import JobPreview, S3File
from cts_jupyter.client.resubmit import Overrides, ResubmitError, is_empty, request_part
from cts_jupyter.client.search import JobQuery, find_jobs
from cts_jupyter.client.transport import CTSRequestError

_MAX_TEXT = 200
"""Characters of a text that a service searches for."""
_MAX_JOBS = 100
OVERWRITE = (
    "choose another --output-dir, or add --overwrite (output_dir and overwrite=True in Python)"
)
OVERWRITE_CELL = "choose another output_dir, or add --overwrite to the first line"
FRESH = "leave --output-dir out for a fresh folder beside the first job's, or choose another"
"""The way out where outputs of other inputs would be overwritten."""


class OutputFolderError(ValueError):
    """Outputs had better not go into this folder; the message says why."""


def check_output_folder(
    client: CTSClient,
    folder: str,
    body: Mapping[str, Any] | None = None,
    *,
    way_out: str = OVERWRITE,
) -> None:
    """Raise OutputFolderError for what :func:`find_obstacle` finds."""
    obstacle = find_obstacle(client, folder, body, way_out=way_out)
    if obstacle is not None:
        raise OutputFolderError(obstacle)


def find_obstacle(
    client: CTSClient,
    folder: str,
    body: Mapping[str, Any] | None = None,
    *,
    way_out: str = OVERWRITE,
) -> str | None:
    """Return why outputs had better not go into a folder: there are others, or a job of the user's stores them there.

    ``body`` is the submission as the REST API takes it; the user may have submitted the same already. Raises CTSClientError.
    """
    rival = find_rival(client, folder, body, way_out=way_out)
    if rival is not None or is_empty(client, folder) is not False:
        return rival
    return (
        f"The output folder {as_folder(folder)} is not empty, and outputs would overwrite files of the same name there: "
        f"{way_out}"
    )


def find_rival(
    client: CTSClient,
    folder: str,
    body: Mapping[str, Any] | None = None,
    *,
    way_out: str = OVERWRITE,
) -> str | None:
    """Return which job of the user's is in the way: a live one that stores outputs in a folder, or one that was the same."""
    folder = as_folder(folder)
    job = _writer(client, folder)
    if job is None:
        return None
    is_live = not formatting.has_ended(job.state)
    if not is_live and is_empty(client, folder) is not False:
        return None
    if body is not None and _is_same(client, job, body):
        return _say_repeated(job, folder, way_out)
    if not is_live:
        return None
    return (
        f"Your job {_named(job)} stores its outputs in {as_folder(job.job_input.output_dir)}, and those of the same name "
        f"would overwrite each other: {way_out}"
    )


def check_repeated(client: CTSClient, job_id: str, overrides: Overrides) -> None:
    """Raise OutputFolderError for what :func:`find_repeated` finds."""
    repeated = find_repeated(client, job_id, overrides)
    if repeated is not None:
        raise OutputFolderError(repeated)


def find_repeated(client: CTSClient, job_id: str, overrides: Overrides) -> str | None:
    """Return which job of the user's latest runs, or ran, what a resubmission would.

    It is the job itself while it runs, or a resubmission of it that runs, or is complete with its outputs still there. One that has
    refreshed its inputs is repeated by one that would do so while it runs; what is there later may be other again. Of a service
    that does not tell whose resubmission a job is, only the first can be known. Raises CTSClientError.
    """
    latest = find_jobs(client, JobQuery(by_creation=True), limit=_MAX_JOBS).jobs
    rivals = [
        job
        for job in latest
        if (job.parent_id == job_id and (_runs(job) or job.state == JobState.COMPLETE))
        or (job.id == job_id and _runs(job))
    ]
    if not rivals:
        return None
    try:
        # With the checksums of its inputs, by which a resubmission is known that has refreshed them.
        body = request_part(client, client.job(job_id), replace(overrides, refresh_inputs=False))
    except ResubmitError:
        # The service refuses it, and says why.
        return None
    for job in rivals:
        into = overrides.output_dir or job.job_input.output_dir
        if _would_repeat(client, job, {**body, "output_dir": into}, overrides):
            return _say_repeated(job, as_folder(into), OVERWRITE)
    return None


def _runs(job: JobPreview) -> bool:
    return not formatting.has_ended(job.state) and job.state != JobState.CANCELING


def _would_repeat(
    client: CTSClient, job: JobPreview, body: Mapping[str, Any], overrides: Overrides
) -> bool:
    if not _has_same_parameters(job, body):
        return False
    if not _runs(job) and overrides.refresh_inputs:
        # What it took may be other than what is there now.
        return False
    try:
        if not _has_same_image(client, job):
            return False
        if not _runs(job) and is_empty(client, job.job_input.output_dir) is not False:
            return False
    except CTSRequestError as e:
        # The folder may be one that the user may not read any more, the image one that is not registered any more.
        if e.status not in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
            raise
        return False
    given, stored = _read_inputs(client, job, body)
    is_refreshed = not _have_same_checksums(given, stored)
    return _have_same_paths(given, stored) and is_refreshed == overrides.refresh_inputs


def _has_same_image(client: CTSClient, job: JobPreview) -> bool:
    return client.image(job.job_input.image).digest == job.image.digest


def _say_repeated(job: JobPreview, folder: str, way_out: str) -> str:
    age = (datetime.now(UTC) - job.transition_times[0].time).total_seconds()
    return (
        f"You submitted the same {format_seconds(age)} ago, as job {_named(job)}, and its outputs are in {folder}: "
        f"%cts status {formatting.short_id(job.id)} shows it. To run it once more, {way_out}"
    )


def _named(job: JobPreview) -> str:
    state = formatting.format_job_state(job.state, job.containers)
    return f"{formatting.short_id(job.id)} ({state.lower()})"


def _writer(client: CTSClient, folder: str) -> JobPreview | None:
    """Return a live job of the user's that stores outputs below a folder, or else the latest one that did."""
    query = JobQuery(text=folder[:_MAX_TEXT], by_creation=True)
    jobs = [
        job
        for job in find_jobs(client, query, limit=_MAX_JOBS).jobs
        if as_folder(job.job_input.output_dir).startswith(folder)
    ]
    live = (job for job in jobs if not formatting.has_ended(job.state))
    return next(live, jobs[0] if jobs else None)


def _is_same(client: CTSClient, job: JobPreview, body: Mapping[str, Any]) -> bool:
    """Return whether a submission would run what a job runs."""
    return _has_same_parameters(job, body) and _has_same_inputs(client, job, body)


def _has_same_parameters(job: JobPreview, body: Mapping[str, Any]) -> bool:
    try:
        stored = job.job_input.model_dump(mode="json", exclude_none=True)
        return without_files(body) == without_files(stored)
    except ValueError:
        # The service will refuse this one.
        return False


def _has_same_inputs(client: CTSClient, job: JobPreview, body: Mapping[str, Any]) -> bool:
    """Return whether a submission has the input files of a job, and their checksums where it names any."""
    given, stored = _read_inputs(client, job, body)
    return _have_same_paths(given, stored) and _have_same_checksums(given, stored)


def _read_inputs(
    client: CTSClient, job: JobPreview, body: Mapping[str, Any]
) -> tuple[list[Mapping[str, Any]], list[S3File]]:
    """Return the input files of a submission, and those of a job."""
    named = body.get("input_files") or ()
    given = [{"file": each} if isinstance(each, str) else each for each in named]
    return given, client.job(job.id).job_input.input_files


def _have_same_paths(given: Sequence[Mapping[str, Any]], stored: Sequence[S3File]) -> bool:
    return [each["file"] for each in given] == [each.file for each in stored]


def _have_same_checksums(given: Sequence[Mapping[str, Any]], stored: Sequence[S3File]) -> bool:
    return all(
        new.get("crc64nvme") in (None, old.crc64nvme)
        for new, old in zip(given, stored, strict=False)
    )


def without_files(body: Mapping[str, Any]) -> JobInputPreview:
    """Return a submission as the REST API takes it, without its files. Raises ValueError for one that it refuses."""
    names = JobInputPreview.model_fields
    return JobInputPreview.model_validate({k: v for k, v in body.items() if k in names})
