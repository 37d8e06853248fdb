"""The base of the servers that tests start: real programs on loopback, each in a folder of its own."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("TESTS_SERVICES_CACHE") or Path.home() / ".cache" / "cts-services")
"""The folder for what was built and downloaded, outside the repository."""
START_SECONDS = 90
STOP_SECONDS = 20
_FIRST_PORT, _LAST_PORT = 15_000, 32_000
"""Outside the range of outgoing connections, which could take a port before the server binds it; see .ci/run."""
_RUNS = 16


class MissingError(Exception):
    """The server cannot run on this machine; the message says why, and what would help."""


@contextlib.contextmanager
def or_skip() -> Iterator[None]:
    """Skip the test on a MissingError; fail it instead if ``CTS_REQUIRE_SERVICES`` is 1."""
    try:
        yield
    except MissingError as e:
        if os.environ.get("CTS_REQUIRE_SERVICES") == "1":
            pytest.fail(str(e))
        pytest.skip(str(e))


def require_program(name: str, hint: str) -> str:
    """Return the path of a program. Raises MissingError."""
    path = shutil.which(name)
    if path is None:
        raise MissingError(f"There is no {name} on this machine: {hint}")
    return path


@contextlib.contextmanager
def install_folder(name: str) -> Iterator[Path]:
    """Return the installation folder of ``name`` under an exclusive lock: two test runs do not build at once."""
    folder = CACHE / name
    folder.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


@functools.cache
def _ports() -> Iterator[int]:
    """Return the ports of this test run; parallel runs have disjoint ones, since a slow server binds its port late."""
    run = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _RUNS
    ports = list(range(_FIRST_PORT + run, _LAST_PORT, _RUNS))
    random.shuffle(ports)
    return itertools.cycle(ports)


def free_port() -> int:
    """Return a port on which no process listens, and which the system gives to no outgoing connection.

    No port is returned twice before all were: a server may reserve several before it binds them.
    """
    while True:
        port = next(_ports())
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def is_listening(port: int) -> bool:
    """Return whether a process listens on the port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


@dataclass
class ServerProcess:
    """A program in a session of its own, so that it can be killed with all its children."""

    command: Sequence[str]
    folder: Path
    is_ready: Callable[[], bool]
    environ: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def start(self) -> None:
        """Start the program, and wait until it is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env={**os.environ, **self.environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self.command[0]} did not start:\n{self.tail()}")
            time.sleep(0.1)

    def tail(self) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])

    def signal(self, number: int) -> None:
        """Send a signal to the program and all its children."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def freeze(self) -> None:
        """Freeze the program (SIGSTOP); return once all its threads are stopped."""
        self.signal(signal.SIGSTOP)
        if self.process is not None:
            os.waitpid(self.process.pid, os.WUNTRACED)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the program at once, as a power cut would."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """Terminate the program; kill it if it does not end."""
        if self.process is None:
            return
        self.thaw()
        self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        self.kill()
