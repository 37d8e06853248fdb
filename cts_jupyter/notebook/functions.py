"""The functions that notebooks and scripts call: to submit, check, get and list jobs of this kernel's service."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from cts_jupyter import formatting
from cts_jupyter.client.search import JobQuery
from cts_jupyter.notebook.check_report import CheckReport, submission_warnings
from cts_jupyter.notebook.job import Job
from cts_jupyter.notebook.job_table import list_jobs
from cts_jupyter.notebook.last_submission import submitting
from cts_jupyter.notebook.output_folder import check_output_folder, find_rival
from cts_jupyter.notebook.session import LATEST, current_session
from cts_jupyter.notebook.table import Table
from cts_jupyter.notebook.typed_paths import searched_text, with_object_paths
from cts_jupyter.times import parse_time


def submit(*, overwrite: bool = False, **fields: Any) -> Job:  # noqa: ANN401 - JSON, which the service checks
    """Submit a job to the service of this kernel, and follow its events.

    Args:
        overwrite: Although the output folder is not empty, or a live job stores outputs there.
        **fields: The fields of ``POST /jobs``: ``image``, ``input_files``, ``output_dir``, ``cluster``, ``params``,
            ``memory`` (bytes, or text such as ``"40GB"``), ``runtime`` (ISO 8601 text such as ``"PT1H"``, or
            seconds), ``num_containers``, ``cpus``, ``input_roots`` and ``labels``.

    Returns:
        The job. Shown in a notebook it is a card that follows what happens.

    Warns where several containers may overwrite each other's outputs, and where the program may not find its inputs.

    Raises:
        NoConnectionError: No service can be found.
        OutputFolderError: The output folder is not empty, or a live job stores outputs there.
        CTSRequestError: The service refused; the message is that of the first check that does not hold.
        CTSConnectionError: The service cannot be reached.
    """
    for warning in submission_warnings(fields):
        warnings.warn(warning, stacklevel=2)
    fields = with_object_paths(fields)
    with submitting():
        session = current_session()
        if not overwrite and fields.get("output_dir"):
            check_output_folder(session.client, fields["output_dir"], fields)
        return Job.submit(session, fields)


def check(**fields: Any) -> CheckReport:  # noqa: ANN401 - JSON, which the service checks
    """Make every check of a submission without running or storing anything, as ``%cts check`` does.

    Args:
        **fields: The fields that :func:`submit` takes.

    Returns:
        The command, environment and input files that each container would have, and warnings.

    Raises:
        NoConnectionError: No service can be found.
        CTSRequestError: The service refused; the message is that of the first check that does not hold.
        CTSConnectionError: The service cannot be reached.
    """
    client = current_session().client
    fields = with_object_paths(fields)
    result = client.check(fields)
    folder = fields["output_dir"]
    return CheckReport(result, fields, rival=find_rival(client, folder, fields))


def job(reference: str = LATEST) -> Job:
    """Return one of the user's jobs, as ``%cts status`` does.

    Args:
        reference: A job's id, the beginning of one, or ``-`` for the job that this notebook submitted last;
            if it has submitted none, for the user's latest.

    Raises:
        NoConnectionError: No service can be found.
        JobReferenceError: No job has an id that begins so, or several have; or the last :func:`submit` was refused.
        CTSRequestError: There is no job with this full id, or the service refused.
        CTSConnectionError: The service cannot be reached.
    """
    return Job.find(current_session(), reference)


def jobs(
    text: str | None = None,
    *,
    state: str | Collection[str] | None = None,
    image: str | None = None,
    labels: Mapping[str, str] | None = None,
    since: datetime | timedelta | str | None = None,
    new: bool = False,
    sort: Literal["updated", "created"] = "updated",
) -> Table[Job]:
    """List the user's jobs, newest first and at most 1,000, as ``%cts ls`` does.

    Args:
        text: Only jobs with this text in id, image, cluster, output folder, labels or error.
        state: Only jobs in this state, in one of several, or ``done``, ``failed``, ``cancelled``, ``ended`` or ``live``.
        image: Only jobs of this image, or with this text in their image's name.
        labels: Only jobs that have each of these labels.
        since: Only jobs that changed since then: a time with a time zone, an age, or what ``%cts ls --since`` takes.
        new: Only jobs that ended since the last listing of new jobs that asked for nothing else.
        sort: By the last change, or by submission.

    Returns:
        A sequence of jobs that a notebook shows as a table; ``to_frame()`` makes it a DataFrame.

    Raises:
        NoConnectionError: No service can be found.
        CTSRequestError: The service refused.
        CTSConnectionError: The service cannot be reached.
        ValueError: ``since`` is text that is no time; the message says which are.
        OSError: With ``new``, at a service that keeps no read marker: the local one cannot be written.
    """
    if isinstance(since, timedelta):
        since = datetime.now(UTC) - since
    query = JobQuery(
        text=searched_text(text),
        image=image,
        states=formatting.states_by_names([state] if isinstance(state, str) else state or ()),
        labels=dict(labels or {}),
        since=parse_time(since) if isinstance(since, str) else since,
        by_creation=sort == "created",
        new=new,
    )
    return list_jobs(current_session(), query)
