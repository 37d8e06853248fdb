"""``jupyter cts`` as a process of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from tests.services.server import ServerProcess, free_port

_TRIES = 3


class CTSProcess(ServerProcess):
    """A server process of a service."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.port = 0
        jupyter = {
            name: str(folder / name.lower())
            for name in (
                "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "XDG_CONFIG_HOME"
            )
        }  # fmt: skip
        # This process's own settings must not reach the server; an empty variable counts as none.
        ours = {name: "" for name in os.environ if name.startswith("CTS_")}
        super().__init__([], folder, self.is_healthy, {**ours, **jupyter, **environ})

    @property
    def url(self) -> str:
        """The base URL since the last start."""
        return f"http://127.0.0.1:{self.port}/cts"

    def program(self, port: int) -> Sequence[str]:
        """Return the command that serves on the port, and on no other."""
        arguments = [f"--port={port}", "--ServerApp.port_retries=0", "--allow-root"]
        return [sys.executable, "-m", "jupyter", "cts", *arguments]

    def start(self) -> None:
        """Start it on a new port: another process may have taken the previous one."""
        for tries_left in reversed(range(_TRIES)):
            self.port = free_port()
            self.command = self.program(self.port)
            try:
                return super().start()
            except RuntimeError:
                if not tries_left or "is already in use" not in self.tail():
                    raise
        return None

    def is_healthy(self) -> bool:
        """Return whether the server accepts requests."""
        try:
            return httpx.get(f"{self.url}/ready", timeout=5).status_code in (200, 503)
        except httpx.HTTPError:
            return False
