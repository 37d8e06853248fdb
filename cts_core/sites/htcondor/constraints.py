"""Constraints: ClassAd expressions that match some of CTS's processes, or some nodes.

Each can be part of another expression without further parentheses. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from cts_core.sites.htcondor.classads import JOB_ID, SUPERSEDED_REASON, HoldCode, JobAd, Status

OURS = f"{JOB_ID} isnt undefined"
"""Matches all processes of CTS."""
WITHOUT_FILES = f"(JobStatus == {Status.HELD} && HoldReasonCode == {HoldCode.SPOOLING})"
"""Matches processes that are held until their files are spooled."""
_INACTIVE = ",".join(f"{status}" for status in (Status.REMOVED, Status.COMPLETED, Status.HELD))
UNENDED = f"({OURS} && ({WITHOUT_FILES} || !member(JobStatus, {{{_INACTIVE}}})))"
"""Matches all processes of CTS that run or are queued; those that are held for another reason use nothing."""
MAX_NAMED = 50
"""Jobs, clusters or processes that one constraint names; others have their turn in the next cycles."""


def for_named_jobs(job_ids: Iterable[str]) -> str:
    """Match exactly the processes of these jobs."""
    return _any(f"{JOB_ID} == {quoted(job_id)}" for job_id in job_ids)


def for_jobs(job_ids: Collection[str]) -> str:
    """Match the processes of these jobs; with more than ``MAX_NAMED`` jobs, all of CTS. For queries only."""
    return for_named_jobs(sorted(job_ids)) if len(job_ids) <= MAX_NAMED else OURS


def for_started_job(job_id: str) -> str:
    """Match the processes of this job, except superseded ones."""
    return f'({for_named_jobs([job_id])} && !regexp("^{SUPERSEDED_REASON}", RemoveReason ?: ""))'


def for_clusters(cluster_ids: Sequence[int]) -> str:
    """Match the processes of these clusters."""
    return _any(f"ClusterId == {cluster_id}" for cluster_id in cluster_ids)


def for_processes(ads: Iterable[JobAd]) -> str:
    """Match exactly these processes."""
    clusters: dict[int, list[str]] = {}
    for ad in ads:
        clusters.setdefault(ad.cluster_id, []).append(str(ad.process_id))
    return _any(
        f"(ClusterId == {cluster} && member(ProcId, {{{','.join(processes)}}}))"
        for cluster, processes in clusters.items()
    )


def for_group(group: str) -> str:
    """Match the nodes of this client group."""
    return f"regexp({quoted(group)},CLIENTGROUP)"


def quoted(text: str) -> str:
    """Return a ClassAd string literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _any(parts: Iterable[str]) -> str:
    alternatives = list(parts)
    if len(alternatives) == 1:
        return alternatives[0]
    return f"({' || '.join(alternatives)})"
