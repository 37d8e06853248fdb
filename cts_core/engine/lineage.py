"""A job, what it is a resubmission of, and all resubmissions of these."""

from __future__ import annotations

from cts_core.errors import NoSuchJobError
from cts_core.model.record import JobSummary
from cts_core.records.store import RecordStore

MAX_FAMILY = 100
"""Jobs of one family that are looked at together."""


async def find_family(store: RecordStore, job: JobSummary) -> list[JobSummary]:
    """The family of a job, oldest first; more than ``MAX_FAMILY`` jobs say that there may be others."""
    root = await _first_of(store, job)
    found = {root.id: root}
    generation = [root]
    while generation and len(found) <= MAX_FAMILY:
        parents = [parent.id for parent in generation]
        children = await store.resubmissions(parents, limit=MAX_FAMILY)
        generation = [
            child for child in children if child.id not in found and child.user == job.user
        ]
        found |= {child.id: child for child in generation}
    # Of the same instant, parents are before their children, as they were found.
    return sorted(found.values(), key=lambda member: member.transition_times[0].time)


async def _first_of(store: RecordStore, job: JobSummary) -> JobSummary:
    for _ in range(MAX_FAMILY):
        if job.parent_id is None:
            break
        try:
            parent = await store.get_summary(job.parent_id)
        except NoSuchJobError:
            # Somebody has removed it from the store by hand.
            break
        if parent.user != job.user:
            break
        job = parent
    return job
