"""One stream of events that all followed jobs of a kernel share."""

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
from cts_jupyter.client.transport import CTSClientError, CTSRequestError, is_away

log = logging.getLogger(__name__)

_FIRST_POLL_SECONDS = 2.0
_LAST_POLL_SECONDS = 30.0
_POLL_FACTOR = 1.5


@dataclass(frozen=True)
class Change:
    """A change of a job: its new state, or how many of its containers are in which state."""

    state: str | None = None
    containers: Mapping[str, int] | None = None


class Listener(Protocol):
    """A subscriber to a job's changes. It is called on the feed's thread, and must return quickly."""

    def on_change(self, change: Change) -> None:
        """Handle a change of the job."""

    def on_lost(self, error: CTSClientError) -> None:
        """Handle the end of the feed: the service refuses it."""


class EventFeed:
    """Notifies listeners of changes, on one thread that runs while there are any.

    Deployed services that have no stream of events are polled.
    """

    def __init__(self, client: CTSClient) -> None:
        self._client = client
        self._starting = threading.Lock()
        self._lock = threading.Lock()
        self._listeners: dict[str, set[Listener]] = {}
        self._run: _Run | None = None

    def subscribe(self, job_id: str, listener: Listener) -> None:
        """Notify the listener of every change from before this call returned. Raises CTSClientError."""
        # A listener that comes while a stream is starting waits for it, and starts another if that fails.
        with self._starting:
            with self._lock:
                self._listeners.setdefault(job_id, set()).add(listener)
                if self._run is not None:
                    return
                self._run = run = _Run(self, self._client)
            try:
                run.start()
            except BaseException:
                # An interrupt, too: a run that never started would keep the next from starting.
                self.close()
                raise

    def unsubscribe(self, job_id: str, listener: Listener) -> None:
        """Remove a listener; without any, the stream is closed."""
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
        """Remove all listeners and close the stream."""
        with self._lock:
            self._listeners.clear()
            run, self._run = self._run, None
        if run is not None:
            run.stop()

    def watched(self) -> list[str]:
        """Return the jobs that have listeners."""
        with self._lock:
            return list(self._listeners)

    def notify(self, job_id: str, change: Change) -> None:
        """Call the job's listeners with a change."""
        with self._lock:
            listeners = list(self._listeners.get(job_id, ()))
        for listener in listeners:
            listener.on_change(change)

    def fail(self, run: _Run, error: CTSClientError) -> None:
        """End a run that the service refuses, and tell all listeners; the next to subscribe starts a new one."""
        with self._lock:
            if self._run is not run:
                return
            self._run = None
            listeners = [listener for group in self._listeners.values() for listener in group]
            self._listeners.clear()
        for listener in listeners:
            listener.on_lost(error)


class _Run:
    """One thread and one stream, from the first listener until the last is gone."""

    def __init__(self, feed: EventFeed, client: CTSClient) -> None:
        self._feed = feed
        self._client = client
        self._stopped = threading.Event()
        self._events: EventStream | None = None

    def start(self) -> None:
        # Events since this instant of the service's clock are replayed, so that none is lost between the
        # listener's reading of the job and the start of the stream.
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
                    self._feed.notify(event.job_id, Change(state=event.state))
                if event.containers is not None:
                    self._feed.notify(event.job_id, Change(containers=event.containers))
        except CTSRequestError as e:
            if e.status == HTTPStatus.NOT_FOUND:
                self._poll()
            elif not self._stopped.is_set():
                self._feed.fail(self, e)
        except CTSClientError as e:
            if not self._stopped.is_set():
                self._feed.fail(self, e)

    def _poll(self) -> None:
        """Poll the jobs of a service that has no stream of events."""
        wait = _FIRST_POLL_SECONDS
        states: dict[str, str] = {}
        while not self._stopped.wait(wait):
            started = time.monotonic()
            for job_id in self._feed.watched():
                try:
                    state = self._client.status(job_id).state
                except CTSClientError as e:
                    if not is_away(e):
                        self._feed.fail(self, e)
                        return
                    log.info("Job %s cannot be read now: %s", job_id, e)
                    continue
                if states.get(job_id) != state:
                    states[job_id] = state
                    wait = _FIRST_POLL_SECONDS
                    self._feed.notify(job_id, Change(state=state))
            # Requests take at most a tenth of the time.
            wait = max(
                min(wait * _POLL_FACTOR, _LAST_POLL_SECONDS), 9 * (time.monotonic() - started)
            )
