"""Which ended jobs a person has been told of: the service knows, or else a file here does."""

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

_REMEMBERED = 10_000


def find_new(session: Session, query: JobQuery) -> JobSearchResult:
    """Of the jobs that match, those that ended since one last looked, which is from now on now.

    Where the service knows it, what is told is one moment, so that a search for some of them leaves it as it is.
    Raises CTSClientError, and OSError where nothing can be noted.
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
        # The latest of them is the last, and what is left ended after it.
        session.client.set_last_look(result.jobs[-1].transition_times[-1].time)
    elif result.jobs:
        notes.append(
            "They stay new: %cts ls --new without anything else says that you have seen them"
        )
    return JobSearchResult(result.jobs[::-1], notes)


class LastSeen:
    """A small file of job ids in Jupyter's data folder. Raises OSError where that cannot be written."""

    def __init__(self, service: str, user: str) -> None:
        name = hashlib.sha256(f"{service}\n{user}".encode()).hexdigest()[:32]
        self._path = Path(jupyter_data_dir()) / "cts" / f"seen-{name}.json"

    def mark_seen(self, ended: Sequence[JobPreview]) -> list[JobPreview]:
        """Those that were not taken before; from now on they are.

        Ids are kept, not a time: workers' clocks differ, so that a job may end "before" one that was seen.
        """
        seen = self._read()
        seen_ids = frozenset(seen)
        new = [job for job in ended if job.id not in seen_ids]
        if new:
            self._write([*(job.id for job in new), *seen][:_REMEMBERED])
        return new

    def _read(self) -> list[str]:
        try:
            return list(json.loads(self._path.read_bytes()))
        except (OSError, ValueError, TypeError):
            # Never looked, or a file that somebody broke: then all is new.
            return []

    def _write(self, ids: Sequence[str]) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(list(ids), file)
        draft.replace(self._path)
