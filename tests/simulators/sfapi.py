"""A simulator of NERSC: its Superfacility API and its tokens, strictly, over real sockets.

Commands run for real, in bubblewrap, with folders of the simulator's root in the place of ``/global``, ``/pscratch`` and the home; on a DTN
``$SCRATCH`` is there only after ``source /etc/bashrc``.
"""

from __future__ import annotations

import base64
import functools
import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tornado.httputil import HTTPFile, parse_body_arguments

from tests.services.server import or_skip, require_program
from tests.simulators.server import PreparedResponse, SimulatorServer

SCRATCH = {"perlmutter": "/pscratch/sd/c/cdm_ts", "dtns": "/global/pscratch/sd/c/cdm_ts"}
"""``$SCRATCH`` of the user; both are one folder."""
_MACHINES = ("perlmutter", "dtns", "dtn01")
_TOKEN_PATH, _API, _BETA = "/c2id/token", "/api/v1.2/", "/api/beta/"
_COMMAND_SECONDS = 30


@dataclass
class _Task:
    process: threading.Thread
    status: str = "new"
    result: str | None = None


@functools.cache
def _make_key(name: str) -> rsa.RSAPrivateKey:
    """Return a key; making one takes long, so that tests share them."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class _RefusalError(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.response = PreparedResponse(status, json.dumps({"detail": detail}).encode())


@dataclass
class NERSC:
    """NERSC, with one user and one client, the calls so far, and faults that a test sets.

    It runs in its own threads. Changed attributes take effect at the next call.
    """

    root: Path
    user: str = "cdm_ts"
    client_id: str = "clientofcdmts"
    expires_at: datetime = field(default_factory=lambda: datetime.now(UTC) + timedelta(days=2))
    token_seconds: int = 600
    is_client_expired: bool = False
    statuses: dict[str, str] = field(default_factory=lambda: dict.fromkeys(_MACHINES, "active"))
    outages: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    planned: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds before each answer."""
    override: PreparedResponse | None = None
    """Sent instead of every regular answer."""
    is_stuck: bool = False
    """Whether commands that are sent now begin only once this is unset."""
    calls: list[str] = field(default_factory=list)
    """Method and path of each call, in order."""
    callbacks: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._key = _make_key(self.client_id)
        self._tokens: dict[str, float] = {}
        self._used: set[str] = set()
        self._tasks: dict[str, _Task] = {}
        self._server = SimulatorServer(self.respond)
        for folder in ("global/pscratch/sd/c/cdm_ts", "global/cfs", f"home/{self.user}"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def token_url(self) -> str:
        return f"{self.url}{_TOKEN_PATH}"

    @property
    def api_url(self) -> str:
        return f"{self.url}{_API}"

    @property
    def beta_url(self) -> str:
        return f"{self.url}{_BETA}"

    def pem(self) -> str:
        """Return the private key of the client, as its owner has it."""
        return self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()

    def renew_client(self, client_id: str) -> None:
        """Replace the client by one with another id and key; tokens of the old one stay valid."""
        self._key = _make_key(f"new {client_id}")
        self.client_id, self.is_client_expired = client_id, False

    def revoke_tokens(self) -> None:
        self._tokens.clear()

    def forget_tasks(self) -> None:
        """Forget every task that has ended, as NERSC does some minutes after its end."""
        for task_id, task in list(self._tasks.items()):
            if task.status != "new":
                del self._tasks[task_id]

    def place(self, path: str) -> Path:
        """Return where a path at NERSC is on this machine."""
        if path.startswith("/pscratch/"):
            return self.root / "global" / path.lstrip("/")
        return self.root / (
            path.lstrip("/") if path.startswith("/") else f"home/{self.user}/{path}"
        )

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self.is_stuck = False
        self._server.stop()

    def respond(self, method: str, target: str, headers: Any, body: bytes) -> PreparedResponse:
        url = urlsplit(target)
        self.calls.append(f"{method} {url.path}")
        time.sleep(self.delay)
        if self.override is not None:
            return self.override
        try:
            answer = self._answer(method, url.path, url.query, headers, body)
        except _RefusalError as e:
            return e.response
        return PreparedResponse(200, b"" if answer is None else json.dumps(answer).encode())

    def _answer(self, method: str, path: str, query: str, headers: Any, body: bytes) -> Any:
        if (method, path) == ("POST", _TOKEN_PATH):
            return self._token(parse_qs(body.decode(), strict_parsing=True))
        if path.startswith(f"{_API}status/"):
            return self._status(method, path.removeprefix(f"{_API}status/").split("/"))
        self._check_token(headers.get("Authorization"))
        if (method, path) == ("POST", f"{_BETA}callback"):
            return self._callback(json.loads(body))
        routes: dict[str, Callable[..., Any]] = {
            r"GET account/": lambda: {"uid": 1, "name": self.user},
            r"GET account/clients": self._clients,
            r"POST utilities/command/(\w+)": lambda machine: self._run(machine, headers, body),
            r"GET tasks/([^/]+)": self._view_task,
            r"DELETE tasks/([^/]+)": self._cancel_task,
            r"PUT utilities/upload/(\w+)/(.+)": lambda m, p: self._upload(m, p, headers, body),
            r"GET utilities/download/(\w+)/(.+)": lambda m, p: self._download(m, p, query),
        }
        called = f"{method} {path.removeprefix(_API)}"
        for pattern, call in routes.items():
            if match := re.fullmatch(pattern, called):
                return call(*map(unquote, match.groups()))
        raise _RefusalError(404, "Not Found")

    def _token(self, form: dict[str, list[str]]) -> dict[str, Any]:
        kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        if form.get("grant_type") != ["client_credentials"] or form.get(
            "client_assertion_type"
        ) != [kind]:
            raise _RefusalError(400, "unsupported_grant_type")
        try:
            claims = jwt.decode(
                form["client_assertion"][0],
                self._key.public_key(),
                algorithms=["RS256"],
                audience=self.token_url,
                issuer=self.client_id,
                options={"require": ["iss", "sub", "aud", "exp", "jti"]},
            )
        except jwt.PyJWTError as e:
            raise _RefusalError(401, f"invalid_client: {e}") from None
        is_repeated = claims["jti"] in self._used
        self._used.add(claims["jti"])
        if self.is_client_expired or is_repeated or claims["sub"] != self.client_id:
            raise _RefusalError(401, "invalid_client")
        token = f"token-{len(self._tokens)}-{claims['jti']}"
        self._tokens[token] = time.monotonic() + self.token_seconds
        return {"access_token": token, "token_type": "Bearer", "expires_in": self.token_seconds}

    def _check_token(self, authorization: str | None) -> None:
        token = (authorization or "").removeprefix("Bearer ")
        if self._tokens.get(token, 0.0) < time.monotonic():
            raise _RefusalError(401, "Could not validate credentials")

    def _status(self, method: str, parts: list[str]) -> Any:
        _check_machine(parts[-1])
        if method != "GET":
            raise _RefusalError(405, "Method Not Allowed")
        match parts:
            case [machine]:
                return {"name": machine, "notes": [], "status": self.statuses[machine]}
            case ["outages", machine]:
                return self.outages.get(machine, [])
            case ["outages", "planned", machine]:
                return self.planned.get(machine, [])
        raise _RefusalError(404, "Not Found")

    def _clients(self) -> list[dict[str, Any]]:
        ours = {"name": "cts", "clientId": self.client_id, "expiresAt": self.expires_at.isoformat()}
        other = datetime.now(UTC).isoformat()
        return [{"name": "other", "clientId": "other", "expiresAt": other}, ours]

    def _callback(self, content: dict[str, Any]) -> None:
        if set(content) != {"path_condition", "url", "timeout"}:
            raise _RefusalError(422, "a callback has path_condition, url and timeout")
        _check_machine(content["path_condition"]["machine"])
        self.callbacks.append(content)

    def _run(self, machine: str, headers: Any, body: bytes) -> dict[str, Any]:
        _check_machine(machine)
        if headers["Content-Type"] != "application/x-www-form-urlencoded":
            raise _RefusalError(422, "a command is a form")
        (command,) = parse_qs(body.decode(), strict_parsing=True)["executable"]
        task_id = str(len(self._tasks) + 1)

        def work() -> None:
            while self.is_stuck and task.status == "new":
                time.sleep(0.01)
            if task.status == "new":
                task.result, task.status = self._execute(machine, command), "completed"

        task = _Task(threading.Thread(target=work, daemon=True))
        self._tasks[task_id] = task
        task.process.start()
        return {"task_id": task_id, "status": "OK", "error": None}

    def _execute(self, machine: str, command: str) -> str:
        with or_skip():
            bubblewrap = require_program("bwrap", "install bubblewrap")
        scratch = SCRATCH["perlmutter" if machine == "perlmutter" else "dtns"]
        rc = self.root / "bashrc"
        rc.write_text(f"export SCRATCH={scratch}\n")
        box = [
            bubblewrap,
            "--die-with-parent",
            "--dev",
            "/dev",
            "--proc",
            "/proc",
            "--tmpfs",
            "/tmp",
        ]
        for system in ("/usr", "/bin", "/lib", "/lib64", "/sbin"):
            box += ["--ro-bind-try", system, system]
        for entry in Path("/etc").iterdir():
            box += ["--ro-bind-try", str(entry), str(entry)]
        box += ["--ro-bind", str(rc), "/etc/bashrc"]
        home = f"/home/{self.user}"
        for inside, outside in (
            ("/global", "global"),
            ("/pscratch", "global/pscratch"),
            (home, f"home/{self.user}"),
        ):
            box += ["--bind", str(self.root / outside), inside]
        box += ["--clearenv", "--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", home]
        if machine == "perlmutter":
            box += ["--setenv", "SCRATCH", scratch]
        ended = subprocess.run(
            [*box, "--chdir", home, "/bin/bash", "-c", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        return json.dumps(
            {
                "status": "error" if ended.returncode else "ok",
                "output": ended.stdout,
                "error": ended.stderr,
            }
        )

    def _view_task(self, task_id: str) -> dict[str, Any]:
        task = self._find_task(task_id)
        return {"id": task_id, "status": task.status, "result": task.result}

    def _cancel_task(self, task_id: str) -> None:
        task = self._find_task(task_id)
        if task.status == "new":
            task.status = "cancelled"

    def _find_task(self, task_id: str) -> _Task:
        if task_id not in self._tasks:
            raise _RefusalError(404, "Task not found")
        return self._tasks[task_id]

    def _upload(self, machine: str, path: str, headers: Any, body: bytes) -> dict[str, Any]:
        _check_machine(machine)
        files: dict[str, list[HTTPFile]] = {}
        parse_body_arguments(headers["Content-Type"], body, {}, files)
        if set(files) != {"file"}:
            raise _RefusalError(422, "an upload has one file")
        place = self.place(path)
        if not place.parent.is_dir():
            return {
                "status": "ERROR",
                "output": None,
                "error": f"{path}: No such file or directory",
            }
        place.write_bytes(files["file"][0].body)
        return {"status": "OK", "output": "", "error": None}

    def _download(self, machine: str, path: str, query: str) -> dict[str, Any]:
        _check_machine(machine)
        place, binary = self.place(path), parse_qs(query).get("binary") == ["true"]
        if not place.is_file():
            error = f"cat: {path}: No such file or directory"
            return {"status": "ERROR", "file": None, "is_binary": binary, "error": error}
        content = place.read_bytes()
        text = base64.b64encode(content).decode() if binary else content.decode()
        return {"status": "OK", "file": text, "is_binary": binary, "error": None}


def _check_machine(machine: str) -> None:
    if machine not in _MACHINES:
        raise _RefusalError(422, f"{machine} is no system of NERSC")


@pytest.fixture
def nersc(tmp_path: Path) -> Iterator[NERSC]:
    simulator = NERSC(tmp_path / "nersc")
    simulator.start()
    yield simulator
    simulator.stop()
