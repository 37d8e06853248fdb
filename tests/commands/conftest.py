"""A shell as a notebook's kernel has it, and a real service elsewhere for it to talk to."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from cts_jupyter import session
from cts_jupyter.client import CTSClient
from cts_jupyter.transport import CTSClientError
from tests.services.server import free_port

TOKEN = "the-services-token"
TOOL = Path(__file__).parents[1] / "core" / "engine" / "tool.py"
START_SECONDS = 60


class Shell:
    """Runs cells, and says what they showed."""

    def __init__(self) -> None:
        self.ip = InteractiveShell()
        self.shown = ""
        self.run("%load_ext cts_jupyter")

    def run(self, cell: str) -> object:
        """The cell's result. Fails when the cell does."""
        self.shown, result = self._run(cell)
        assert result.success, self.shown
        return result.result

    def fail(self, cell: str) -> str:
        """The one line that a failing cell shows."""
        shown, result = self._run(cell)
        assert not result.success, shown
        (line,) = shown.strip().splitlines()
        assert line.startswith("CTS: ")
        return line.removeprefix("CTS: ")

    def _run(self, cell: str):
        with capture_output(display=False) as captured:
            result = self.ip.run_cell(cell)
        return captured.stdout + captured.stderr, result

    def __getitem__(self, name: str):
        return self.ip.user_ns[name]


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a running ``jupyter cts``, with ``host/tool`` registered."""
    home = tmp_path_factory.mktemp("service")
    port = free_port()
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("CTS_", "CDM_", "JPY_"))
    }
    environment |= {
        "CTS_PRESET": "embedded",
        "CTS_HOME": str(home / "cts"),
        "CTS_OWNER": "ana",
        "CTS_LOCAL__CPUS": "2",
        "CTS_LOCAL__STOP_GRACE": "0.5",
        "HOME": str(home),
        "JUPYTER_TOKEN": TOKEN,
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
    }
    command = "from cts_jupyter.headless import main; main()"
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", command, "--allow-root", f"--port={port}"],
            env=environment,
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}/cts"
    try:
        with CTSClient(url, lambda: TOKEN) as client:
            deadline = time.monotonic() + START_SECONDS
            while True:
                try:
                    client.root()
                except CTSClientError:
                    assert server.poll() is None, (home / "log").read_text()
                    assert time.monotonic() < deadline
                else:
                    break
            client.register_image("host/tool", executable=str(TOOL))
        yield url
    finally:
        server.terminate()
        server.wait(timeout=30)
    assert TOKEN not in (home / "log").read_text()


@pytest.fixture
def shell(service: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Shell]:
    """A shell whose kernel is told of the service by its environment."""
    monkeypatch.setenv("CDM_TASK_SERVICE_URL", service)
    monkeypatch.setenv("KBASE_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter-data"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    # The shell puts a module of its own in the place of the main one, which other tests need back.
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    shell = Shell()
    yield shell
    if session._current is not None:
        session._current.close()
        session._current = None
    shell.ip.atexit_operations()
    atexit.unregister(shell.ip.atexit_operations)
