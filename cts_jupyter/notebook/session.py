"""The connection of this kernel to a service: the client and its event feed."""

from __future__ import annotations

import threading
import weakref
from functools import cached_property
from urllib.parse import urlsplit

from cts_jupyter import formatting
from cts_jupyter.client import CTSClient
from cts_jupyter.client.event_feed import EventFeed
from cts_jupyter.client.search import MAX_RESULTS, JobQuery, can_search, find_jobs
from cts_jupyter.discovery import Connection, NoConnectionError, find_connection
from cts_jupyter.notebook.last_submission import last_submission

LATEST = "-"
"""The reference to the job that this notebook submitted last; without one, to the user's latest job."""
_HERE = "this Jupyter server"


class JobReferenceError(LookupError):
    """No job, or several, have an id that begins so; the message says which."""


class Session:
    """A service as one user uses it: ``client`` sends requests, ``feed`` follows events. Requests raise CTSClientError."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.client = CTSClient.of(connection)
        """The client of the service, as this kernel's user."""
        self.feed = EventFeed(self.client)
        # A kernel may change to another service; this client is closed when no job refers to it any more.
        weakref.finalize(self, self.client.close)

    @cached_property
    def user(self) -> str:
        """The user that the service identifies by the token."""
        return self.client.whoami().user

    @cached_property
    def instance(self) -> str | None:
        """The id of the service's records, whatever its address; None from a service that does not tell it."""
        return self.client.root().instance

    @property
    def where(self) -> str:
        """The service's host, or ``this Jupyter server``."""
        return _HERE if self.url is None else urlsplit(self.url).netloc

    @property
    def name(self) -> str:
        """The part of the service's address that stays the same; a Jupyter server's port does not."""
        return self.url or _HERE

    @property
    def url(self) -> str | None:
        """The URL of a service elsewhere, reached directly or through this Jupyter server; None for this server's own."""
        if self.connection.service is not None:
            return self.connection.service
        return None if self.connection.is_page_server else self.connection.url

    def is_of(self, connection: Connection) -> bool:
        """Return whether a connection leads to the same service in the same way."""
        own = self.connection
        return (own.url, own.socket, own.service) == (
            connection.url,
            connection.socket,
            connection.service,
        )

    def close(self) -> None:
        """Close the feed and the connections."""
        self.feed.close()
        self.client.close()

    def find_job_id(self, reference: str) -> str:
        """Return the full id of the user's one job whose id begins with ``reference``, or that ``-`` stands for.

        Raises JobReferenceError.
        """
        if reference == LATEST:
            return self._latest()
        jobs = find_jobs(self.client, JobQuery(text=reference or None)).jobs
        matching = [job.id for job in jobs if job.id.startswith(reference)]
        if len(matching) == 1:
            return matching[0]
        if matching:
            named = ", ".join(formatting.short_id(job_id) for job_id in matching[:5])
            raise JobReferenceError(
                f"{formatting.plural(len(matching), 'job')} begin with {reference!r}: {named}; write more of the id"
            )
        raise JobReferenceError(
            f"None of your jobs at {self.where} begins with {reference!r}; %cts ls lists them, and a folder or bucket ends "
            "in '/'"
        )

    def _latest(self) -> str:
        last = last_submission()
        if last is not None and last.job_id is None:
            before = last.accepted_before
            which = f", {formatting.short_id(before)} for the job before it" if before else ""
            raise JobReferenceError(
                f"The last submission of this notebook was not accepted, so that - is no job: write an id{which}; %cts ls "
                "lists your jobs"
            )
        if last is not None and last.job_id is not None and last.service == self.name:
            return last.job_id
        limit = 1 if can_search(self.client) else MAX_RESULTS
        jobs = find_jobs(self.client, JobQuery(by_creation=True), limit=limit).jobs
        if not jobs:
            raise JobReferenceError(f"You have no job at {self.where} yet; %cts submit starts one")
        return max(jobs, key=lambda job: job.transition_times[0].time).id


_lock = threading.Lock()
_current: Session | None = None


def current_session() -> Session:
    """Return the session with the service of this kernel; a new one after the service has changed.

    Raises NoConnectionError, whose message says what to set.
    """
    global _current  # noqa: PLW0603 - one kernel, one service at a time
    with _lock:
        try:
            connection = find_connection()
        except NoConnectionError:
            _current = None
            raise
        if _current is None or not _current.is_of(connection):
            _current = Session(connection)
        return _current
