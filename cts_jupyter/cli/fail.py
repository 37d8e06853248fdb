"""Ending a live job as an error, for an operator."""

from __future__ import annotations

import uuid

from cts_core.model.record import ContainerOutcome, ContainerTransition, JobOutcome, JobSummary
from cts_core.states import TERMINAL, JobState
from cts_jupyter.cli.output import CommandError
from cts_jupyter.cli.stores import Stores, actor_name

_TRIES = len(JobState)
"""A job only moves forward, so compare-and-set fails at most once for each state."""


async def fail_job(stores: Stores, job: JobSummary, reason: str, *, action: str) -> None:
    """Audit the action, then move the job to error, then its containers. Raises CommandError if it has ended already.

    The job goes first: if its containers did, a server would end the job because of them, with another reason.
    """
    await stores.record_audit(job.id, action, reason)
    outcome = JobOutcome(error=reason, admin_error=f"Ended by {actor_name()}: {reason}")
    for _ in range(_TRIES):
        if job.state in TERMINAL:
            raise CommandError(f"job {job.id} has ended meanwhile: it is {job.state.value}")
        if await stores.store.transition(
            job.id,
            job.state,
            JobState.ERROR,
            time=await stores.store.now(),
            trans_id=str(uuid.uuid4()),
            outcome=outcome,
        ):
            break
        job = await stores.store.get_summary(job.id)
    transition = ContainerTransition(state=JobState.ERROR, time=await stores.store.now())
    container_outcome = ContainerOutcome(error=reason)
    for number, state in enumerate(await stores.store.container_states(job.id)):
        if state not in TERMINAL:
            await stores.store.transition_container(
                job.id, number, state, [transition], outcome=container_outcome
            )
