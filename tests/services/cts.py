"""``jupyter cts`` as a process of its own, and a client's way to it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx

from tests.services.server import ServerProcess, free_port


class CTSProcess(ServerProcess):
    """One server of a service. Killed, it is started again on the same port."""

    def __init__(self, folder: Path, environ: Mapping[str, str], *, port: int = 0) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}/cts"
        command = [sys.executable, "-m", "jupyter", "cts", f"--port={self.port}", "--allow-root"]
        jupyter = {
            name: str(folder / name.lower())
            for name in (
                "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "XDG_CONFIG_HOME"
            )
        }  # fmt: skip
        # Of this process's own variables, none is a setting of that one; an empty one counts as none.
        ours = {name: "" for name in os.environ if name.startswith("CTS_")}
        super().__init__(
            [*command, "--ServerApp.port_retries=0"],
            folder,
            self.is_healthy,
            {**ours, **jupyter, **environ},
        )

    def is_healthy(self) -> bool:
        """Whether it lets requests in."""
        try:
            return httpx.get(f"{self.url}/ready", timeout=5).status_code in (200, 503)
        except httpx.HTTPError:
            return False
