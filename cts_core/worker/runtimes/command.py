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

from cts_core.worker.runtimes.base import ContainerRuntimeError, Sleep
from cts_core.worker.runtimes.errors import TOO_LONG
from cts_core.worker.runtimes.processes import prepare_child

FORWARDED_VARIABLES = (
    *("PATH", "HOME", "USER", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"),
    *("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"),
    *("CONTAINER_HOST", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "CONTAINERS_REGISTRIES_CONF"),
    *("APPTAINER_CACHEDIR", "APPTAINER_TMPDIR", "APPTAINER_CONFIGDIR"),
)
"""The variables that a runtime's commands inherit; none of them reaches a container."""
_OURS = "_CONDOR_ANCESTOR_"
"""The prefix of the variables by which HTCondor finds the processes to kill with the job."""
COMMAND_TIMEOUT = 120.0
"""The timeout for a command that fetches nothing."""
_TICK_SECONDS = 0.05
_MAX_MESSAGE = 600
"""The most characters of a command's output in a message."""


@dataclass(frozen=True)
class CommandResult:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The end of its error output, or else of its output, on one line."""
        return tail(self.err or self.out)


def tail(text: str) -> str:
    """Return the end of a longer text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _MAX_MESSAGE else f"… {line[-_MAX_MESSAGE:]}"


def environment() -> dict[str, str]:
    """Return the environment for a runtime's commands."""
    passed_on = {name: os.environ[name] for name in FORWARDED_VARIABLES if name in os.environ}
    return passed_on | {n: value for n, value in os.environ.items() if n.startswith(_OURS)}


def preexec_hook() -> Callable[[], None] | None:
    """Return what a worker's command does before exec: it has itself killed with the worker.

    A multithreaded process, such as a server, must run no Python code between fork and exec, and gets None.
    """
    if threading.active_count() > 1:
        return None
    worker = os.getpid()
    return lambda: prepare_child(worker)


def run(
    command: Sequence[str],
    *,
    timeout: float = COMMAND_TIMEOUT,
    sleep: Sleep = time.sleep,
    extra_environment: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> CommandResult:
    """Run a command to its end, with ``extra_environment``. Raises ContainerRuntimeError, and what ``sleep`` raises."""
    deadline = time.monotonic() + timeout
    try:
        process = subprocess.Popen(  # noqa: S603 - the runtime that an operator chose
            command,
            env={**environment(), **(extra_environment or {})},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=preexec_hook(),  # noqa: PLW1509 - see there
        )
    except OSError as e:
        if e.errno == errno.E2BIG:
            raise ContainerRuntimeError(TOO_LONG) from e
        raise ContainerRuntimeError(f"{command[0]} cannot be run: {e.strerror}") from e
    try:
        remaining_input: bytes | None = stdin
        while True:
            try:
                out, err = process.communicate(remaining_input, timeout=_TICK_SECONDS)
            except subprocess.TimeoutExpired:  # noqa: PERF203 - expected at every tick
                remaining_input = None
                if time.monotonic() > deadline:
                    raise ContainerRuntimeError(
                        f"{' '.join(command[:2])} gave no answer for {timeout:g} seconds"
                    ) from None
                sleep(_TICK_SECONDS)
            else:
                return CommandResult(
                    process.returncode, out.decode(errors="replace"), err.decode(errors="replace")
                )
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
