"""NERSC's Superfacility API: commands, files, and how its systems are (docs/reference/contract-jaws.md §2).

Each method is one call with one deadline and no repeat of its own: a command that was sent twice would run twice. What is no proper answer,
such as a page of a proxy, is UnavailableError; a plain refusal is SFAPIError.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from cts_core.clock import in_utc
from cts_core.concurrency import run_in_pool
from cts_core.errors import UnavailableError
from cts_core.http_client import HttpClient, NoResponseError, read_json
from cts_core.sites.jaws.credentials import Credentials
from cts_core.sites.jaws.layout import Machine
from cts_core.sites.jaws.pace import Pace
from cts_core.sites.site import ClientInfo

_GONE = "No such file or directory"
_MAX_TEXT = 500
"""Characters of an answer that a message repeats."""
_NEVER = datetime.max.replace(tzinfo=UTC)
_PIECE = 1 << 20
"""Characters of base64 that are decoded in one call; a multiple of 4."""


class SFAPIError(Exception):
    """NERSC refuses a call, or says that it failed; the message says why."""


class NoSuchTaskError(SFAPIError):
    """NERSC says that it does not know a task (any more), or has no such call."""


class NoSuchFolderError(SFAPIError):
    """The folder that a file is to be uploaded into is not there."""


class CommandError(Exception):
    """A command at NERSC failed; the message is what it said."""


class TaskState(StrEnum):
    """The state of a command at NERSC."""

    NEW = "new"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    GONE = "gone"
    """NERSC does not know it: it forgets what ended some minutes ago."""


@dataclass(frozen=True)
class Task:
    """A command at NERSC."""

    state: TaskState
    is_ok: bool = False
    """Whether it has completed, with the exit code 0."""
    output: str = ""
    error: str = ""

    @property
    def is_over(self) -> bool:
        """Whether the command does not run any more."""
        return self.state is not TaskState.NEW


class PublicSFAPI:
    """Calls the part of the API that needs no token. Every method raises UnavailableError and SFAPIError."""

    def __init__(self, url: str, http: HttpClient, pace: Pace) -> None:
        self._url = url.rstrip("/")
        self._http = http
        self._pace = pace

    async def status(self, machine: Machine) -> object:
        """Return what NERSC says of the status of a system."""
        return await self._get(f"status/{machine.value}")

    async def outages(self, machine: Machine) -> object:
        """Return the outages of a system."""
        return await self._get(f"status/outages/{machine.value}")

    async def planned_outages(self, machine: Machine) -> object:
        """Return the planned outages of a system."""
        return await self._get(f"status/outages/planned/{machine.value}")

    async def _get(self, path: str) -> object:
        return await _json(*await self._call("GET", f"{self._url}/{path}", {}, None))

    async def _call(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes]:
        await self._pace.turn()
        try:
            return await self._http.send(method, url, headers=headers, content=body)
        except NoResponseError as e:
            raise UnavailableError(f"NERSC does not answer: {e}") from None


class SFAPI(PublicSFAPI):
    """Calls the API. Every method raises UnavailableError and SFAPIError."""

    def __init__(
        self, url: str, beta_url: str, http: HttpClient, credentials: Credentials, pace: Pace
    ) -> None:
        super().__init__(url, http, pace)
        self._beta_url = beta_url.rstrip("/")
        self.credentials = credentials

    @property
    def refusal(self) -> str | None:
        """Why NERSC does not take the client, as far as is known; None while it takes it."""
        return self.credentials.refusal

    async def account(self) -> str:
        """Return the name of the user that the client acts as."""
        content = _object(await self._ask("GET", "account/"))
        name = content.get("name")
        if not isinstance(name, str):
            raise SFAPIError("NERSC does not name the user of the client")
        return name

    async def client(self) -> ClientInfo:
        """Return the client in use, with its end."""
        content = await self._ask("GET", "account/clients")
        own = self.credentials.key.client_id
        for entry in content if isinstance(content, list) else ():
            if isinstance(entry, dict) and entry.get("clientId") == own:
                return ClientInfo(own, _time(entry.get("expiresAt")))
        raise SFAPIError(f"NERSC does not list the client {own} among those of its user")

    async def run(self, machine: Machine, command: str) -> str:
        """Have a system run a command in bash, and return the id of its task."""
        body = urlencode({"executable": command}).encode()
        content = _object(
            await self._ask(
                "POST",
                f"utilities/command/{machine.value}",
                body,
                "application/x-www-form-urlencoded",
            )
        )
        _check_ok(content)
        return str(content.get("task_id"))

    async def task(self, task_id: str) -> Task:
        """Return what has become of a command."""
        try:
            fields = _object(await self._ask("GET", f"tasks/{quote(task_id, safe='')}"))
        except NoSuchTaskError:
            return Task(TaskState.GONE)
        try:
            state = TaskState(str(fields.get("status")))
        except ValueError:
            raise SFAPIError(f"NERSC tells a task the status {fields.get('status')!r}") from None
        result = fields.get("result")
        if state is not TaskState.COMPLETED or not isinstance(result, str):
            return Task(state, error=result if isinstance(result, str) else "")
        try:
            told = _object(await read_json(result))
        except ValueError:
            raise SFAPIError("NERSC tells the result of a task that is no JSON") from None
        output, error = (_text(told.get(name)) for name in ("output", "error"))
        return Task(state, told.get("status") == "ok", output, error)

    async def upload(self, machine: Machine, path: str, content: bytes) -> None:
        """Write a file whose folder exists; a relative path is below the user's home."""
        # httpx writes the parts of a form; the client sends what is whole.
        form = httpx.Request("PUT", self._url, files={"file": ("file", content)})
        answer = await self._ask(
            "PUT", _file("upload", machine, path), form.read(), form.headers["Content-Type"]
        )
        told = _object(answer)
        if _GONE in _text(told.get("error")):
            raise NoSuchFolderError(f"NERSC has no folder for a file: {told['error'][:_MAX_TEXT]}")
        _check_ok(told)

    async def download(self, machine: Machine, path: str) -> bytes | None:
        """Return the content of a file; None if there is none."""
        content = _object(await self._ask("GET", _file("download", machine, path) + "?binary=true"))
        if _GONE in _text(content.get("error")):
            return None
        _check_ok(content)
        file = _text(content.get("file"))
        if not content.get("is_binary"):
            return file.encode()
        try:
            return await run_in_pool(_decode, file)
        except binascii.Error:
            raise SFAPIError("NERSC sends a file that is no base64") from None

    async def call_back(self, machine: Machine, path: str, url: str, *, seconds: int) -> None:
        """Have NERSC GET a URL once a path exists, if that is within so many seconds."""
        condition = {"path": path, "machine": machine.value}
        body = json.dumps({"path_condition": condition, "url": url, "timeout": seconds}).encode()
        await self._send("POST", f"{self._beta_url}/callback", body, "application/json")

    async def _ask(
        self, method: str, path: str, body: bytes | None = None, content_type: str | None = None
    ) -> object:
        """Return the answer to a call with a token."""
        return await self._send(method, f"{self._url}/{path}", body, content_type)

    async def _send(
        self, method: str, url: str, body: bytes | None, content_type: str | None
    ) -> object:
        token = await self.credentials.token()
        headers = {"Authorization": f"Bearer {token.get_secret_value()}"}
        if content_type is not None:
            headers["Content-Type"] = content_type
        status, content = await self._call(method, url, headers, body)
        if status == httpx.codes.UNAUTHORIZED:
            self.credentials.refuse(token)
            raise UnavailableError("NERSC refuses the token that it has given")
        self.credentials.accept(token)
        return await _json(status, content)


def _decode(text: str) -> bytes:
    # In pieces, as a thread gives way only between calls of C.
    pieces = (text[at : at + _PIECE] for at in range(0, len(text), _PIECE))
    return b"".join(base64.b64decode(piece, validate=True) for piece in pieces)


def _file(what: str, machine: Machine, path: str) -> str:
    # An absolute path keeps its slash, so that the URL has two.
    return f"utilities/{what}/{machine.value}/{quote(path)}"


async def _json(status: int, content: bytes) -> Any:  # noqa: ANN401 - as others wrote it
    if status == httpx.codes.TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise UnavailableError(f"NERSC answers with status {status}")
    try:
        answer = await read_json(content) if content else None
    except ValueError:
        raise UnavailableError(
            f"NERSC answers with something else than JSON, and status {status}"
        ) from None
    if status >= httpx.codes.BAD_REQUEST:
        detail = answer.get("detail") if isinstance(answer, dict) else None
        error = NoSuchTaskError if status == httpx.codes.NOT_FOUND else SFAPIError
        raise error(f"NERSC refuses a call with status {status}: {str(detail)[:_MAX_TEXT]}")
    return answer


def _object(content: object) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise SFAPIError("NERSC answers with something else than an object")
    return content


def _check_ok(content: Mapping[str, Any]) -> None:
    if str(content.get("status")).upper() != "OK":
        raise SFAPIError(
            f"NERSC says that a call failed: {_text(content.get('error'))[:_MAX_TEXT]}"
        )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _time(value: object) -> datetime:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        time = None
    if time is None:
        raise SFAPIError("NERSC does not say when the client expires")
    try:
        return in_utc(time if time.tzinfo is not None else time.replace(tzinfo=UTC))
    except ValueError:
        # The end of time, at an offset west of UTC.
        return _NEVER
