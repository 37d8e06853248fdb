"""A CTS service in a process of its own, and an IPython shell that runs cells against it."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from cts_jupyter.client import CTSClient
from cts_jupyter.discovery import Connection, ServerFile
from tests.harness.server_file import wait_for_server_file
from tests.services.server import free_port


@dataclass
class ServiceHarness:
    """A running CTS service."""

    folder: Path
    process: subprocess.Popen[bytes]
    file: ServerFile

    @property
    def objects(self) -> Path:
        return self.folder / "home" / "objects"

    def client(self) -> CTSClient:
        return CTSClient.of(Connection(self.file.url, lambda: self.file.token))


@contextlib.contextmanager
def running_service(folder: Path) -> Iterator[ServiceHarness]:
    """Start a service that keeps its data in this folder, and stop it at the end of the block."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("CTS_", "CDM_", "JPY_"))}
    for name in ("RUNTIME", "CONFIG", "DATA"):
        env[f"JUPYTER_{name}_DIR"] = str(folder / name.lower())
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable, "-c", "from cts_jupyter.server.headless import main; main()", "--allow-root",
                f"--port={free_port()}", f"--home={folder / 'home'}", "--owner=ana",
            ],
            stdout=log, stderr=log, env=env, start_new_session=True,
        )  # fmt: skip
    try:
        file = wait_for_server_file(folder / "runtime", process, folder / "log")
        yield ServiceHarness(folder, process, file)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


@dataclass
class CellResult:
    """The value of a cell, what it printed, and its error."""

    value: Any
    out: str
    error: BaseException | None


class ShellHarness:
    """Runs cells in an IPython shell."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell

    @property
    def names(self) -> dict[str, Any]:
        return self._shell.user_ns

    def run(self, cell: str) -> CellResult:
        """Run a cell, which may fail."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            execution = self._shell.run_cell(cell)
        assert execution.error_before_exec is None
        return CellResult(execution.result, out.getvalue(), execution.error_in_exec)

    def __call__(self, cell: str) -> Any:
        """Run a cell that must succeed, and return its value."""
        result = self.run(cell)
        assert result.error is None, result.error
        return result.value

    def refusal(self, cell: str) -> str:
        """Run a cell that must fail with one line, and return the line."""
        result = self.run(cell)
        assert result.error is not None, result.out
        last = result.out.rstrip().splitlines()[-1]
        assert last == f"CTS: {result.error}"
        assert "Traceback" not in result.out
        return str(result.error)
