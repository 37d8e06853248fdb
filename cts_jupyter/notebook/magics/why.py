"""The explanation of ``%cts why``: the state of a job and its reasons, in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from textwrap import indent

from cts_core.states import JobState
from cts_jupyter import formatting
from cts_jupyter.client.logs import PlainText
from cts_jupyter.client.lookups import count_states, find_containers, find_family, find_why
from cts_jupyter.client.models import Container, JobDetails, Why
from cts_jupyter.client.transport import CTSRequestError
from cts_jupyter.notebook.card.card import format_progress
from cts_jupyter.notebook.job import Job
from cts_jupyter.notebook.reasons import (
    describe_inputs,
    describe_reason,
    log_end,
    resubmit_command,
)
from cts_jupyter.notebook.session import Session

_MAX_REASONS = 5

_MEANING: Mapping[str, str] = {
    JobState.CREATED: "The service has stored it and is about to hand it to {cluster}.",
    JobState.DOWNLOAD_SUBMITTED: (
        "{cluster} has it. Its containers wait for free cpus and memory there, or are fetching and verifying "
        "their inputs."
    ),
    JobState.JOB_SUBMITTING: "Inputs are fetched and verified, and containers are being started.",
    JobState.JOB_SUBMITTED: "Containers are running.",
    JobState.UPLOAD_SUBMITTING: "Containers have ended well, and their outputs are being checksummed.",
    JobState.UPLOAD_SUBMITTED: "Containers have ended well, and their outputs are being stored.",
    JobState.COMPLETE: "All containers ended well, and every output is stored with its checksum.",
    JobState.CANCELING: "It was cancelled, and its containers are being stopped.",
    JobState.CANCELED: "It was cancelled. What its containers had stored by then stays where it is.",
    JobState.ERROR_PROCESSING_SUBMITTING: "Containers failed, and their logs are being kept.",
    JobState.ERROR_PROCESSING_SUBMITTED: "Containers failed, and their logs are being kept.",
    JobState.ERROR: "It failed.",
}
_OVERWRITTEN = "All containers ended well, but not every output was kept."
"""What ``complete`` means where containers wrote the same paths; a warning of the job names them."""


def explain(session: Session, job: Job) -> PlainText:
    """Return a few sentences about a job, and what to do next. Raises CTSClientError."""
    details = job.details
    containers = find_containers(session.client, job.id)
    why = find_why(session.client, details, containers)
    return PlainText("\n".join(_lines(session, details, containers, why)))


def _lines(
    session: Session, details: JobDetails, containers: Sequence[Container] | None, why: Why
) -> Iterator[str]:
    short = formatting.short_id(details.id)
    since = details.transition_times[-1].time
    counts = count_states(session.client, details, containers)
    state = formatting.format_job_state(details.state, counts)
    yield (
        f"Job {short} ({details.job_input.image}) is: {state}, since {formatting.format_time(since)} "
        f"({formatting.format_duration(datetime.now(UTC) - since)} ago)."
    )
    if details.parent_id is not None:
        yield (
            f"It is a resubmission of job {formatting.short_id(details.parent_id)}; %cts files {short} --family "
            "shows the outputs of both as those of one job."
        )
    meaning = _meaning(details, containers or ())
    if meaning and state == formatting.format_state(details.state):
        yield meaning.format(cluster=details.job_input.cluster)
    if not formatting.has_ended(details.state):
        yield f"{format_progress(counts, details.job_input.num_containers)}."
        if details.waits_for is not None:
            yield f"{details.waits_for.rstrip('.')}."
        else:
            yield from _site_trouble(session, details.job_input.cluster)
            if formatting.shown_state(details.state, counts) in formatting.WAITING:
                yield from _turn(session, details)
    yield from _failures(why)
    for warning in details.warnings:
        yield f"Warning: {warning}"
    if _is_mended(session, details):
        yield (
            f"Resubmissions have completed all its inputs: %cts files {short} --family shows the outputs of all these jobs as those "
            f"of one, %cts get {short} FOLDER --family fetches them"
        )
    else:
        yield from _next_steps(details, short, why)


def _meaning(details: JobDetails, containers: Sequence[Container]) -> str | None:
    written = sum(len(container.outputs) for container in containers)
    if details.state == JobState.COMPLETE and written > len(details.outputs):
        return _OVERWRITTEN
    return _MEANING.get(details.state)


def _is_mended(session: Session, details: JobDetails) -> bool:
    """Return whether resubmissions have completed what a job has not."""
    if details.state not in (JobState.ERROR, JobState.CANCELED):
        return False
    family = find_family(session.client, details.id)
    return family is not None and len(family.jobs) > 1 and not family.open_inputs


def _site_trouble(session: Session, name: str) -> Iterator[str]:
    for site in session.client.sites():
        if site.cluster != name:
            continue
        if not site.available:
            yield f"{name} cannot be reached: {site.unavailable_reason or 'no reason is known'}."
        elif not site.active:
            yield f"{name} takes no new jobs now; those it has go on."


def _turn(session: Session, details: JobDetails) -> Iterator[str]:
    """Say what waits before a job, where the service tells it."""
    client, site = session.client, details.job_input.cluster
    if not client.supports("GET", "/sites/{site}/load"):
        return
    try:
        load = client.site_load(site)
    except CTSRequestError:
        # A site that is not there any more has no queue.
        return
    ahead = next((job.ahead for job in load.jobs if job.job_id == details.id), None)
    if ahead is None:
        return
    before = f"{formatting.plural(ahead, 'container')} before it" if ahead else "it is next"
    yield f"Waiting for its turn at {site}: {before}."
    if load.cpus_free is not None:
        yield f"Free there now: {formatting.plural(load.cpus_free, 'cpu')}."


def _failures(why: Why) -> Iterator[str]:
    for reason in why.reasons[:_MAX_REASONS]:
        yield f"{describe_reason(reason).rstrip('.')}."
        yield from describe_inputs(reason)
        if log := log_end(reason):
            title, text = log
            yield title
            yield indent(text, "    ")
        yield reason.hint
    if len(why.reasons) > _MAX_REASONS:
        yield f"and {formatting.plural(len(why.reasons) - _MAX_REASONS, 'other reason')}"


def _next_steps(details: JobDetails, short: str, why: Why) -> Iterator[str]:
    match details.state:
        case JobState.COMPLETE:
            yield (
                f"{formatting.plural(len(details.outputs), 'output')} in {details.job_input.output_dir}: "
                f"%cts files {short}, %cts get {short} FOLDER, %cts verify {short}"
            )
        case JobState.ERROR | JobState.CANCELED:
            yield f"Next: {', '.join(_after_end(details, short, why))}"
        case _:
            yield f"Next: %cts watch {short}, %cts logs {short} -f, %cts cancel {short}"


def _after_end(details: JobDetails, short: str, why: Why) -> Iterator[str]:
    logged = next((reason for reason in why.reasons if reason.stderr or reason.stdout), None)
    if logged is not None:
        which = " -c failed" if logged.containers else ""
        yield f"%cts logs {short}{which}{' --err' if logged.stderr else ''}"
    elif details.logpath is not None:
        yield f"%cts logs {short} --err"
    if why.fix is not None:
        yield resubmit_command(short, why.fix)
    # A resubmission has the same arguments.
    if any(reason.fix is None or reason.reason is None for reason in why.reasons):
        yield f'from cts_jupyter import job; print(job("{short}").as_yaml())'
