"""Endpoints that list and count the user's jobs, and set the read marker of ended ones."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any, TypedDict, Unpack

from cts_jupyter.client.api.base import Endpoints, drop_none
from cts_jupyter.client.models import JobCount, JobPage, JobPreview


class JobFilters(TypedDict, total=False):
    """Filters and order for listing jobs. Times must have a time zone, and are those of the last update.

    A service that is older than this client ignores filters that it does not have: see :meth:`Endpoints.supports`.
    """

    cluster: str | None
    state: str | Collection[str] | None
    """One, or several of which a job is in any."""
    ended: bool | None
    after: datetime | None
    before: datetime | None
    labels: Mapping[str, str] | None
    """Jobs must have each of these."""
    image: str | None
    """A whole name, with or without tag and digest."""
    text: str | None
    """In id, image, cluster, output folder, labels or error, among the latest 10,000 that match all else."""
    sort: str | None
    """``updated`` or ``created``."""
    order: str | None
    """``desc`` or ``asc``."""
    limit: int | None
    """Jobs on a page."""
    cursor: str | None
    """``next`` of the page before."""
    containers: bool | None
    """Each job that is not complete with the number of its containers in each state."""


class OwnFilters(JobFilters, total=False):
    """Filters for listing the user's own jobs."""

    new: bool | None
    """Only jobs that ended after the read marker, see ``set_last_look``."""


class ListingEndpoints(Endpoints):
    """Endpoints about many of the user's own jobs at once."""

    def job_page(self, **filters: Unpack[OwnFilters]) -> JobPage:
        """Return a page of the user's own jobs, newest update first unless the filters say otherwise."""
        return JobPage.model_validate(self._get("jobs", as_query(filters)))

    def jobs(self, **filters: Unpack[OwnFilters]) -> list[JobPreview]:
        """Return the jobs of one page."""
        return self.job_page(**filters).jobs

    def iter_jobs(self, **filters: Unpack[OwnFilters]) -> Iterator[JobPreview]:
        """Iterate over all jobs that match, page by page."""
        page = self.job_page(**filters)
        yield from page.jobs
        while page.next is not None:
            filters["cursor"] = page.next
            page = self.job_page(**filters)
            yield from page.jobs

    def job_counts(self) -> list[JobCount]:
        """Return the numbers of the user's jobs by site and state."""
        return [JobCount.model_validate(count) for count in self._get("jobs/counts")["counts"]]

    def label_keys(self) -> list[str]:
        """Return the keys of the labels of the user's latest 10,000 jobs, sorted."""
        return list(self._get("jobs/labels")["keys"])

    def set_last_look(self, until: datetime) -> None:
        """Set the read marker of ended jobs: the last update of the last job that the user has seen."""
        self._put("jobs/last_look", drop_none(until=until.isoformat()))


def as_query(filters: Mapping[str, Any]) -> dict[str, Any]:
    """Return filters as the parameters of a URL."""
    query = drop_none(**filters)
    for name in ("after", "before"):
        if name in query:
            query[name] = query[name].isoformat()
    if labels := query.pop("labels", None):
        query["label"] = [f"{key}={value}" for key, value in labels.items()]
    return query
