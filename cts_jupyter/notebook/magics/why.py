"""The explanation of ``%cts why``: the state of a job and its reasons, in plain words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from cts_core.states import JobState
from cts_jupyter import formatting
from cts_jupyter.client.logs import PlainText
from cts_jupyter.client.lookups import count_states, find_containers, find_failure, has_failed
from cts_jupyter.client.models import Container, JobDetails
from cts_jupyter.notebook.card.card import format_progress
from cts_jupyter.notebook.job import Job
from cts_jupyter.notebook.session import Session

_MAX_REASONS = 5
_MAX_NUMBERS = 10

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


def explain(session: Session, job: Job) -> PlainText:
    """Return a few sentences about a job, and what to do next. Raises CTSClientError."""
    details = job.details
    containers = find_containers(session.client, job.id)
    return PlainText("\n".join(_lines(session, details, containers)))


def _lines(
    session: Session, details: JobDetails, containers: Sequence[Container] | None
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
    meaning = _MEANING.get(details.state)
    if meaning and state == formatting.format_state(details.state):
        yield meaning.format(cluster=details.job_input.cluster)
    if not formatting.has_ended(details.state):
        yield f"{format_progress(counts, details.job_input.num_containers)}."
        yield from _site_trouble(session, details.job_input.cluster)
    yield from _failures(session, details, containers or [])
    for warning in details.warnings:
        yield f"Warning: {warning}"
    yield from _next_steps(details, short, can_pick=bool(containers))


def _site_trouble(session: Session, name: str) -> Iterator[str]:
    for site in session.client.sites():
        if site.cluster != name:
            continue
        if not site.available:
            yield f"{name} cannot be reached: {site.unavailable_reason or 'no reason is known'}."
        elif not site.active:
            yield f"{name} takes no new jobs now; those it has go on."


def _failures(
    session: Session, details: JobDetails, containers: Sequence[Container]
) -> Iterator[str]:
    by_reason: dict[str, list[Container]] = defaultdict(list)
    for container in containers:
        if has_failed(container):
            by_reason[_reason(container)].append(container)
    reasons = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    for reason, group in reasons[:_MAX_REASONS]:
        numbers = ", ".join(str(container.number) for container in group[:_MAX_NUMBERS])
        more = ", ..." if len(group) > _MAX_NUMBERS else ""
        noun = "Container" if len(group) == 1 else "Containers"
        yield f"{noun} {numbers}{more} {reason}"
    if details.error and not by_reason:
        yield details.error
    if len(reasons) > _MAX_REASONS:
        yield f"and {len(reasons) - _MAX_REASONS} other reasons"
    failure = find_failure(session.client, details.id, containers)
    if failure is not None and failure.stderr:
        yield f"The end of the stderr of container {failure.containers[0]}:"
        yield from (f"    {line}" for line in failure.stderr.splitlines())


def _reason(container: Container) -> str:
    code = "an error" if container.exit_code is None else f"exit code {container.exit_code}"
    return f"ended with {code}{f': {container.error}' if container.error else ''}"


def _next_steps(details: JobDetails, short: str, *, can_pick: bool) -> Iterator[str]:
    match details.state:
        case JobState.COMPLETE:
            yield (
                f"{formatting.plural(len(details.outputs), 'output')} in {details.job_input.output_dir}: "
                f"%cts files {short}, %cts get {short} FOLDER, %cts verify {short}"
            )
        case JobState.ERROR:
            only = " --failed" if can_pick else ""
            yield f"Next: %cts logs {short} -c failed --err, %cts resubmit {short}{only}"
        case JobState.CANCELED:
            yield f"Next: %cts resubmit {short}"
        case _:
            yield f"Next: %cts watch {short}, %cts logs {short} -f, %cts cancel {short}"
