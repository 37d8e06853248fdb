"""Discovery: the file by which a server announces itself, and how a kernel finds its CTS.

``CDM_TASK_SERVICE_URL`` takes precedence, with the token of ``KBASE_AUTH_TOKEN``. Without it, the server that started
the kernel is used: it has written a file into Jupyter's runtime folder, readable by its owner only, with a URL and a
token for ``/cts``. If that server forwards to the very service that the variable names, the server is used, since its
token is newer.

Machines and containers may share that folder, as on a hub with one home for all servers of a user. A process id means
nothing outside the PID namespace that it is from, so each file's name says in which place its server runs: in which
namespace, and in which boot of which machine. Files of other places are neither read nor touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jupyter_core.paths import jupyter_runtime_dir
from pydantic import BaseModel, ValidationError

from cts_core.worker.boot import boot_id

URL_VARIABLE = "CDM_TASK_SERVICE_URL"
TOKEN_VARIABLE = "KBASE_AUTH_TOKEN"  # noqa: S105 - the name of a variable
PARENT_VARIABLE = "JPY_PARENT_PID"
_PS_SECONDS = 5.0
_MAX_HOST = 64
"""Characters of the host's name in the name of a file."""


class NoConnectionError(Exception):
    """No CTS can be found; the message says what to set."""


@dataclass(frozen=True)
class Connection:
    """The URL of a CTS, and a function that returns the token for each request."""

    url: str
    token: Callable[[], str | None]
    certificate: Path | None = None
    """The server's own certificate, trusted although no authority has issued it."""
    is_page_server: bool = False
    """Whether CTS is in the Jupyter server that this process belongs to, which also serves its notebooks' pages."""
    service: str | None = None
    """The service elsewhere that this server forwards to."""
    socket: Path | None = None
    """The Unix socket at which the server listens to its kernels."""

    def tls(self) -> ssl.SSLContext | bool:
        """Return the argument ``verify`` of httpx for this server."""
        if self.certificate is None:
            return True
        context = ssl.create_default_context(cafile=str(self.certificate))
        # The server named exactly this certificate, so it needs neither the loopback address nor a known issuer.
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context


class ServerFile(BaseModel):
    """The content of the file that a server writes for its kernels."""

    url: str
    token: str
    pid: int
    socket: Path | None = None
    """The Unix socket at which the server listens to its kernels, over plain HTTP."""
    certificate: Path | None = None
    service: str | None = None
    """The service elsewhere that the server forwards to."""
    started: str = ""
    """The time at which the process started, as the system counts it: another process may get its id later."""

    @property
    def is_alive(self) -> bool:
        """Whether the server, one of this place, runs."""
        return _is_alive(self.pid) and self.started == _start_time(self.pid)


def write_server_file(folder: Path, content: ServerFile) -> Path:
    """Write the file so that only this user can read it, and atomically; remove files of this place's dead servers."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path, other in _server_files(folder):
        if not other.is_alive:
            path.unlink(missing_ok=True)
            if other.socket is not None:
                with contextlib.suppress(OSError):
                    other.socket.unlink()
                    other.socket.parent.rmdir()
    content = content.model_copy(update={"started": _start_time(content.pid)})
    # Older kernels look for cts-server-*.json. The host is for people: a laptop changes its name with the network.
    target = folder / f"cts-server-{_host()}@{_place()}-{content.pid}.json"
    draft = folder / f".{target.name}.{secrets.token_hex(4)}"
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(content.model_dump_json())
        draft.replace(target)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    return target


def find_connection() -> Connection:
    """Return the connection to the CTS that this process belongs to. Raises NoConnectionError."""
    url = os.environ.get(URL_VARIABLE)
    try:
        server = _find_server(Path(jupyter_runtime_dir()))
    except NoConnectionError:
        if not url:
            raise
    else:
        if not url or url.rstrip("/") == server.service:
            return _to_own_server(server)
    # Read for each request, because hubs renew the token in the environment while the kernel runs.
    return Connection(url, lambda: os.environ.get(TOKEN_VARIABLE) or None)


def _to_own_server(server: ServerFile) -> Connection:
    socket = server.socket
    if socket is not None and not socket.exists():
        socket = None
    return Connection(
        server.url,
        _token_reader(server),
        None if socket else server.certificate,
        is_page_server=True,
        service=server.service,
        socket=socket,
    )


def _find_server(folder: Path) -> ServerFile:
    parent = os.environ.get(PARENT_VARIABLE, "")
    servers = {file.pid: file for _, file in _server_files(folder) if file.is_alive}
    if parent.isdecimal() and int(parent) in servers:
        return servers[int(parent)]
    if len(servers) == 1:
        return next(iter(servers.values()))
    # As of a kernel that nbconvert started, in a terminal of the server.
    ancestor = next((pid for pid in _ancestors(os.getpid()) if pid in servers), None)
    if ancestor is not None:
        return servers[ancestor]
    if servers:
        raise NoConnectionError(
            f"{len(servers)} servers with CTS run here and none of them started this kernel: set "
            f"{URL_VARIABLE} and {TOKEN_VARIABLE} to say which to use"
        )
    raise NoConnectionError(
        "No CTS is running here: start Jupyter with cts-jupyter installed, or 'jupyter cts', or set "
        f"{URL_VARIABLE} and {TOKEN_VARIABLE} to use one elsewhere"
    )


def _token_reader(server: ServerFile) -> Callable[[], str | None]:
    """Return a function that reads the token anew: a server that is restarted writes a new one."""

    def token() -> str | None:
        for _, file in _server_files(Path(jupyter_runtime_dir())):
            if file.pid == server.pid:
                return file.token
        return server.token

    return token


def _server_files(folder: Path) -> Iterator[tuple[Path, ServerFile]]:
    """Yield the files of the servers of this place, also of those that have died."""
    for path in sorted(folder.glob(f"cts-server-*@{_place()}-*.json")):
        # A file that cannot be read, or vanishes meanwhile, is not a running server's.
        with contextlib.suppress(OSError, ValidationError, json.JSONDecodeError):
            yield path, ServerFile.model_validate_json(path.read_bytes())


def _place() -> str:
    """Return the place in which process ids of this process mean the same: a boot of a machine, and a PID namespace."""
    return f"{boot_id() or _host()}@{_pid_namespace()}"


def _pid_namespace() -> int:
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0  # macOS has one only.


def _host() -> str:
    return re.sub(r"[^\w.-]", "_", socket.gethostname(), flags=re.ASCII)[:_MAX_HOST]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _ancestors(pid: int) -> Iterator[int]:
    """Yield the process's parent, that one's parent, and so on, as far as the system tells them."""
    seen = {pid}
    while (pid := _parent(pid)) not in {0, *seen}:
        seen.add(pid)
        yield pid


def _parent(pid: int) -> int:
    """Return the id of a process's parent; 0 where there is none, or none that can be told."""
    try:
        # The fields are counted from the end of the name, as below.
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except FileNotFoundError:
        # Without /proc, as on macOS.
        command = ["/bin/ps", "-o", "ppid=", "-p", str(pid)]
        try:
            out = subprocess.run(  # noqa: S603 - a fixed program
                command, capture_output=True, check=False, timeout=_PS_SECONDS
            ).stdout
        except (OSError, subprocess.TimeoutExpired):
            return 0
        return int(out.strip() or 0)
    except OSError:
        return 0


def _start_time(pid: int) -> str:
    """Return when a process started, in the system's own count; empty where that cannot be read."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return ""
    # The name in parentheses may contain anything, so the fields are counted from its end (proc(5): the 22nd is ours).
    return stat.rpartition(b")")[2].split()[19].decode()
