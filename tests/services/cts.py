"""``jupyter cts`` as a process of its own, and a client's way to it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx

from tests.services.server import ServerProcess, free_port

_TRIES = 3


class CTSProcess(ServerProcess):
    """One server of a service."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.port = 0
        jupyter = {
            name: str(folder / name.lower())
            for name in (
                "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "XDG_CONFIG_HOME"
            )
        }  # fmt: skip
        # Of this process's own variables, none is a setting of that one; an empty one counts as none.
        ours = {name: "" for name in os.environ if name.startswith("CTS_")}
        super().__init__([], folder, self.is_healthy, {**ours, **jupyter, **environ})

    @property
    def url(self) -> str:
        """Where it is since its last start."""
        return f"http://127.0.0.1:{self.port}/cts"

    def start(self) -> None:
        """Start it on a port of its own: the one that it had may be somebody else's by now."""
        for left in reversed(range(_TRIES)):
            self.port = free_port()
            given = [f"--port={self.port}", "--ServerApp.port_retries=0", "--allow-root"]
            self.command = [sys.executable, "-m", "jupyter", "cts", *given]
            try:
                return super().start()
            except RuntimeError:
                if not left or "is already in use" not in self.tail():
                    raise
        return None

    def is_healthy(self) -> bool:
        """Whether it lets requests in."""
        try:
            return httpx.get(f"{self.url}/ready", timeout=5).status_code in (200, 503)
        except httpx.HTTPError:
            return False
