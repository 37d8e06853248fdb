"""Finds processes of CTS in the pool's history, once they have left its queue."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from cts_core.clock import utc_now
from cts_core.sites.htcondor.bindings_client import BindingsClient
from cts_core.sites.htcondor.classads import ATTRIBUTES, CONTAINER_NUMBER, JobAd, read_ads
from cts_core.sites.htcondor.constraints import for_started_job

SLACK_SECONDS = 600
"""How much further back than necessary the history is read, since the clocks of servers differ."""


def history_bound(then: datetime) -> str:
    """Return the expression at which HTCondor stops reading, for processes that have left the queue after ``then``.

    It is relative to the schedd's clock, which may differ from this server's.
    """
    ago = int((utc_now() - then).total_seconds()) + SLACK_SECONDS
    return f"EnteredCurrentStatus < time() - {ago}"


async def find_in_history(
    bindings: BindingsClient, job_id: str, numbers: Collection[int], seen: datetime | None
) -> list[JobAd]:
    """Return the ads of these containers, newest first, read back to when they were ``seen``. Raises UnavailableError."""
    members = ",".join(map(str, sorted(numbers)))
    rows = await bindings.call(
        "history",
        constraint=f"{for_started_job(job_id)} && member({CONTAINER_NUMBER}, {{{members}}})",
        attributes=ATTRIBUTES,
        match=len(numbers),
        since=history_bound(seen) if seen else None,
    )
    return read_ads(rows)
