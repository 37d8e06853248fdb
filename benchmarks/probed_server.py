"""Starts a Jupyter server with CTS whose event loop is measured by ``loop_probe``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from harness import size

from tests.services.server import free_port

TOKEN = "bench-token"
START_SECONDS = 120
_SETTLE_SECONDS = size(1.0, 0.2)


@dataclass
class ProbedServer:
    """A running server, and the measurements of its probe."""

    url: str
    root: Path
    pid: int = 0

    @property
    def home(self) -> Path:
        """The home folder of CTS."""
        return self.root / "home"

    @contextmanager
    def window(self, name: str) -> Iterator[None]:
        """Make the probe measure within the context."""
        self._set_window(name)
        yield
        self._set_window("")

    def _set_window(self, name: str) -> None:
        (self.root / "window").write_text(name)
        deadline = time.monotonic() + START_SECONDS
        taken = self.root / "taken"
        while not taken.exists() or taken.read_text() != name:
            if time.monotonic() > deadline:
                raise SystemExit(f"the probe did not take the window {name!r}")
            time.sleep(0.01)
        time.sleep(_SETTLE_SECONDS)

    def report(self) -> dict[str, dict[str, Any]]:
        """Return the measurements of each window, by its name."""
        lines = map(json.loads, (self.root / "report").read_text().splitlines())
        return {line["name"]: line for line in lines}

    def is_up(self) -> bool:
        """Return whether CTS answers."""
        try:
            return httpx.get(f"{self.url}/", timeout=5).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False


@contextmanager
def probed_server(root: Path, environ: Mapping[str, str]) -> Iterator[ProbedServer]:
    """Start a server with its files below ``root`` and these environment variables."""
    port = free_port()
    server = ProbedServer(f"http://127.0.0.1:{port}/cts", root)
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "jupyter_server",
            "--no-browser",
            "--allow-root",
            f"--port={port}",
            f"--IdentityProvider.token={TOKEN}",
            f"--ServerApp.root_dir={root}",
            # The probe is loaded first: it may replace CTS's adapters.
            "--ServerApp.jpserver_extensions={'loop_probe': True, 'cts_jupyter': True}",
        ],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                [str(Path(__file__).parent), str(Path(__file__).parents[1])]
            ),
            "CTS_HOME": str(server.home),
            "LOOP_PROBE": str(root / "report"),
            "LOOP_PROBE_WINDOW": str(root / "window"),
            "LOOP_PROBE_TAKEN": str(root / "taken"),
            **environ,
        },
        stdout=subprocess.DEVNULL,
        stderr=(root / "server.log").open("wb"),
    )
    server.pid = process.pid
    try:
        deadline = time.monotonic() + START_SECONDS
        while not server.is_up():
            if time.monotonic() > deadline:
                raise SystemExit(f"the server did not start: {(root / 'server.log').read_text()}")
            time.sleep(0.2)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=60)
