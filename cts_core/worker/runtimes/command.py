"""Runs the commands of a container runtime."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Callable, Mapping, Sequence

from cts_core.worker.runtimes.base import ContainerRuntimeError, Pause
from cts_core.worker.runtimes.errors import TOO_LONG
from cts_core.worker.runtimes.processes import become_container

FORWARDED_VARIABLES = (
    *("PATH", "HOME", "USER", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"),
    *("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"),
    *("CONTAINER_HOST", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "CONTAINERS_REGISTRIES_CONF"),
    *("APPTAINER_CACHEDIR", "APPTAINER_TMPDIR", "APPTAINER_CONFIGDIR"),
)
"""What a runtime's commands find of our environment; nothing of it reaches a container."""
_OURS = "_CONDOR_ANCESTOR_"
"""Begins the variables by which HTCondor finds the processes that it is to end with us."""
COMMAND_SECONDS = 120.0
"""The patience with a command that fetches nothing."""
_TICK_SECONDS = 0.05
_MAX_TOLD = 600
"""Characters of what a command says that are worth showing."""


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """The end of what it complained about, on one line."""
        return tail(self.err or self.out)


def tail(text: str) -> str:
    """The end of a longer text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _MAX_TOLD else f"… {line[-_MAX_TOLD:]}"


def environment() -> dict[str, str]:
    """The environment of a runtime's commands."""
    passed_on = {name: os.environ[name] for name in FORWARDED_VARIABLES if name in os.environ}
    return passed_on | {n: value for n, value in os.environ.items() if n.startswith(_OURS)}


def preparation() -> Callable[[], None] | None:
    """What a command of a worker does before all else: it ends with the worker.

    A process of several threads, as a server is, must run nothing of its own between fork and exec.
    """
    if threading.active_count() > 1:
        return None
    worker = os.getpid()
    return lambda: become_container(worker)


def run(
    command: Sequence[str],
    *,
    patience: float = COMMAND_SECONDS,
    pause: Pause = time.sleep,
    more: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> Answer:
    """Run a command to its end, with ``more`` in its environment. Raises ContainerRuntimeError, and what ``pause`` does."""
    deadline = time.monotonic() + patience
    try:
        process = subprocess.Popen(  # noqa: S603 - the runtime that an operator chose
            command,
            env={**environment(), **(more or {})},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=preparation(),  # noqa: PLW1509 - see there
        )
    except OSError as e:
        if e.errno == errno.E2BIG:
            raise ContainerRuntimeError(TOO_LONG) from e
        raise ContainerRuntimeError(f"{command[0]} cannot be run: {e.strerror}") from e
    try:
        given: bytes | None = stdin
        while True:
            try:
                out, err = process.communicate(given, timeout=_TICK_SECONDS)
            except subprocess.TimeoutExpired:  # noqa: PERF203 - it is what we wait for
                given = None
                if time.monotonic() > deadline:
                    raise ContainerRuntimeError(
                        f"{' '.join(command[:2])} gave no answer for {patience:g} seconds"
                    ) from None
                pause(_TICK_SECONDS)
            else:
                return Answer(
                    process.returncode, out.decode(errors="replace"), err.decode(errors="replace")
                )
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
