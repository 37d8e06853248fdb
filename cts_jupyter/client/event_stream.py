"""The stream of events of one's own jobs, as an iterator that reconnects and resumes by itself."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Self

import httpx
from pydantic import ValidationError

from cts_jupyter.client.models import Event
from cts_jupyter.client.transport import (
    CTSConnectionError,
    CTSRequestError,
    Transport,
    wait_seconds,
)

QUIET_SECONDS = 45.0
"""A stream that is quiet for longer is dead: the service lets hear of itself every 15 seconds."""
_REMEMBERED = 4096
_END = "end"
_KINDS = frozenset({"transition", "progress"})


class EventStream:
    """Iterate to wait for events; ``close`` from any thread ends the iteration, and so does the service's own end.

    Connects at the first step. Raises CTSRequestError when the service refuses, CTSConnectionError when it
    cannot be reached to begin with; once connected, it goes on trying until closed.
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
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._events = self._read_on()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def close(self) -> None:
        """End the iteration, also for a thread that waits in it."""
        with self._lock:
            self._closed.set()
            if self._response is not None:
                _hang_up(self._response)

    def _read_on(self) -> Iterator[Event]:
        failures = 0
        connected = False
        while not self._closed.is_set():
            try:
                for event in self._connect():
                    connected = True
                    failures = 0
                    if event is not None and self._is_new(event):
                        yield event
            except CTSConnectionError:
                if not connected and not self._closed.is_set():
                    raise
            except CTSRequestError as e:
                if e.status < HTTPStatus.INTERNAL_SERVER_ERROR or not connected:
                    raise
            failures += 1
            self._closed.wait(wait_seconds(failures))

    def _connect(self) -> Iterator[Event | None]:
        """Events, and None for any other sign of life."""
        headers = {"Accept": "text/event-stream"}
        if self._cursor:
            headers["Last-Event-ID"] = self._cursor
        with self._transport.stream(
            "GET", self._path, params=self._query, headers=headers, read_seconds=QUIET_SECONDS
        ) as response:
            with self._lock:
                if self._closed.is_set():
                    return
                self._response = response
            try:
                yield None
                yield from self._frames(response)
            finally:
                with self._lock:
                    self._response = None

    def _frames(self, response: httpx.Response) -> Iterator[Event | None]:
        kind, data = "message", ""
        try:
            for line in response.iter_lines():
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if name == "event":
                    kind = value
                elif name == "data":
                    data += value
                elif name == "id":
                    self._cursor = value
                elif not line:
                    if kind == _END:
                        self._closed.set()
                        return
                    yield _event(kind, data)
                    kind, data = "message", ""
        except httpx.TransportError as e:
            raise self._transport.broken(e) from e

    def _is_new(self, event: Event) -> bool:
        if event.trans_id is None:
            return True
        if event.trans_id in self._seen:
            return False
        self._seen[event.trans_id] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return True


def _event(kind: str, data: str) -> Event | None:
    if kind not in _KINDS:
        return None
    try:
        return Event.model_validate({**json.loads(data), "type": kind})
    except (ValidationError, json.JSONDecodeError, TypeError):
        # Something that a newer service says in a way that we do not know.
        return None


def _hang_up(response: httpx.Response) -> None:
    # Closing a socket does not wake the thread that waits for it; shutting it down does.
    connection = response.extensions.get("network_stream")
    sock = connection.get_extra_info("socket") if connection is not None else None
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
