"""How a kernel finds the CTS it belongs to, and what the server leaves for it to be found by.

``CDM_TASK_SERVICE_URL`` wins, with the token of ``KBASE_AUTH_TOKEN``. Else the server that started the kernel
has left a file in Jupyter's runtime folder, readable by its owner only, with a URL and a token for ``/cts``. So it
has, too, where it forwards to the very service that the variable names: then it is asked, and its token is newer.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jupyter_core.paths import jupyter_runtime_dir
from pydantic import BaseModel, ValidationError

URL_VARIABLE = "CDM_TASK_SERVICE_URL"
TOKEN_VARIABLE = "KBASE_AUTH_TOKEN"  # noqa: S105 - the name of a variable
PARENT_VARIABLE = "JPY_PARENT_PID"
_PATTERN = "cts-server-*.json"


class NoConnectionError(Exception):
    """No CTS can be found; the message says what to set."""


@dataclass(frozen=True)
class Connection:
    """Where CTS is, and how to get a token for each request."""

    url: str
    token: Callable[[], str | None]
    certificate: Path | None = None
    """The server's own certificate, to be trusted although nobody else vouches for it."""
    is_page_server: bool = False
    """Whether it is the Jupyter server that this process belongs to, and that its notebooks' pages come from."""
    service: str | None = None
    """The service elsewhere that this server forwards to."""

    def tls(self) -> ssl.SSLContext | bool:
        """What httpx verifies the server by."""
        if self.certificate is None:
            return True
        context = ssl.create_default_context(cafile=str(self.certificate))
        # The file named exactly this certificate; it need not name the loopback address nor have a known issuer.
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context


class ServerFile(BaseModel):
    """What a server leaves for its kernels."""

    url: str
    token: str
    pid: int
    certificate: Path | None = None
    service: str | None = None
    """The service elsewhere that the server forwards to."""


def write_server_file(folder: Path, content: ServerFile) -> Path:
    """Leave a file that only this user can read; atomic, so that no kernel sees half of it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path, found in _server_files(folder):
        if not _is_alive(found.pid):
            path.unlink(missing_ok=True)
    target = folder / f"cts-server-{content.pid}.json"
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
    """The CTS that this process belongs to. Raises NoConnectionError."""
    url = os.environ.get(URL_VARIABLE)
    try:
        found = _find_server(Path(jupyter_runtime_dir()))
    except NoConnectionError:
        if not url:
            raise
    else:
        if not url or url.rstrip("/") == found.service:
            return Connection(
                found.url,
                _reread(found),
                found.certificate,
                is_page_server=True,
                service=found.service,
            )
    # Read at each request: hubs renew the variable's token while the kernel lives.
    return Connection(url, lambda: os.environ.get(TOKEN_VARIABLE) or None)


def _find_server(folder: Path) -> ServerFile:
    parent = os.environ.get(PARENT_VARIABLE, "")
    servers = {file.pid: file for _, file in _server_files(folder) if _is_alive(file.pid)}
    if parent.isdecimal() and int(parent) in servers:
        return servers[int(parent)]
    if len(servers) == 1:
        return next(iter(servers.values()))
    if servers:
        raise NoConnectionError(
            f"{len(servers)} servers with CTS run here and none of them started this kernel: set "
            f"{URL_VARIABLE} and {TOKEN_VARIABLE} to say which to use"
        )
    raise NoConnectionError(
        "No CTS is running here: start Jupyter with cts-jupyter installed, or 'jupyter cts', or set "
        f"{URL_VARIABLE} and {TOKEN_VARIABLE} to use one elsewhere"
    )


def _reread(found: ServerFile) -> Callable[[], str | None]:
    """The token as the file has it now: a server that is started again writes a new one."""

    def token() -> str | None:
        for _, file in _server_files(Path(jupyter_runtime_dir())):
            if file.pid == found.pid:
                return file.token
        return found.token

    return token


def _server_files(folder: Path) -> Iterator[tuple[Path, ServerFile]]:
    for path in sorted(folder.glob(_PATTERN)):
        # Whatever cannot be read, or vanishes meanwhile, is no server's.
        with contextlib.suppress(OSError, ValidationError, json.JSONDecodeError):
            yield path, ServerFile.model_validate_json(path.read_bytes())


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
