"""The diagnosis of ``cts jobs why``: the facts about a job, and sentences that explain them. Nothing here changes a job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cts_core.model.record import AuditEntry, ContainerRecord, JobSummary, Transition
from cts_core.model.site import START_PATIENCE
from cts_core.states import TERMINAL, JobState, next_parent_state
from cts_jupyter import formatting
from cts_jupyter.cli.outages import describe_wait

_S = JobState
TIMEOUTS: Mapping[JobState, timedelta] = {
    _S.CREATED: timedelta(minutes=5),
    _S.DOWNLOAD_SUBMITTED: timedelta(hours=12),
    _S.JOB_SUBMITTING: timedelta(hours=1),
    _S.UPLOAD_SUBMITTING: timedelta(hours=6),
    _S.UPLOAD_SUBMITTED: timedelta(hours=1),
    _S.ERROR_PROCESSING_SUBMITTING: timedelta(hours=1),
    _S.ERROR_PROCESSING_SUBMITTED: timedelta(hours=1),
    _S.CANCELING: timedelta(minutes=15),
}
"""How long a job may be in a state before it counts as stuck; a running job may for its runtime and an hour."""
_QUEUE_SLACK = timedelta(hours=1)
EVENT_TIMEOUT = timedelta(minutes=5)
"""How long an event may wait before it counts as stuck."""
WAIT_TIMEOUT = timedelta(minutes=5)
"""How long a job may wait for something that is down before it counts as stuck."""
_MAX_SHOWN = 5


def timeout_of(job: JobSummary) -> timedelta:
    """Return how long the job may stay in its state before it counts as stuck."""
    if job.state is _S.JOB_SUBMITTED:
        return job.job_input.runtime + _QUEUE_SLACK
    return TIMEOUTS[job.state]


@dataclass(frozen=True)
class Facts:
    """The facts about a job, from the store and from its site."""

    job: JobSummary
    containers: Sequence[ContainerRecord]
    audit: Sequence[AuditEntry]
    now: datetime
    is_unadopted: bool
    is_driven: bool
    """Whether a server holds the job's lease now."""
    site_trouble: str | None
    """Why the job's site cannot be used from here, or None."""
    objects_trouble: str | None
    """Why the object store cannot be used from here, or None."""
    at_site: Sequence[str]
    """Sentences in which the site describes the job."""
    is_site_active: bool

    @property
    def age(self) -> timedelta:
        """How long the job has been in its state."""
        return self.now - self.job.updated

    @property
    def counts(self) -> Counter[str]:
        """Containers by state."""
        return Counter(container.state.value for container in self.containers)

    @property
    def unsent(self) -> list[Transition]:
        """Transitions whose event was not acknowledged."""
        return [t for t in self.job.transition_times if not t.notif_sent]


def explain(facts: Facts) -> Iterator[str]:
    """Iterate over sentences that explain where the job is, the most important first."""
    job = facts.job
    yield (
        f"Job {job.id} of {job.user} at {job.cluster.value} is {job.state.value} "
        f"({formatting.format_job_state(job.state, facts.counts)}) for {formatting.format_duration(facts.age)}."
    )
    if job.state in TERMINAL:
        yield from _ended(facts)
    else:
        yield from _live(facts)
    yield from _containers(facts)
    yield from _events(facts)
    for entry in facts.audit:
        yield f"{formatting.format_time(entry.time)}: {entry.actor}: {entry.action}: {entry.reason or 'no reason given'}"


def _ended(facts: Facts) -> Iterator[str]:
    if facts.job.error:
        yield f"Its owner was told: {facts.job.error}"
    if facts.job.admin_error and facts.job.admin_error != facts.job.error:
        yield f"For admins: {facts.job.admin_error}"
    yield "It has ended, and nothing moves it any more. Its owner can submit it again (resubmit)."


def _live(facts: Facts) -> Iterator[str]:
    job = facts.job
    if facts.is_unadopted:
        yield (
            "Another program wrote it into this store, and no server drives it until you decide: "
            f"cts adopt --continue {job.id}, or cts adopt --fail {job.id}."
        )
        return
    if facts.is_driven:
        yield "A server holds its lease, which means that it looked at the job within the last seconds."
    else:
        yield (
            "No server holds its lease: no server that has its site is up, or none reaches the record store. Start "
            "one, or see its log."
        )
    if facts.site_trouble:
        yield f"Its site cannot be used: {facts.site_trouble}."
    elif not facts.is_site_active:
        yield "Its site is switched off for new jobs; those that it has go on."
    if facts.objects_trouble:
        yield f"The object store cannot be used from here: {facts.objects_trouble}"
    if job.wait:
        yield f"It waits for {describe_wait(job.wait, facts.now)}"
    else:
        yield _describe_state(facts)
    yield from facts.at_site
    if facts.age > timeout_of(job):
        yield (
            f"That is longer than it should take ({formatting.format_duration(timeout_of(job))}): see docs/how-to/find-a-stuck-job.md, "
            f"cts jobs retry {job.id}, cts jobs fail {job.id} --reason TEXT."
        )


def _describe_state(facts: Facts) -> str:
    job, states = facts.job, [container.state for container in facts.containers]
    if (new := next_parent_state(job.state, states)) is not None:
        return f"Its containers have got further: the next look of a server makes it {new.value}."
    match job.state:
        case _S.CREATED:
            patience = START_PATIENCE.get(job.cluster)
            limit = (
                "as long as it takes"
                if patience is None
                else f"{formatting.format_duration(patience)}; then it fails with the reason"
            )
            return (
                f"It waits to be handed to its site, which is tried again and again, for {limit}."
            )
        case _S.DOWNLOAD_SUBMITTED:
            return "Its containers wait for their turn at the site, or fetch their inputs."
        case _S.CANCELING:
            return "It waits until its site says that nothing of it runs any more."
        case _S.JOB_SUBMITTED:
            runtime = formatting.format_duration(job.job_input.runtime)
            return f"Its containers run; each may for {runtime}."
        case _:
            return "It waits for its slowest container."


def _containers(facts: Facts) -> Iterator[str]:
    counts = ", ".join(f"{count} {state}" for state, count in facts.counts.most_common())
    yield f"Its {formatting.plural(len(facts.containers), 'container')}: {counts}."
    failed = [c for c in facts.containers if c.admin_error or c.error]
    for container in failed[:_MAX_SHOWN]:
        yield f"Container {container.sub_id}: {container.admin_error or container.error}"
    if len(failed) > _MAX_SHOWN:
        yield f"and {len(failed) - _MAX_SHOWN} more containers with an error"


def _events(facts: Facts) -> Iterator[str]:
    unsent = facts.unsent
    if not unsent:
        yield "All its events were acknowledged."
        return
    waits = facts.now - unsent[0].recorded_at
    names = ", ".join(t.state.value for t in unsent)
    yield (
        f"{formatting.plural(len(unsent), 'event')} ({names}) not acknowledged yet, the oldest recorded "
        f"{formatting.format_duration(waits)} ago. Servers send them in order, for as long as it takes; jobs do not wait "
        "for that."
    )
