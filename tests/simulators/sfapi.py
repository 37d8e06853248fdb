"""A simulator of NERSC: its Superfacility API and its tokens, strictly, over real sockets.

Commands run for real, in bubblewrap, with folders of the simulator's root in the place of ``/global``, ``/pscratch`` and the home; on a DTN
``$SCRATCH`` and ``module`` are there only after ``source /etc/bashrc``. What nobody could verify of NERSC (docs/reference/contract-jaws.md §17)
is so, or otherwise, as a test sets it.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
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
_PYTHON_MODULES = "/global/common/software/nersc/pe/modulefiles/latest"
_MODULE = """\
module() {
  case "$1" in
    use) export MODULEPATH="$2:${MODULEPATH:-}" ;;
    load)
      local folder
      for folder in ${MODULEPATH//:/ }; do
        if [ -f "$folder/$2" ]; then source "$folder/$2"; return 0; fi
      done
      echo "Lmod has detected the following error: The following module(s) are unknown: \\"$2\\"" >&2
      return 1 ;;
  esac
}
"""


@dataclass
class _Task:
    status: str = "new"
    result: str | None = None


@functools.cache
def _make_key(name: str) -> rsa.RSAPrivateKey:
    """Return a key; making one takes long, so that tests share them."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@functools.cache
def _old_python() -> Path | None:
    """Return the folder of the oldest Python that helpers run on, where this machine has it."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return next(root.glob("versions/3.9.*"), None)


def _scratch(machine: str) -> str:
    return SCRATCH["perlmutter" if machine == "perlmutter" else "dtns"]


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
    lost_answers: int = 0
    """How many of the next calls are done, and not answered."""
    is_stuck: bool = False
    """Whether commands that are sent now begin only once this is unset."""
    doubles_commands: bool = False
    """Whether each command runs twice, the second time right after the first."""
    max_command: int | None = None
    """Bytes of a command that are taken."""
    max_upload: int | None = None
    """Bytes of a request with a file that are taken."""
    max_output: int | None = None
    """Characters that are kept of what a command writes."""
    task_seconds: float = 60.0
    """How long a command may run before it is killed."""
    calls: list[str] = field(default_factory=list)
    """Method and path of each call, in order."""
    callbacks: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._key = _make_key(self.client_id)
        self._tokens: dict[str, float] = {}
        self._used: set[str] = set()
        self._tasks: dict[str, _Task] = {}
        self._stopped = threading.Event()
        self._server = SimulatorServer(self.respond)
        for folder in ("global/pscratch/sd/c/cdm_ts", "global/cfs", f"home/{self.user}"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        for machine in _MACHINES:
            text = f"export SCRATCH={_scratch(machine)}\n{_MODULE}"
            (self.root / f"bashrc-{machine}").write_text(text)
        path = f"{python}/bin:$PATH" if (python := _old_python()) else "$PATH"
        self.add_module(_PYTHON_MODULES, "python", f"export PATH={path}\n")

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

    def add_module(self, folder: str, name: str, script: str) -> None:
        """Have ``module load`` of this name run a script, after ``module use`` of the folder."""
        place = self.place(folder)
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(script)

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self.is_stuck = False
        self._stopped.set()
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
        if self.lost_answers:
            self.lost_answers -= 1
            return PreparedResponse(cut=True)
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
        place = self.place(content["path_condition"]["path"])
        _check_machine(content["path_condition"]["machine"])
        self.callbacks.append(content)
        end = time.monotonic() + content["timeout"]

        def watch() -> None:
            while time.monotonic() < end and not self._stopped.wait(0.02):
                if place.exists():
                    # Whether anybody answers is nothing to NERSC.
                    with contextlib.suppress(httpx.HTTPError):
                        httpx.get(content["url"], timeout=5)
                    return

        threading.Thread(target=watch, daemon=True).start()

    def _run(self, machine: str, headers: Any, body: bytes) -> dict[str, Any]:
        _check_machine(machine)
        if headers["Content-Type"] != "application/x-www-form-urlencoded":
            raise _RefusalError(422, "a command is a form")
        (command,) = parse_qs(body.decode(), strict_parsing=True)["executable"]
        if self.max_command is not None and len(command.encode()) > self.max_command:
            raise _RefusalError(422, f"executable has more than {self.max_command} bytes")
        task, task_id = _Task(), str(len(self._tasks) + 1)

        def work() -> None:
            while self.is_stuck and task.status == "new":
                time.sleep(0.01)
            for _ in range(1 + self.doubles_commands):
                self._execute(machine, command, task)

        self._tasks[task_id] = task
        threading.Thread(target=work, daemon=True).start()
        return {"task_id": task_id, "status": "OK", "error": None}

    def _execute(self, machine: str, command: str, task: _Task) -> None:
        """Run a command, and write down its first end."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = subprocess.Popen(
                [*self._box(machine), "/bin/bash", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
            begun = time.monotonic()
            while process.poll() is None:
                if time.monotonic() > begun + self.task_seconds or self._stopped.is_set():
                    process.kill()
                    process.wait()
                    if task.status == "new":
                        task.status = "failed"
                    return
                time.sleep(0.01)
            if task.status == "new":
                told = {"status": "error" if process.returncode else "ok"}
                for name, file in (("output", out), ("error", err)):
                    file.seek(0)
                    told[name] = file.read()[: self.max_output]
                task.result, task.status = json.dumps(told), "completed"

    def _box(self, machine: str) -> list[str]:
        """Return the command that runs others as on this machine."""
        with or_skip():
            bubblewrap = require_program("bwrap", "install bubblewrap")
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
        box += ["--ro-bind", str(self.root / f"bashrc-{machine}"), "/etc/bashrc"]
        if python := _old_python():
            box += ["--ro-bind", str(python), str(python)]
        home = f"/home/{self.user}"
        for inside, outside in (
            ("/global", "global"),
            ("/pscratch", "global/pscratch"),
            (home, f"home/{self.user}"),
        ):
            box += ["--bind", str(self.root / outside), inside]
        box += ["--clearenv", "--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", home]
        if machine == "perlmutter":
            # There, bash reads it by itself.
            box += ["--setenv", "SCRATCH", _scratch(machine), "--setenv", "BASH_ENV", "/etc/bashrc"]
        return [*box, "--chdir", home]

    def _view_task(self, task_id: str) -> dict[str, Any]:
        task = self._find_task(task_id)
        return {"id": task_id, "status": task.status, "result": task.result}

    def _find_task(self, task_id: str) -> _Task:
        if task_id not in self._tasks:
            raise _RefusalError(404, "Task not found")
        return self._tasks[task_id]

    def _upload(self, machine: str, path: str, headers: Any, body: bytes) -> dict[str, Any]:
        _check_machine(machine)
        if self.max_upload is not None and len(body) > self.max_upload:
            raise _RefusalError(413, "Request Entity Too Large")
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
