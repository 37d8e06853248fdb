"""Moving a container in the records, truncating an outcome that they cannot hold."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from cts_core.engine import outcome as outcomes
from cts_core.errors import CTSError, NoSuchContainerError, RecordTooLargeError
from cts_core.model.record import ContainerOutcome, ContainerTransition, JobSummary
from cts_core.records.store import RecordStore
from cts_core.states import JobState

log = logging.getLogger(__name__)


def check_number(
    job: JobSummary, number: int, error: type[CTSError] = NoSuchContainerError
) -> None:
    """Raise ``error`` unless the job has this container. The contract has two errors for this, each for some of the calls."""
    count = job.job_input.num_containers
    if not 0 <= number < count:
        raise error(f"Container number must be < {count} for job {job.id}")


async def move_container(
    store: RecordStore,
    job: JobSummary,
    number: int,
    expected: JobState,
    *,
    steps: Sequence[ContainerTransition],
    outcome: ContainerOutcome,
) -> JobState | None:
    """Move a container through ``steps``; return its new state, or None if it was not in ``expected``.

    The times of the steps are those of the worker's clock: none is stored that is later than the store's.
    A container whose outputs are too many for its record becomes ``error``.
    """
    now = await store.now()
    steps = [ContainerTransition(state=step.state, time=min(step.time, now)) for step in steps]
    try:
        moved = await store.transition_container(job.id, number, expected, steps, outcome=outcome)
    except RecordTooLargeError as e:
        log.warning("Container %d of job %s: %s", number, job.id, e)
        if outcome.outputs is not None:
            steps = [*steps[:-1], ContainerTransition(state=JobState.ERROR, time=steps[-1].time)]
        kept = outcomes.truncate_container(job, number, outcome)
        moved = await store.transition_container(job.id, number, expected, steps, outcome=kept)
    return steps[-1].state if moved else None
