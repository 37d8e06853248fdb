"""The facts about a job that its card shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cts_jupyter import formatting
from cts_jupyter.client.lookups import Failure, outputs_of
from cts_jupyter.client.models import JobDetails


@dataclass(frozen=True)
class CardData:
    """The facts about a job that its card shows."""

    job_id: str
    user: str
    service: str
    """The service's name for people, such as its host."""
    image: str
    state: str
    transitions: Sequence[tuple[str, datetime]]
    """State and time, oldest first."""
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
    warnings: Sequence[str] = ()
    error: str | None = None
    failure: Failure | None = None
    max_memory: int | None = None
    cpu_hours: float | None = None
    notes: Sequence[str] = field(default=())

    @property
    def elapsed(self) -> timedelta:
        """The time from the submission to the end, or to now."""
        start, last = self.transitions[0][1], self.transitions[-1][1]
        return (last if formatting.has_ended(self.state) else datetime.now(UTC)) - start

    @property
    def state_words(self) -> str:
        """The state in words."""
        return formatting.format_job_state(self.state, self.counts)

    @property
    def short_id(self) -> str:
        """The beginning of the id."""
        return formatting.short_id(self.job_id)


def card_data(
    job: JobDetails, *, service: str, counts: Mapping[str, int], failure: Failure | None = None
) -> CardData:
    """Return the facts of a card from a job as the service returned it."""
    request = job.job_input
    return CardData(
        job_id=job.id,
        user=job.user,
        service=service,
        image=request.image,
        state=job.state,
        transitions=[(step.state, step.time) for step in job.transition_times],
        counts=counts,
        containers=request.num_containers,
        input_files=job.input_file_count,
        cpus=request.cpus,
        memory=request.memory,
        runtime=request.runtime,
        cluster=request.cluster,
        output_dir=request.output_dir,
        outputs=[(output.file, output.crc64nvme or "") for output in outputs_of(job)],
        warnings=job.warnings,
        error=job.error,
        failure=failure,
        max_memory=job.max_memory,
        cpu_hours=job.cpu_hours,
    )
