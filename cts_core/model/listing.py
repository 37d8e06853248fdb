"""What is said about many jobs at once."""

from __future__ import annotations

from cts_core.model.base import Closed, GivenTime, Record
from cts_core.model.record import JobCount


class JobCounts(Record):
    """How many jobs there are by site and state; what there is none of is left out."""

    counts: list[JobCount]


class LastLook(Closed):
    """Until when somebody has seen what had ended: the last update of the last job that they saw."""

    until: GivenTime
