"""Listing and counting jobs, and what ended since one last looked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, TypedDict, Unpack

from cts_jupyter.client.api.base import Endpoints, given
from cts_jupyter.client.models import JobCount, JobPage, JobPreview


class JobFilters(TypedDict, total=False):
    """Which jobs to list, and how; times must have a time zone, and are of the last update.

    A service that is older than this client ignores what it does not know: ask :meth:`Endpoints.supports`.
    """

    cluster: str | None
    state: str | None
    ended: bool | None
    after: datetime | None
    before: datetime | None
    labels: Mapping[str, str] | None
    """Each of them must be there."""
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


class OwnFilters(JobFilters, total=False):
    """Which of one's own jobs to list."""

    new: bool | None
    """Only those that ended since one last looked."""


class ListingEndpoints(Endpoints):
    """About many of one's own jobs at once."""

    def job_page(self, **filters: Unpack[OwnFilters]) -> JobPage:
        """A page of one's own jobs, newest update first if nothing else is asked for."""
        return JobPage.model_validate(self._get("jobs", as_query(filters)))

    def jobs(self, **filters: Unpack[OwnFilters]) -> list[JobPreview]:
        """The jobs of one page."""
        return self.job_page(**filters).jobs

    def iter_jobs(self, **filters: Unpack[OwnFilters]) -> Iterator[JobPreview]:
        """All jobs that match, page by page."""
        page = self.job_page(**filters)
        yield from page.jobs
        while page.next is not None:
            filters["cursor"] = page.next
            page = self.job_page(**filters)
            yield from page.jobs

    def job_counts(self) -> list[JobCount]:
        """How many jobs one has by site and state."""
        return [JobCount.model_validate(count) for count in self._get("jobs/counts")["counts"]]

    def set_last_look(self, until: datetime) -> None:
        """Say until when one has seen what had ended: the last update of the last job that one saw."""
        self._put("jobs/last_look", given(until=until.isoformat()))


def as_query(filters: Mapping[str, Any]) -> dict[str, Any]:
    """Filters as the parameters of a URL."""
    query = given(**filters)
    for name in ("after", "before"):
        if name in query:
            query[name] = query[name].isoformat()
    if labels := query.pop("labels", None):
        query["label"] = [f"{key}={value}" for key, value in labels.items()]
    return query
