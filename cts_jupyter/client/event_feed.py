"""One stream of events for all jobs that a kernel watches."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from cts_jupyter.client.client import CTSClient
from cts_jupyter.client.event_stream import EventStream
from cts_jupyter.client.transport import CTSClientError, CTSConnectionError, CTSRequestError

log = logging.getLogger(__name__)

_FIRST_POLL_SECONDS = 2.0
_LAST_POLL_SECONDS = 30.0
_POLL_FACTOR = 1.5


@dataclass(frozen=True)
class Change:
    """What became known of a job: its state, or how many of its containers are in which state."""

    state: str | None = None
    containers: Mapping[str, int] | None = None


class Listener(Protocol):
    """Who wants to know. Called on the feed's thread, which must not be held up for long."""

    def on_change(self, change: Change) -> None:
        """The job has changed."""

    def on_lost(self, error: CTSClientError) -> None:
        """The service refuses to tell any more."""


class EventFeed:
    """Runs one thread while anybody listens. Deployed services without a stream are asked now and then."""

    def __init__(self, client: CTSClient) -> None:
        self._client = client
        self._beginning = threading.Lock()
        self._lock = threading.Lock()
        self._listeners: dict[str, set[Listener]] = {}
        self._run: _Run | None = None

    def listen(self, job_id: str, listener: Listener) -> None:
        """Tell the listener of every change from before this call returned. Raises CTSClientError."""
        # Who comes while a stream begins waits for it, and begins another if it does not.
        with self._beginning:
            with self._lock:
                self._listeners.setdefault(job_id, set()).add(listener)
                if self._run is not None:
                    return
                self._run = run = _Run(self, self._client)
            try:
                run.start()
            except BaseException:
                # An interrupt, too: a run that never began would keep the next from beginning.
                self.close()
                raise

    def forget(self, job_id: str, listener: Listener) -> None:
        """Tell the listener nothing more; the last one to leave ends the stream."""
        with self._lock:
            listeners = self._listeners.get(job_id, set())
            listeners.discard(listener)
            if not listeners:
                self._listeners.pop(job_id, None)
            run = None if self._listeners else self._run
            if run is not None:
                self._run = None
        if run is not None:
            run.stop()

    def close(self) -> None:
        """Forget everybody."""
        with self._lock:
            self._listeners.clear()
            run, self._run = self._run, None
        if run is not None:
            run.stop()

    def watched(self) -> list[str]:
        """The jobs that anybody listens for."""
        with self._lock:
            return list(self._listeners)

    def tell(self, job_id: str, change: Change) -> None:
        """Hand a change to the job's listeners."""
        with self._lock:
            listeners = list(self._listeners.get(job_id, ()))
        for listener in listeners:
            listener.on_change(change)

    def fail(self, run: _Run, error: CTSClientError) -> None:
        """Tell everybody that this run is over; who listens again starts a new one."""
        with self._lock:
            if self._run is not run:
                return
            self._run = None
            listeners = [listener for group in self._listeners.values() for listener in group]
            self._listeners.clear()
        for listener in listeners:
            listener.on_lost(error)


class _Run:
    """From the first listener to the last: one thread, one stream."""

    def __init__(self, feed: EventFeed, client: CTSClient) -> None:
        self._feed = feed
        self._client = client
        self._stopped = threading.Event()
        self._events: EventStream | None = None

    def start(self) -> None:
        # Events from this instant of the service's clock on are replayed, so that none falls between the
        # listener's look at the job and the stream's beginning.
        events = self._client.events(after=self._client.root().server_time)
        self._events = events
        if self._stopped.is_set():
            return
        watch = threading.Thread(target=self._watch, args=(events,), name="cts-events", daemon=True)
        watch.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._events is not None:
            self._events.close()

    def _watch(self, events: EventStream) -> None:
        try:
            for event in events:
                if event.state is not None:
                    self._feed.tell(event.job_id, Change(state=event.state))
                if event.containers is not None:
                    self._feed.tell(event.job_id, Change(containers=event.containers))
        except CTSRequestError as e:
            if e.status == HTTPStatus.NOT_FOUND:
                self._poll()
            elif not self._stopped.is_set():
                self._feed.fail(self, e)
        except CTSClientError as e:
            if not self._stopped.is_set():
                self._feed.fail(self, e)

    def _poll(self) -> None:
        """For services that have no stream of events."""
        wait = _FIRST_POLL_SECONDS
        known: dict[str, str] = {}
        while not self._stopped.wait(wait):
            started = time.monotonic()
            for job_id in self._feed.watched():
                try:
                    state = self._client.status(job_id).state
                except CTSConnectionError as e:
                    log.info("Job %s cannot be looked at now: %s", job_id, e)
                    continue
                except CTSClientError as e:
                    self._feed.fail(self, e)
                    return
                if known.get(job_id) != state:
                    known[job_id] = state
                    wait = _FIRST_POLL_SECONDS
                    self._feed.tell(job_id, Change(state=state))
            # Never more than a tenth of the time is spent asking.
            wait = max(
                min(wait * _POLL_FACTOR, _LAST_POLL_SECONDS), 9 * (time.monotonic() - started)
            )
