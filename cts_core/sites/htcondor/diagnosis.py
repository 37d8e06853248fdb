"""What the pool says of itself and of a job, in sentences for operators. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from cts_core.sites.htcondor.classads import (
    Ad,
    Status,
    admin_words,
    duration,
    misfit_admin_words,
    misfit_words,
)
from cts_core.sites.site import Survey

MAX_NAMED = 5
"""Of many containers this many are told of one by one."""


def survey_words(told: Mapping[str, Any], group: str) -> Survey:
    """What an operator should know of the pool; see ``bindings.Pool.survey``."""
    user = told["user"] or "nobody who may submit"
    of_group = f", of which {told['takers']} are of the group '{group}'" if group else ""
    largest = f"{told['Cpus']} cpus, {told['Memory']} MiB of memory and {told['Disk']} KiB of disk"
    lines = [
        f"schedd {told['schedd']}, HTCondor {told['version']}, which knows this service as {user}",
        f"nodes: {told['nodes']}{of_group}; the largest of these have {largest}",
        f"containers of CTS in its queue: {_counted(told['statuses'])}",
    ]
    return Survey(lines, list(_trouble(told, group)))


def _trouble(told: Mapping[str, Any], group: str) -> Iterator[str]:
    if told["user"] is None:
        yield (
            "the schedd lets this service ask, and not submit: it needs a token of HTCondor's (IDTOKENS) for an account "
            "of the schedd's machine"
        )
    elif told["is_pools_own"]:
        yield "the schedd lets nobody submit who logs in by the pool's password: log in with IDTOKENS"
    if not told["nodes"]:
        yield "no node of the pool can be seen: containers wait until there is one"
    elif not told["takers"]:
        yield (
            f"no node is of the group '{group}' (htcondor.clientgroup): containers fail after "
            "htcondor.match_wait_min"
        )


def job_words(ads: Sequence[Ad], pool: Mapping[str, Any] | None) -> Iterator[str]:
    """What has become of a job's containers in the queue.

    ``pool``: what ``bindings.Pool.never_matching`` says of the clusters that wait; None where none does.
    """
    if not ads:
        yield "HTCondor has nothing of it in its queue."
        return
    clusters = ", ".join(str(cluster) for cluster in sorted({ad.cluster_id for ad in ads}))
    yield f"HTCondor has it as cluster {clusters}: {_counted(ad.status for ad in ads)}."
    if pool is not None:
        yield from _waiting([ad for ad in ads if ad.status == Status.IDLE], pool)
    odd = [ad for ad in ads if ad.status == Status.HELD or ad.seconds_lost]
    for ad in odd[:MAX_NAMED]:
        lost = f"; its node has not answered for {duration(ad.seconds_lost)}"
        yield f"{admin_words(ad)}{lost if ad.seconds_lost else ''}."
    if len(odd) > MAX_NAMED:
        yield f"So it is with {len(odd) - MAX_NAMED} more containers."


def _waiting(ads: Sequence[Ad], pool: Mapping[str, Any]) -> Iterator[str]:
    misfits = {misfit["cluster"]: misfit for misfit in pool["misfits"]}
    if not pool["nodes"]:
        yield "No node of the pool can be seen."
    for cluster, misfit in misfits.items():
        ad = next(ad for ad in ads if ad.cluster_id == cluster)
        yield f"{misfit_words(ad, misfit, pool)} {misfit_admin_words(ad, misfit, pool)}."
    first = max(ads, key=lambda ad: ad.seconds_in_status)
    yield (
        f"Container {first.number} has waited for a node for {duration(first.seconds_in_status)}; why, "
        f"condor_q -better-analyze {first.process} says on the schedd's machine."
    )


def _counted(statuses: Iterable[int]) -> str:
    counts = Counter(statuses)
    named = [f"{counts[status]} {status.name.lower().replace('_', ' ')}" for status in Status]
    return ", ".join(text for text in named if not text.startswith("0 ")) or "none"
