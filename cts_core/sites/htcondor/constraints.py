"""Expressions of HTCondor's that are true of some of our processes, or of some nodes.

Each can stand within another as it is. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from cts_core.sites.htcondor.classads import GIVEN_UP, JOB_ID, Ad, Hold, Status

OURS = f"{JOB_ID} isnt undefined"
"""True of all processes of CTS."""
WITHOUT_FILES = f"(JobStatus == {Status.HELD} && HoldReasonCode == {Hold.SPOOLING})"
"""True of what waits for files that it was to be handed over with."""
_STAYS_OR_GOES = ",".join(f"{status}" for status in (Status.REMOVED, Status.COMPLETED, Status.HELD))
UNENDED = f"({OURS} && ({WITHOUT_FILES} || !member(JobStatus, {{{_STAYS_OR_GOES}}})))"
"""True of all processes of CTS that run or wait for their turn; what is on hold else stays to be looked at."""
MAX_NAMED = 50
"""Jobs, clusters or processes that are named at once; what is beyond that has its turn in the next cycles."""


def any_job(job_ids: Iterable[str]) -> str:
    """True of these jobs' processes, all of them."""
    return _any(f"{JOB_ID} == {quoted(job_id)}" for job_id in job_ids)


def among(job_ids: Collection[str]) -> str:
    """The same, for a question alone; beyond ``MAX_NAMED`` jobs it is true of others of CTS, too."""
    return any_job(sorted(job_ids)) if len(job_ids) <= MAX_NAMED else OURS


def any_started(job_id: str) -> str:
    """True of this job's processes, without those of a start that was given up."""
    return f'({any_job([job_id])} && !regexp("^{GIVEN_UP}", RemoveReason ?: ""))'


def any_cluster(cluster_ids: Sequence[int]) -> str:
    """True of these clusters' processes."""
    return _any(f"ClusterId == {cluster_id}" for cluster_id in cluster_ids)


def these(ads: Iterable[Ad]) -> str:
    """True of these processes."""
    clusters: dict[int, list[str]] = {}
    for ad in ads:
        clusters.setdefault(ad.cluster_id, []).append(str(ad.process_id))
    return _any(
        f"(ClusterId == {cluster} && member(ProcId, {{{','.join(processes)}}}))"
        for cluster, processes in clusters.items()
    )


def of_group(group: str) -> str:
    """True of this group's nodes."""
    return f"regexp({quoted(group)},CLIENTGROUP)"


def quoted(text: str) -> str:
    """A string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _any(parts: Iterable[str]) -> str:
    found = list(parts)
    return found[0] if len(found) == 1 else f"({' || '.join(found)})"
