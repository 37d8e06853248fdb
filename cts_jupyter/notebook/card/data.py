"""The facts about a job that its card shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import itemgetter

from cts_core.states import JobState
from cts_jupyter import formatting
from cts_jupyter.client.lookups import outputs_of
from cts_jupyter.client.models import Container, JobDetails, Reason


@dataclass(frozen=True)
class CardData:
    """The facts about a job that its card shows."""

    as_of: datetime
    """When the job was so: a notebook keeps the card of a live job when nothing updates it any more."""
    job_id: str
    user: str
    service: str
    """The service's name for people, such as its host."""
    image: str
    state: str
    timeline: Sequence[tuple[str, datetime]]
    """State and time, oldest first, as a person is told them."""
    counts: Mapping[str, int]
    """The number of containers in each state."""
    containers: int
    input_files: int
    cpus: int
    memory: int
    runtime: timedelta
    cluster: str
    output_dir: str
    outputs: Sequence[tuple[str, str]] = ()
    """Path and CRC64/NVME."""
    waits_for: str | None = None
    """What keeps a live job from going on."""
    warnings: Sequence[str] = ()
    reasons: Sequence[Reason] = ()
    """Why it failed."""
    max_memory: int | None = None
    max_anonymous_memory: int | None = None
    cpu_hours: float | None = None
    cpu_factor: float | None = None
    notes: Sequence[str] = field(default=())
    instance: str | None = None
    """The id of the service's records; None from a service that does not tell it."""

    @property
    def elapsed(self) -> timedelta:
        """The time from the submission to the end, or to when the job was so."""
        start, last = self.timeline[0][1], self.timeline[-1][1]
        return (last if formatting.has_ended(self.state) else self.as_of) - start

    @property
    def age(self) -> str:
        """How long the job took; of a live one, how long it had taken, and when that was."""
        took = formatting.format_duration(self.elapsed)
        if formatting.has_ended(self.state):
            return took
        return f"{took}, as of {formatting.format_zoned_time(self.as_of)}"

    @property
    def state_words(self) -> str:
        """The state in words."""
        return formatting.format_job_state(self.state, self.counts)

    @property
    def short_id(self) -> str:
        """The beginning of the id."""
        return formatting.short_id(self.job_id)


_FIRST = (JobState.JOB_SUBMITTING, JobState.JOB_SUBMITTED)
"""States that a job is in as soon as one of its containers is, for a person; the others as soon as all are."""


def make_timeline(job: JobDetails, containers: Sequence[Container]) -> list[tuple[str, datetime]]:
    """Return the states of a job and when it came to them, as a person is told them: those that read alike are one."""
    begun: dict[str, datetime] = {}
    for step in (step for container in containers for step in container.transition_times):
        if step.state in _FIRST:
            begun[step.state] = min(step.time, begun.get(step.state, step.time))
    own = {step.state: step.time for step in job.transition_times}
    times = sorted((own | begun).items(), key=itemgetter(1))
    words = [formatting.format_state(state) for state, _ in times]
    return [times[n] for n in range(len(times)) if n == 0 or words[n] != words[n - 1]]


def card_data(
    job: JobDetails,
    *,
    service: str,
    instance: str | None = None,
    counts: Mapping[str, int],
    containers: Sequence[Container] = (),
    reasons: Sequence[Reason] = (),
) -> CardData:
    """Return the facts of a card from a job and its containers as the service returned them."""
    request = job.job_input
    return CardData(
        as_of=datetime.now(UTC),
        job_id=job.id,
        user=job.user,
        service=service,
        instance=instance,
        image=request.image,
        state=job.state,
        timeline=make_timeline(job, containers),
        counts=counts,
        containers=request.num_containers,
        input_files=job.input_file_count,
        cpus=request.cpus,
        memory=request.memory,
        runtime=request.runtime,
        cluster=request.cluster,
        output_dir=request.output_dir,
        outputs=[(output.file, output.crc64nvme or "") for output in outputs_of(job)],
        waits_for=job.waits_for,
        warnings=job.warnings,
        reasons=reasons,
        max_memory=job.max_memory,
        max_anonymous_memory=job.max_anonymous_memory,
        cpu_hours=job.cpu_hours,
        cpu_factor=job.cpu_factor,
    )
