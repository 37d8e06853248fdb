"""Models about many jobs at once."""

from __future__ import annotations

from cts_core.model.base import Closed, GivenTime, Record
from cts_core.model.record import JobCount


class JobCounts(Record):
    """The number of jobs by site and state, without zeros."""

    counts: list[JobCount]


class LabelKeys(Record):
    """The keys of the labels of the caller's jobs, sorted, of the latest 10,000 of them."""

    keys: list[str]


class LastLook(Closed):
    """A user's read marker: the time of the last update of the last ended job that the user has seen."""

    until: GivenTime
