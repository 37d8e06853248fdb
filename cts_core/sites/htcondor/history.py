"""What the pool remembers of our containers' processes once they have left its queue."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from cts_core.clock import utc_now
from cts_core.sites.htcondor.bindings_client import Pool
from cts_core.sites.htcondor.classads import ATTRIBUTES, CONTAINER_NUMBER, Ad, read_ads
from cts_core.sites.htcondor.constraints import any_started

SLACK_SECONDS = 600
"""How much further back it is read than what is looked for can be: clocks of ours differ."""


def before(then: datetime) -> str:
    """The expression at which reading ends, for what has left the queue after this time.

    It says how long ago that was, by the schedd's clock, which may be another than ours.
    """
    ago = int((utc_now() - then).total_seconds()) + SLACK_SECONDS
    return f"EnteredCurrentStatus < time() - {ago}"


async def remembered(
    pool: Pool, job_id: str, numbers: Collection[int], seen: datetime | None
) -> list[Ad]:
    """Of these containers of a job, newest first, read back to when they were ``seen``. Raises UnavailableError."""
    members = ",".join(map(str, sorted(numbers)))
    rows = await pool.call(
        "history",
        constraint=f"{any_started(job_id)} && member({CONTAINER_NUMBER}, {{{members}}})",
        attributes=ATTRIBUTES,
        match=len(numbers),
        since=before(seen) if seen else None,
    )
    return read_ads(rows)
