"""Describes the pool, and a job in it, in sentences for operators. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from cts_core.sites.htcondor.classads import (
    JobAd,
    Status,
    admin_message,
    misfit_admin_message,
    misfit_message,
)
from cts_core.sites.site import Survey
from cts_core.worker.units import format_seconds

MAX_NAMED = 5
"""The number of containers that are described one by one."""


def make_survey(facts: Mapping[str, Any], group: str) -> Survey:
    """Describe the pool from the facts of ``PoolConnection.survey``."""
    user = facts["user"] or "nobody who may submit"
    group_clause = f", of which {facts['takers']} are of the group '{group}'" if group else ""
    largest = (
        f"{facts['Cpus']} cpus, {facts['Memory']} MiB of memory and {facts['Disk']} KiB of disk"
    )
    lines = [
        f"schedd {facts['schedd']}, HTCondor {facts['version']}, which knows this service as {user}",
        f"nodes: {facts['nodes']}{group_clause}; the largest of these have {largest}",
        f"containers of CTS in its queue: {_count_by_status(facts['statuses'])}",
    ]
    return Survey(lines, list(_problems(facts, group)))


def _problems(facts: Mapping[str, Any], group: str) -> Iterator[str]:
    if facts["user"] is None:
        yield (
            "the schedd lets this service ask, and not submit: it needs a token of HTCondor's (IDTOKENS) for an account "
            "of the schedd's machine"
        )
    elif facts["is_pools_own"]:
        yield "the schedd lets nobody submit who logs in by the pool's password: log in with IDTOKENS"
    if not facts["nodes"]:
        yield "no node of the pool can be seen: containers wait until there is one"
    elif not facts["takers"]:
        yield (
            f"no node is of the group '{group}' (htcondor.clientgroup): containers fail after "
            "htcondor.match_wait_min"
        )


def explain_job(ads: Sequence[JobAd], pool: Mapping[str, Any] | None) -> Iterator[str]:
    """Describe the state of a job's containers in the queue.

    ``pool`` is the result of ``PoolConnection.never_matching`` for the clusters that wait, or None if none does.
    """
    if not ads:
        yield "HTCondor has nothing of it in its queue."
        return
    clusters = ", ".join(str(cluster) for cluster in sorted({ad.cluster_id for ad in ads}))
    yield f"HTCondor has it as cluster {clusters}: {_count_by_status(ad.status for ad in ads)}."
    if pool is not None:
        yield from _waiting([ad for ad in ads if ad.status == Status.IDLE], pool)
    odd = [ad for ad in ads if ad.status == Status.HELD or ad.seconds_lost]
    for ad in odd[:MAX_NAMED]:
        lost = f"; its node has not answered for {format_seconds(ad.seconds_lost)}"
        yield f"{admin_message(ad)}{lost if ad.seconds_lost else ''}."
    if len(odd) > MAX_NAMED:
        yield f"So it is with {len(odd) - MAX_NAMED} more containers."


def _waiting(ads: Sequence[JobAd], pool: Mapping[str, Any]) -> Iterator[str]:
    misfits = {misfit["cluster"]: misfit for misfit in pool["misfits"]}
    if not pool["nodes"]:
        yield "No node of the pool can be seen."
    for cluster, misfit in misfits.items():
        ad = next(ad for ad in ads if ad.cluster_id == cluster)
        yield f"{misfit_message(ad, misfit, pool)} {misfit_admin_message(ad, misfit, pool)}."
    first = max(ads, key=lambda ad: ad.seconds_in_status)
    yield (
        f"Container {first.number} has waited for a node for {format_seconds(first.seconds_in_status)}; why, "
        f"condor_q -better-analyze {first.process} says on the schedd's machine."
    )


def _count_by_status(statuses: Iterable[int]) -> str:
    counts = Counter(statuses)
    texts = [f"{counts[status]} {status.name.lower().replace('_', ' ')}" for status in Status]
    return ", ".join(text for text in texts if not text.startswith("0 ")) or "none"
