"""Search for jobs: the service filters as far as it can, and the rest is filtered here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cts_core.states import JobState
from cts_jupyter.client.api.listing import OwnFilters
from cts_jupyter.client.client import CTSClient
from cts_jupyter.client.models import JobPreview
from cts_jupyter.formatting import WAITING, shown_state

MAX_RESULTS = 1000
"""The maximum number of jobs that a search returns."""
_MAX_SCANNED = 10_000
"""The maximum number of jobs that are read and filtered here for one search."""
_PAGE = 1000
_WHOLE_NAME = re.compile(r"(host|[^/]*[.:][^/]*)/.+")
"""An image name with its registry; anything else is part of a name."""


@dataclass(frozen=True)
class JobQuery:
    """The criteria that jobs must match, and their order."""

    text: str | None = None
    """In id, image, cluster, output folder, labels or error, in any case."""
    image: str | None = None
    """A name with its registry, with or without tag and digest; or any part of a name."""
    states: frozenset[str] | None = None
    """As people are told them, see ``formatting.shown_state``."""
    labels: Mapping[str, str] = field(default_factory=dict)
    since: datetime | None = None
    """Of the last update."""
    until: datetime | None = None
    """The same; before it."""
    by_creation: bool = False
    """Latest submission first, instead of latest update."""
    new: bool = False
    """Ended after the read marker; only where :func:`can_search`. The oldest end comes first."""


@dataclass(frozen=True)
class JobSearchResult:
    """The jobs that match, and notes for the user about the search."""

    jobs: list[JobPreview]
    notes: list[str]


def can_search(client: CTSClient) -> bool:
    """Return whether the service searches and pages; a deployed one filters by state, cluster and time alone."""
    return client.supports("GET", "/jobs", "cursor")


def find_jobs(client: CTSClient, query: JobQuery, *, limit: int = MAX_RESULTS) -> JobSearchResult:
    """Return the latest jobs that match, at most ``limit``. Raises CTSClientError."""
    searches = can_search(client)
    takes_several = client.supports("GET", "/jobs", "state", several=True)
    filters = _filters(query, searches=searches, takes_several=takes_several)
    # Where jobs are filtered here, a page may hold few that match.
    filters["limit"] = _PAGE if query.states or query.image else min(limit, _PAGE)
    jobs: list[JobPreview] = []
    scanned = 0
    while True:
        page = client.job_page(**filters)
        scanned += len(page.jobs)
        jobs += [job for job in page.jobs if _matches(job, query, searches=searches)]
        is_done = len(jobs) >= limit or scanned >= _MAX_SCANNED
        if page.next is None or is_done:
            break
        filters["cursor"] = page.next
    notes = []
    if page.is_cut:
        notes.append(
            "The text was looked for in your latest 10,000 jobs only; --since goes on from there"
        )
    if not searches and scanned >= _PAGE:
        notes.append(f"Only your latest {_PAGE:,} jobs were looked at; --since goes on from there")
    narrow = "--since, --state or a text narrows them down"
    if len(jobs) > limit or (len(jobs) == limit and page.next is not None):
        notes.append(f"Only the first {limit:,} are shown; {narrow}")
    elif page.next is not None:
        notes.append(f"Only {scanned:,} jobs were looked at; {narrow}")
    return JobSearchResult(jobs[:limit], notes)


def _filters(query: JobQuery, *, searches: bool, takes_several: bool) -> OwnFilters:
    filters: OwnFilters = {
        "after": query.since,
        "before": query.until,
        "labels": query.labels or None,
    }
    states = query.states or frozenset()
    if searches and JobState.JOB_SUBMITTED in states:
        # A job that is told as running may be in an earlier state at the service.
        states |= WAITING
    if len(states) == 1:
        filters["state"] = next(iter(states))
    elif takes_several:
        filters["state"] = sorted(states) or None
    if not searches:
        return filters
    filters["containers"] = True
    filters["text"] = query.text
    if query.image and _WHOLE_NAME.fullmatch(query.image):
        filters["image"] = query.image
    elif not query.text:
        # Jobs with it anywhere include those with it in the image, and are far fewer than all.
        filters["text"] = query.image
    if query.by_creation:
        filters["sort"] = "created"
    if query.new:
        filters |= {"new": True, "order": "asc"}
    return filters


def _matches(job: JobPreview, query: JobQuery, *, searches: bool) -> bool:
    state = shown_state(job.state, job.containers)
    if query.states is not None and state not in query.states:
        return False
    if not searches and query.text and not _has_text(job, query.text.casefold()):
        return False
    if not query.image or (searches and _WHOLE_NAME.fullmatch(query.image)):
        return True
    return query.image.casefold() in job.job_input.image.casefold()


def _has_text(job: JobPreview, text: str) -> bool:
    request = job.job_input
    subjects = [job.id, request.image, request.cluster, request.output_dir, job.error or ""]
    subjects += [f"{key}={value}" for key, value in job.labels.items()]
    return any(text in subject.casefold() for subject in subjects)
