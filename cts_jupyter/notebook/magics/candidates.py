"""What may stand on a line of ``%cts``: jobs, images, paths and so on, asked for on threads and kept for a short time."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from cachetools import LRUCache

from cts_core.worker.units import format_size
from cts_jupyter import formatting
from cts_jupyter.client.models import JobPreview
from cts_jupyter.client.search import JobQuery, find_jobs
from cts_jupyter.client.transport import CTSClientError
from cts_jupyter.discovery import NoConnectionError
from cts_jupyter.notebook.columns import image_reference
from cts_jupyter.notebook.placeholders import quote_word
from cts_jupyter.notebook.session import Session, current_session
from cts_jupyter.notebook.typed_paths import split_scheme

log = logging.getLogger(__name__)

MAX_CANDIDATES = 200
"""The number of candidates that are offered."""
_MAX_KEPT = 64
"""The number of answers that are kept."""
_MAX_RUNNING = 4
"""The number of requests at a time; while a service is silent, nothing more is asked of it."""
_MAX_ENTRIES = 1_000
"""Entries of a local folder that are looked at."""
FRESH_SECONDS = 5.0
"""The age from which an answer is asked for again; until the new one comes, the old one is offered."""
MAX_AGE_SECONDS = 600.0
"""The age from which an answer is not offered any more."""


@dataclass(frozen=True)
class Candidate:
    """A word that may stand on a line, and what is shown beside it."""

    text: str
    about: str


Source = Callable[[Session, str], Sequence[Candidate]]
"""Returns candidates of a service that may begin with a text; it may send requests."""


@dataclass(frozen=True)
class _Kept:
    candidates: Sequence[Candidate]
    since: float


class CandidateCache:
    """Answers of sources, each by the text that it is for. Nothing in it waits for a service for longer than it is told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._kept: LRUCache[tuple[Source, str], _Kept] = LRUCache(_MAX_KEPT)
        self._running: dict[tuple[Source, str], threading.Event] = {}

    def find(self, source: Source, text: str, deadline: float) -> Sequence[Candidate]:
        """Return what is known by the deadline, a time of ``time.monotonic``; what comes later is there the next time."""
        key = (source, text)
        with self._lock:
            kept = self._kept.get(key)
            is_fresh = kept is not None and time.monotonic() - kept.since < FRESH_SECONDS
            ended = None if is_fresh else self._ask(key)
        if ended is not None and ended.wait(max(deadline - time.monotonic(), 0)):
            with self._lock:
                kept = self._kept.get(key)
        if kept is None or time.monotonic() - kept.since > MAX_AGE_SECONDS:
            return ()
        return kept.candidates

    def _ask(self, key: tuple[Source, str]) -> threading.Event | None:
        if key not in self._running:
            if len(self._running) >= _MAX_RUNNING:
                return None
            self._running[key] = threading.Event()
            # A daemon: a request that a silent service does not answer does not hold up the end of the kernel.
            threading.Thread(target=self._run, args=key, name="cts-complete", daemon=True).start()
        return self._running[key]

    def _run(self, source: Source, text: str) -> None:
        session, found = None, None
        try:
            session = current_session()
            found = source(session, text)
        except (CTSClientError, NoConnectionError, OSError) as e:
            log.debug("Nothing to complete with now: %s", e)
        except Exception:  # a fault here must not print a traceback into a notebook
            log.warning("Words of %%cts cannot be completed", exc_info=True)
        key = (source, text)
        with self._lock:
            if session is not self._session:
                # Those of another service mean nothing here.
                self._kept.clear()
                self._session = session
            if found is not None:
                self._kept[key] = _Kept(tuple(found)[:MAX_CANDIDATES], time.monotonic())
            self._running.pop(key).set()


def jobs(session: Session, _: str) -> list[Candidate]:
    """Return the user's latest jobs."""
    query = JobQuery(by_creation=True)
    return [_job(job) for job in find_jobs(session.client, query, limit=MAX_CANDIDATES).jobs]


def _job(job: JobPreview) -> Candidate:
    image = job.job_input.image.rpartition("/")[2]
    age = formatting.format_duration(datetime.now(UTC) - job.transition_times[0].time)
    state = formatting.format_job_state(job.state, job.containers)
    return Candidate(formatting.short_id(job.id), f"{image} · {state} · {age} ago")


def images(session: Session, _: str) -> list[Candidate]:
    """Return the registered images."""
    return [
        Candidate(image_reference(image), " ".join(image.entrypoint))
        for image in session.client.images()
    ]


def sites(session: Session, _: str) -> list[Candidate]:
    """Return the sites."""
    return [
        Candidate(site.cluster, "open" if site.active and site.available else "takes no jobs now")
        for site in session.client.sites()
    ]


def labels(session: Session, _: str) -> list[Candidate]:
    """Return the keys of the user's labels."""
    if not session.client.supports("GET", "/jobs/labels"):
        return []
    return [Candidate(f"{key}=", "a label of your jobs") for key in session.client.label_keys()]


def refdata(session: Session, _: str) -> list[Candidate]:
    """Return the ids of reference data."""
    return [Candidate(entry.id, entry.file) for entry in session.client.refdata()]


def paths(session: Session, text: str) -> list[Candidate]:
    """Return the objects and folders that begin so, as the text does with or without ``s3://``."""
    client = session.client
    if not client.supports("GET", "/files/roots"):
        return []
    scheme, path = split_scheme(text)
    if "/" not in path:
        roots = [root.path.rstrip("/") for root in client.roots()]
        return [Candidate(quote_word(f"{scheme}{root}/"), "folder") for root in roots]
    page = client.files(path, limit=MAX_CANDIDATES, folders=True)
    return [
        *(Candidate(quote_word(f"{scheme}{folder}"), "folder") for folder in page.folders),
        *(
            Candidate(quote_word(f"{scheme}{file.path}"), format_size(file.size))
            for file in page.objects
        ),
    ]


def local_paths(_session: Session, text: str) -> list[Candidate]:
    """Return the files and folders of this machine that begin so."""
    folder, _, start = text.rpartition("/")
    base = f"{folder}/" if "/" in text else ""
    found = []
    with os.scandir(Path(base or ".").expanduser()) as entries:
        for entry in islice(entries, _MAX_ENTRIES):
            if entry.name.startswith(start) and (start or not entry.name.startswith(".")):
                is_folder = entry.is_dir()
                name = quote_word(f"{base}{entry.name}{'/' if is_folder else ''}")
                found.append(Candidate(name, "local folder" if is_folder else "local file"))
    return sorted(found, key=lambda candidate: candidate.text)
