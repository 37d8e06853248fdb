"""The file that a server of a process of its own leaves for kernels."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from cts_jupyter.discovery import ServerFile

_START_SECONDS = 120


def wait_for_server_file(runtime: Path, process: subprocess.Popen[bytes], log: Path) -> ServerFile:
    """Return what a server that is starting writes into this runtime folder; ``log`` is shown if it does not."""
    deadline = time.monotonic() + _START_SECONDS
    while not (paths := list(runtime.glob(f"cts-server-*-{process.pid}.json"))):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return ServerFile.model_validate_json(paths[0].read_bytes())
