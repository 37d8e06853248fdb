"""The lineage of a job: the jobs that it is a resubmission of, and all resubmissions of these."""

from __future__ import annotations

from cts_core.errors import NoSuchJobError
from cts_core.model.record import JobSummary
from cts_core.records.store import RecordStore

MAX_LINEAGE = 100
"""Jobs of one lineage that are handled together."""


async def find_lineage(store: RecordStore, job: JobSummary) -> list[JobSummary]:
    """Return the lineage of a job, oldest first. More than ``MAX_LINEAGE`` jobs mean that there may be others."""
    root = await _find_root(store, job)
    members = {root.id: root}
    generation = [root]
    while generation and len(members) <= MAX_LINEAGE:
        parents = [parent.id for parent in generation]
        children = await store.resubmissions(parents, limit=MAX_LINEAGE)
        generation = [
            child for child in children if child.id not in members and child.user == job.user
        ]
        members |= {child.id: child for child in generation}
    # The sort is stable: of jobs of the same instant, parents stay before their children.
    return sorted(members.values(), key=lambda member: member.transition_times[0].time)


async def _find_root(store: RecordStore, job: JobSummary) -> JobSummary:
    for _ in range(MAX_LINEAGE):
        if job.parent_id is None:
            break
        try:
            parent = await store.get_summary(job.parent_id)
        except NoSuchJobError:
            # An operator has removed it from the store by hand.
            break
        if parent.user != job.user:
            break
        job = parent
    return job
