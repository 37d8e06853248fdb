"""A stream of events of the user's own jobs: an iterator that reconnects and resumes."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Self

import httpx
from cachetools import FIFOCache
from httpx_sse import EventSource, ServerSentEvent
from pydantic import ValidationError

from cts_jupyter.client.models import Event
from cts_jupyter.client.transport import (
    RETRY_BACKOFF,
    CTSClientError,
    Transport,
    is_away,
)

log = logging.getLogger(__name__)

SILENCE_SECONDS = 40.0
"""A stream that is silent for longer is dead: the service sends a ping every 15 seconds."""
_MAX_SEEN = 4096
_END = "end"
_KINDS = frozenset({"transition", "progress"})


class EventStream:
    """Iterates over events as they come, until it is closed (from any thread) or the service ends it.

    It connects at the first step. Raises CTSRequestError when the service refuses, CTSConnectionError when it
    cannot be reached at first; once connected, it reconnects until it is closed, and resumes at the last event. It logs
    a warning when it reconnects because the stream fell silent.
    """

    def __init__(
        self,
        transport: Transport,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        after: datetime | None = None,
    ) -> None:
        self._transport = transport
        self._path = path
        self._query = query
        self._cursor = after.isoformat() if after is not None else None
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._response: httpx.Response | None = None
        self._seen: FIFOCache[str, None] = FIFOCache(_MAX_SEEN)
        self._events = self._iter_events()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def close(self) -> None:
        """End the iteration, also for a thread that waits in it."""
        with self._lock:
            self._closed.set()
            if self._response is not None:
                _shut_down(self._response)

    def _iter_events(self) -> Iterator[Event]:
        """Yield each event once, over as many connections as it takes."""
        failures = 0
        connected = False
        while not self._closed.is_set():
            try:
                for event in self._connect():
                    connected = True
                    failures = 0
                    if event is not None and self._is_new(event):
                        yield event
            except CTSClientError as e:
                if self._closed.is_set():
                    return
                if not (connected and is_away(e)):
                    raise
            failures += 1
            self._closed.wait(RETRY_BACKOFF.delay(failures))

    def _connect(self) -> Iterator[Event | None]:
        """Yield the events of one connection, and None for any other sign of life."""
        headers = {"Accept": "text/event-stream"}
        if self._cursor:
            headers["Last-Event-ID"] = self._cursor
        with self._transport.stream(
            "GET",
            self._path,
            params=self._query,
            headers=headers,
            read_seconds=SILENCE_SECONDS,
        ) as response:
            with self._lock:
                if self._closed.is_set():
                    return
                self._response = response
            try:
                yield None
                yield from self._read(response)
            finally:
                with self._lock:
                    self._response = None

    def _read(self, response: httpx.Response) -> Iterator[Event | None]:
        try:
            for sent in EventSource(response).iter_sse():
                # Only with the whole event: one that breaks off is sent again.
                self._cursor = sent.id or self._cursor
                if sent.event == _END:
                    self._closed.set()
                    return
                yield _parse_event(sent)
        except httpx.TransportError as e:
            error = self._transport.broken(e)
            if isinstance(e, httpx.ReadTimeout):
                log.warning("%s. The stream of events is opened anew", error)
            raise error from e

    def _is_new(self, event: Event) -> bool:
        if event.trans_id is None:
            return True
        if event.trans_id in self._seen:
            return False
        self._seen[event.trans_id] = None
        return True


def _parse_event(sent: ServerSentEvent) -> Event | None:
    if sent.event not in _KINDS:
        return None
    try:
        return Event.model_validate({**json.loads(sent.data), "type": sent.event})
    except (ValidationError, json.JSONDecodeError, TypeError):
        # A newer service may have another format.
        return None


def _shut_down(response: httpx.Response) -> None:
    # Closing a socket does not wake the thread that waits for it; shutting it down does.
    connection = response.extensions.get("network_stream")
    sock = connection.get_extra_info("socket") if connection is not None else None
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
