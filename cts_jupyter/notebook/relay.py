"""Relays what a widget's page asks of the service, where the page does not reach it itself.

What may be asked is a closed list of our own client's calls; a notebook's page can ask nothing that its kernel may not do anyway.
Requests run on threads of their own, so that neither the kernel nor the page waits for the service. They are daemons: a
request that a silent service does not answer, or a stream without an end, does not hold up the end of the kernel.
"""

from __future__ import annotations

import functools
import logging
import re
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from cts_jupyter.client.client import CTSClient
from cts_jupyter.client.daemon_threads import DaemonThreads
from cts_jupyter.client.transport import CTSClientError, CTSRequestError

log = logging.getLogger(__name__)

MAX_THREADS = 4
"""Requests at once of one widget, besides its streams."""
MAX_STREAMS = 4
"""Streams of events of one widget; one more ends the oldest, whose page may have gone without a word."""
MAX_WAITING = 64
"""Requests of one widget that run or wait."""
PIECE_BYTES = 64_000
"""Bytes of a log or of a stream in one message."""

Send = Callable[[Mapping[str, Any], list[bytes] | None], None]

_ID = r"[\w-]{1,100}"
_CALLS: Mapping[str, re.Pattern[str]] = {
    "GET": re.compile(
        rf"openapi\.json|whoami|images|images/[^?#]{{1,500}}|sites|sites/{_ID}/load|refdata|events"
        rf"|files|files/content|files/roots|files/summary|checksums|checksums/{_ID}|jobs|jobs/counts|jobs/labels"
        rf"|jobs/{_ID}(/(status|containers|outputs|why|methods|exit_codes|log/\d+/(stdout|stderr)))?"
    ),
    "PUT": re.compile(rf"jobs/last_look|jobs/{_ID}/(cancel|labels)"),
    "POST": re.compile(rf"jobs|jobs/check|jobs/{_ID}/resubmit|checksums"),
    "DELETE": re.compile(rf"checksums/{_ID}"),
}
"""The paths that may be asked, by method."""

_STREAM = "events"
"""The one answer that has no end."""

_HEADERS = re.compile(r"(x-cts-|content-type$|etag$)", re.IGNORECASE)
"""What a page is told of an answer besides its body."""


def may_ask(method: object, path: object) -> bool:
    """Return whether a request is one of our own client's calls."""
    pattern = _CALLS.get(method) if isinstance(method, str) else None
    return (
        pattern is not None
        and isinstance(path, str)
        and pattern.fullmatch(path) is not None
        and _is_plain(path)
    )


def _is_plain(path: str) -> bool:
    """Return whether no server on the way reads a path as another one."""
    decoded = unquote(path)
    segments = decoded.split("/")
    return (
        len(segments) == len(path.split("/"))
        and not {".", ".."} & set(segments)
        and not {"\\", "%"} & set(decoded)
    )


class Relay:
    """Answers the messages of one widget's pages."""

    def __init__(self, client: Callable[[], CTSClient], send: Send) -> None:
        """``client`` may raise any error, whose text is what the page is told."""
        self._client = client
        self._send = send
        self._lock = threading.Lock()
        self._threads = DaemonThreads(MAX_THREADS, "cts-relay")
        self._stops: dict[str, threading.Event] = {}
        """By the id of a request that runs or waits, what ends it."""
        self._streams: dict[str, threading.Event] = {}
        """Those of the streams, oldest first."""

    def ask(self, message: Mapping[str, Any]) -> None:
        """Begin a request; that it has come is said at once, its answer is sent later."""
        asked = message.get("id")
        if not isinstance(asked, str):
            return
        method, path = message.get("method"), message.get("path")
        if not may_ask(method, path):
            refusal = "The kernel asks the service for nothing but what CTS's own views need"
            self._refuse(asked, HTTPStatus.FORBIDDEN, refusal)
            return
        with self._lock:
            is_known = asked in self._stops
            is_full = len(self._stops) >= MAX_WAITING
            if not is_known and not is_full:
                self._stops[asked] = threading.Event()
        if is_known:
            self._refuse(asked, HTTPStatus.CONFLICT, "A request of this id runs already")
        elif is_full:
            refusal = f"{MAX_WAITING} requests wait for the kernel already: try again"
            self._refuse(asked, HTTPStatus.TOO_MANY_REQUESTS, refusal)
        else:
            self._send({"cts": "taken", "id": asked}, None)
            if path == _STREAM:
                self._begin_stream(asked, message)
            else:
                self._threads.start(functools.partial(self._run, message))

    def stop(self, message: Mapping[str, Any]) -> None:
        """End a request that nobody waits for any more."""
        asked = str(message.get("id"))
        with self._lock:
            self._streams.pop(asked, None)
            if asked in self._stops:
                self._stops[asked].set()

    def close(self) -> None:
        """End all requests."""
        with self._lock:
            for stop in self._stops.values():
                stop.set()

    def _begin_stream(self, asked: str, message: Mapping[str, Any]) -> None:
        with self._lock:
            self._streams[asked] = self._stops[asked]
            oldest = next(iter(self._streams)) if len(self._streams) > MAX_STREAMS else None
            if oldest is not None:
                self._streams.pop(oldest).set()
        if oldest is not None:
            # Its page, if there is one, opens another when it sees the end of this.
            self._send({"cts": "end", "id": oldest}, None)
        threading.Thread(target=self._run, args=[message], name="cts-events", daemon=True).start()

    def _run(self, message: Mapping[str, Any]) -> None:
        asked = message["id"]
        stop = self._stops[asked]
        try:
            if not stop.is_set():
                self._answer(asked, message, stop)
        except CTSRequestError as e:
            detail = {"request_validation_detail": e.details} if e.details else {}
            self._refuse(asked, e.status, str(e), appcode=e.appcode, detail=detail)
        except CTSClientError as e:
            self._refuse(asked, 0, str(e))
        except Exception as e:
            # The page has to be told of anything, or it would wait for ever.
            log.exception("A request of the panel failed")
            self._refuse(asked, HTTPStatus.INTERNAL_SERVER_ERROR, str(e))
        finally:
            with self._lock:
                self._stops.pop(asked, None)
                self._streams.pop(asked, None)

    def _answer(self, asked: str, message: Mapping[str, Any], stop: threading.Event) -> None:
        client = self._client()
        method, path = message["method"], message["path"]
        query = {k: v for k, v in (message.get("query") or {}).items() if v is not None}
        if not message.get("in_pieces"):
            body = client.request(
                method, path, query=query, body=message.get("body"), key=message.get("key")
            )
            self._send({"cts": "answer", "id": asked, "body": body}, None)
            return
        with client.pieces(path, query=query) as (headers, pieces):
            told = {name.lower(): headers[name] for name in headers if _HEADERS.match(name)}
            # Tells that the service has answered, before there is anything to tell of it.
            self._send({"cts": "piece", "id": asked, "headers": told}, [b""])
            for piece in pieces:
                for begin in range(0, len(piece), PIECE_BYTES):
                    if stop.is_set():
                        return
                    self._send({"cts": "piece", "id": asked}, [piece[begin : begin + PIECE_BYTES]])
                if stop.is_set():
                    return
        self._send({"cts": "end", "id": asked}, None)

    def _refuse(self, asked: str, status: int, message: str, **more: object) -> None:
        error = {"status": int(status), "message": message, **more}
        self._send({"cts": "refused", "id": asked, "error": error}, None)
