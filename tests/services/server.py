"""A server that the tests start: a real program on loopback, in a folder of its own."""

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
"""Where what was built and downloaded is kept, outside the repository."""
START_SECONDS = 90
STOP_SECONDS = 20
_FIRST_PORT, _LAST_PORT = 15_000, 32_000
"""Not those of outgoing connections, one of which may come between the choice and the server's start; see .ci/run."""
_RUNS = 16


class MissingError(Exception):
    """This machine cannot have the server; the message says why, and what would help."""


@contextlib.contextmanager
def or_skip() -> Iterator[None]:
    """Skip the test that needs what this machine cannot have, or fail it where servers are required."""
    try:
        yield
    except MissingError as e:
        if os.environ.get("CTS_REQUIRE_SERVICES") == "1":
            pytest.fail(str(e))
        pytest.skip(str(e))


def need_program(name: str, hint: str) -> str:
    """The path of a program. Raises MissingError."""
    found = shutil.which(name)
    if found is None:
        raise MissingError(f"There is no {name} on this machine: {hint}")
    return found


@contextlib.contextmanager
def installing(name: str) -> Iterator[Path]:
    """The folder for what ``name`` needs, held by this process alone: two test runs do not build at once."""
    folder = CACHE / name
    folder.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


@functools.cache
def _ports() -> Iterator[int]:
    """Of test runs side by side each has its own: a slow server is a while in taking the port that it was given."""
    run = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _RUNS
    ports = list(range(_FIRST_PORT + run, _LAST_PORT, _RUNS))
    random.shuffle(ports)
    return itertools.cycle(ports)


def free_port() -> int:
    """A port that nobody listens on now, and that the system gives to no outgoing connection.

    None is given twice, before all were: a server may ask for several before it takes them.
    """
    while True:
        port = next(_ports())
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def accepts(port: int) -> bool:
    """Whether somebody listens on the port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


@dataclass
class ServerProcess:
    """One program in a session of its own, so that it is ended with all that it started."""

    command: Sequence[str]
    folder: Path
    is_ready: Callable[[], bool]
    environ: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def start(self) -> None:
        """Start it, and wait until it answers."""
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
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])

    def signal(self, number: int) -> None:
        """Send a signal to the program and all that it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def freeze(self) -> None:
        """Stop it where it is; returns once its threads stand still."""
        self.signal(signal.SIGSTOP)
        if self.process is not None:
            os.waitpid(self.process.pid, os.WUNTRACED)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """Ask it to end; kill what does not."""
        if self.process is None:
            return
        self.thaw()
        self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        self.kill()
