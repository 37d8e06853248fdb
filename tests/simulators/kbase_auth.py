"""A simulator of KBase's auth service: the three requests of the contract (docs/reference/contract.md §2), strictly, over real sockets."""

from __future__ import annotations

import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.services.server import free_port
from tests.simulators.server import PreparedResponse

_USER_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")
_DAY_MS = 86_400_000


@dataclass
class _Token:
    user: str
    created: int
    expires: int


class _RefusalError(Exception):
    def __init__(self, status: int, appcode: int | None, apperror: str, message: str = "") -> None:
        super().__init__(apperror)
        error: dict[str, Any] = {
            "httpcode": status,
            "httpstatus": responses[status],
            "time": _now(),
            "callid": secrets.token_hex(8),
            "message": f"{appcode} {apperror}{message and ': '}{message}" if appcode else apperror,
        }
        if appcode:
            error |= {"appcode": appcode, "apperror": apperror}
        self.response = PreparedResponse(status, json.dumps({"error": error}).encode())


class KBaseAuth:
    """The service, with its users, tokens and custom roles, the requests so far, and faults that a test sets.

    It runs in its own threads. Changed attributes take effect at the next request.
    """

    def __init__(self) -> None:
        self.cachefor = 300_000
        """How long clients may cache responses, in milliseconds."""
        self.delay = 0.0
        """Seconds before each response."""
        self.override: PreparedResponse | None = None
        """Sent instead of every regular response."""
        self.requests: list[str] = []
        """The requested paths, in order."""
        self._roles: dict[str, list[str]] = {}
        self._disabled: set[str] = set()
        self._tokens: dict[str, _Token] = {}
        self._wake = threading.Event()
        self._server: _Server | None = None
        # Not an ephemeral port, which the system could give to another process while this server is stopped.
        self._port = free_port()
        self.start()

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._port}/services/auth"

    # -- called by tests -----------------------------------------------------------------------

    def add(self, user: str, *roles: str, lifetime_ms: int = _DAY_MS) -> str:
        """Add a user, or replace their roles; return a new token of the user."""
        self._roles[user] = list(roles)
        token = secrets.token_hex(16).upper()
        self._tokens[token] = _Token(user, _now(), _now() + lifetime_ms)
        return token

    def set_roles(self, user: str, *roles: str) -> None:
        self._roles[user] = list(roles)

    def revoke(self, token: str) -> None:
        del self._tokens[token]

    def disable(self, user: str) -> None:
        """Disable the user's account; their tokens stay valid."""
        self._disabled.add(user)

    def start(self) -> None:
        """Listen, always on the same port."""
        self._wake.clear()
        self._server = _Server(self, self._port)
        threading.Thread(
            target=self._server.serve_forever, args=(0.01,), name="kbase-auth", daemon=True
        ).start()

    def stop(self) -> None:
        """Close every connection and refuse new ones."""
        if self._server is not None:
            self._wake.set()
            self._server.close()
            self._server = None

    # -- responses -----------------------------------------------------------------------------

    def respond(self, target: str, authorization: str | None) -> PreparedResponse:
        """Return the response to a GET, after the delay."""
        url = urlsplit(target)
        self.requests.append(url.path.removeprefix("/services/auth"))
        self._wake.wait(self.delay)
        if self.override is not None:
            return self.override
        try:
            content = self._view(url.path, url.query, authorization)
        except _RefusalError as refusal:
            return refusal.response
        return PreparedResponse(body=json.dumps(content).encode())

    def _view(self, path: str, query: str, authorization: str | None) -> dict[str, Any]:
        match path:
            case "/services/auth/api/V2/token":
                return self._view_token(authorization)
            case "/services/auth/api/V2/me":
                return self._view_me(authorization)
            case "/services/auth/api/V2/users/":
                return self._view_users(authorization, query)
        raise _RefusalError(404, None, "HTTP 404 Not Found")

    def _find(self, authorization: str | None) -> _Token:
        if not authorization or not authorization.strip():
            raise _RefusalError(400, 10010, "No authentication token", "No user token provided")
        # The token is the whole header: a value with "Bearer " is another token.
        token = self._tokens.get(authorization.strip())
        if token is None or token.expires <= _now():
            raise _RefusalError(401, 10020, "Invalid token")
        return token

    def _view_token(self, authorization: str | None) -> dict[str, Any]:
        token = self._find(authorization)
        return {
            "type": "Login",
            "id": "5c1a5d3e-3c07-4b2f-9e24-2d6b9a1b8f10",
            "expires": token.expires,
            "created": token.created,
            "user": token.user,
            "name": None,
            "cachefor": self.cachefor,
        }

    def _view_me(self, authorization: str | None) -> dict[str, Any]:
        user = self._find(authorization).user
        if user in self._disabled:
            raise _RefusalError(403, 20010, "Account disabled", "This account is disabled")
        return {
            "user": user,
            "display": user.title(),
            "email": f"{user}@example.org",
            "created": 1_500_000_000_000,
            "lastlogin": None,
            "local": False,
            "customroles": self._roles[user],
            "roles": [],
            "idents": [],
            "policyids": [],
        }

    def _view_users(self, authorization: str | None, query: str) -> dict[str, str]:
        names = [name.strip() for name in ",".join(parse_qs(query).get("list", [])).split(",")]
        if names == [""]:
            return {}
        for name in names:
            if not _USER_NAME.fullmatch(name):
                raise _RefusalError(400, 30010, "Illegal user name", f"Illegal user name [{name}]")
        self._find(authorization)
        return {name: name.title() for name in names if name in self._roles}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, auth: KBaseAuth, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.auth = auth
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors of connections that the client or ``stop`` has closed."""

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self._connections):
            self.shutdown_request(connection)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        response = self.server.auth.respond(self.path, self.headers.get("Authorization"))
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body) + response.cut))
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(response.body)
        self.close_connection = response.cut

    def log_message(self, *args: Any) -> None:
        """Log nothing."""


def _now() -> int:
    return int(time.time() * 1000)


@pytest.fixture
def kbase_auth() -> Iterator[KBaseAuth]:
    """Start an auth service for this test."""
    auth = KBaseAuth()
    yield auth
    auth.stop()
