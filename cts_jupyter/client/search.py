"""Finding jobs: what the service can pick out it does, the rest is picked out here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cts_core.states import TERMINAL, JobState
from cts_jupyter.client.api.listing import OwnFilters
from cts_jupyter.client.client import CTSClient
from cts_jupyter.client.models import JobPreview

MAX_FOUND = 1000
"""Jobs that one search finds."""
_LOOKED_AT = 10_000
"""Jobs that are looked at here for one search."""
_PAGE = 1000
_LIVE = frozenset(JobState) - TERMINAL
_WHOLE_NAME = re.compile(r"(host|[^/]*[.:][^/]*)/.+")
"""An image with its registry; anything else is a part of a name."""


@dataclass(frozen=True)
class JobQuery:
    """Which jobs to find."""

    text: str | None = None
    """In id, image, cluster, output folder, labels or error, in any case."""
    image: str | None = None
    """A name with its registry, with or without tag and digest; or any part of a name."""
    states: frozenset[str] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    since: datetime | None = None
    """Of the last update."""
    by_creation: bool = False
    """Latest submission first, instead of latest update."""
    new: bool = False
    """Ended since one last looked; only where :func:`can_search`. The oldest end comes first."""


@dataclass(frozen=True)
class JobSearchResult:
    """The jobs, and what the person should know of the search."""

    jobs: list[JobPreview]
    notes: list[str]


def can_search(client: CTSClient) -> bool:
    """Whether the service searches and pages; a deployed one filters by state, cluster and time alone."""
    return client.supports("GET", "/jobs", "cursor")


def find_jobs(client: CTSClient, wanted: JobQuery, *, limit: int = MAX_FOUND) -> JobSearchResult:
    """The latest jobs that match, at most ``limit``. Raises CTSClientError."""
    searches = can_search(client)
    filters = _filters(wanted, searches=searches)
    # Where jobs are picked out here, a page may hold few that match.
    filters["limit"] = _PAGE if wanted.states or wanted.image else min(limit, _PAGE)
    found: list[JobPreview] = []
    looked_at = 0
    while True:
        page = client.job_page(**filters)
        looked_at += len(page.jobs)
        found += [job for job in page.jobs if _matches(job, wanted, searches=searches)]
        is_over = len(found) >= limit or looked_at >= _LOOKED_AT
        if page.next is None or is_over:
            break
        filters["cursor"] = page.next
    notes = []
    if page.is_cut:
        notes.append(
            "The text was looked for in your latest 10,000 jobs only; --since goes on from there"
        )
    if not searches and looked_at >= _PAGE:
        notes.append(f"Only your latest {_PAGE:,} jobs were looked at; --since goes on from there")
    narrow = "--since, --state or a text narrows them down"
    if len(found) > limit or (len(found) == limit and page.next is not None):
        notes.append(f"Only the first {limit:,} are shown; {narrow}")
    elif page.next is not None:
        notes.append(f"Only {looked_at:,} jobs were looked at; {narrow}")
    return JobSearchResult(found[:limit], notes)


def _filters(wanted: JobQuery, *, searches: bool) -> OwnFilters:
    filters: OwnFilters = {"after": wanted.since, "labels": wanted.labels or None}
    if wanted.states is not None and len(wanted.states) == 1:
        filters["state"] = next(iter(wanted.states))
    if not searches:
        return filters
    if wanted.states in (TERMINAL, _LIVE):
        filters["ended"] = wanted.states == TERMINAL
    filters["text"] = wanted.text
    if wanted.image and _WHOLE_NAME.fullmatch(wanted.image):
        filters["image"] = wanted.image
    elif not wanted.text:
        # What has it anywhere is more than what has it in its image, and far less than all.
        filters["text"] = wanted.image
    if wanted.by_creation:
        filters["sort"] = "created"
    if wanted.new:
        filters |= {"new": True, "order": "asc"}
    return filters


def _matches(job: JobPreview, wanted: JobQuery, *, searches: bool) -> bool:
    if wanted.states is not None and job.state not in wanted.states:
        return False
    if not searches and wanted.text and not _has_text(job, wanted.text.casefold()):
        return False
    if not wanted.image or (searches and _WHOLE_NAME.fullmatch(wanted.image)):
        return True
    return wanted.image.casefold() in job.job_input.image.casefold()


def _has_text(job: JobPreview, text: str) -> bool:
    asked = job.job_input
    subjects = [job.id, asked.image, asked.cluster, asked.output_dir, job.error or ""]
    subjects += [f"{key}={value}" for key, value in job.labels.items()]
    return any(text in subject.casefold() for subject in subjects)
