"""The read marker of ended jobs: kept by the service, or else in a local file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from jupyter_core.paths import jupyter_data_dir

from cts_jupyter import formatting
from cts_jupyter.client.models import JobPreview
from cts_jupyter.client.search import JobQuery, JobSearchResult, can_search, find_jobs
from cts_jupyter.notebook.session import Session

_MAX_IDS = 10_000


def find_new(session: Session, query: JobQuery) -> JobSearchResult:
    """Return the matching jobs that ended after the read marker, and move the marker.

    The service's marker is one point in time, so that a search for some of these jobs does not move it.
    Raises CTSClientError, and OSError where the local file cannot be written.
    """
    if can_search(session.client):
        return _find_at_service(session, query)
    result = find_jobs(session.client, dataclasses.replace(query, new=False))
    ended = [job for job in result.jobs if formatting.has_ended(job.state)]
    new = LastSeen(session.name, session.user).mark_seen(ended)
    return dataclasses.replace(result, jobs=new)


def _find_at_service(session: Session, query: JobQuery) -> JobSearchResult:
    result = find_jobs(session.client, query)
    notes = list(result.notes)
    if result.jobs and query == JobQuery(new=True):
        # The last job is the one that ended last; jobs that end later stay new.
        session.client.set_last_look(result.jobs[-1].transition_times[-1].time)
    elif result.jobs:
        notes.append(
            "They stay new: %cts ls --new without anything else says that you have seen them"
        )
    return JobSearchResult(result.jobs[::-1], notes)


class LastSeen:
    """A file of the ids of jobs that were shown, in Jupyter's data folder. Raises OSError where it cannot be written."""

    def __init__(self, service: str, user: str) -> None:
        name = hashlib.sha256(f"{service}\n{user}".encode()).hexdigest()[:32]
        self._path = Path(jupyter_data_dir()) / "cts" / f"seen-{name}.json"

    def mark_seen(self, ended: Sequence[JobPreview]) -> list[JobPreview]:
        """Return the jobs that were not seen before, and record them as seen.

        Ids are kept instead of a time: workers' clocks differ, so that a job may end "before" one that was seen.
        """
        seen = self._read()
        seen_ids = frozenset(seen)
        new = [job for job in ended if job.id not in seen_ids]
        if new:
            self._write([*(job.id for job in new), *seen][:_MAX_IDS])
        return new

    def _read(self) -> list[str]:
        try:
            return list(json.loads(self._path.read_bytes()))
        except (OSError, ValueError, TypeError):
            # There is no file yet, or it is damaged: then all jobs are new.
            return []

    def _write(self, ids: Sequence[str]) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(list(ids), file)
        draft.replace(self._path)
