"""Ends a live job as an error, on behalf of an operator."""

from __future__ import annotations

import uuid

from cts_core.clock import utc_now
from cts_core.model.record import ContainerOutcome, ContainerTransition, JobOutcome, JobSummary
from cts_core.states import TERMINAL, JobState
from cts_jupyter.cli.output import CommandError
from cts_jupyter.cli.stores import Ground, actor

_TRIES = len(JobState)
"""A job moves forward only, so that it cannot win the race more often than this."""


async def end_as_error(ground: Ground, job: JobSummary, reason: str, *, action: str) -> None:
    """Note it, then move the job, then its containers. Raises CommandError when it has ended otherwise.

    The job first: were its containers first, a server would end the job by them, with a reason of its own.
    """
    await ground.note(job.id, action, reason)
    outcome = JobOutcome(error=reason, admin_error=f"Ended by {actor()}: {reason}")
    for _ in range(_TRIES):
        if job.state in TERMINAL:
            raise CommandError(f"job {job.id} has ended meanwhile: it is {job.state.value}")
        if await ground.store.transition(
            job.id,
            job.state,
            JobState.ERROR,
            time=utc_now(),
            trans_id=str(uuid.uuid4()),
            outcome=outcome,
        ):
            break
        job = await ground.store.get_summary(job.id)
    step = ContainerTransition(state=JobState.ERROR, time=utc_now())
    told = ContainerOutcome(error=reason)
    for number, state in enumerate(await ground.store.container_states(job.id)):
        if state not in TERMINAL:
            await ground.store.transition_container(job.id, number, state, [step], outcome=told)
