"""A real CTS in a process of its own, and an IPython shell whose ``%cts`` belongs to it."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from cts_jupyter.client import CTSClient
from cts_jupyter.discovery import Connection, ServerFile
from cts_jupyter.notebook import session
from tests.harness.paths import WRITE_ARGUMENTS
from tests.services.server import free_port

_numbers = itertools.count()
START_SECONDS = 60


@dataclass
class Service:
    """A running CTS."""

    folder: Path
    process: subprocess.Popen[bytes]
    file: ServerFile

    @property
    def objects(self) -> Path:
        return self.folder / "home" / "objects"

    def client(self) -> CTSClient:
        return CTSClient.of(Connection(self.file.url, lambda: self.file.token))


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
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
        path = folder / "runtime" / f"cts-server-{process.pid}.json"
        deadline = time.monotonic() + START_SECONDS
        while not path.exists():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)
        service = Service(folder, process, ServerFile.model_validate_json(path.read_bytes()))
        with service.client() as client:
            client.register_image("host/tool", executable=str(WRITE_ARGUMENTS))
        yield service
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
    assert service.file.token not in (folder / "log").read_text()


@dataclass
class Ran:
    """What became of a cell."""

    value: Any
    out: str
    error: BaseException | None


class Shell:
    """An IPython shell that cells are run in."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell

    @property
    def names(self) -> dict[str, Any]:
        return self._shell.user_ns

    def run(self, cell: str) -> Ran:
        """Run a cell, whatever becomes of it."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            result = self._shell.run_cell(cell)
        assert result.error_before_exec is None
        return Ran(result.result, out.getvalue(), result.error_in_exec)

    def __call__(self, cell: str) -> Any:
        """The value of a cell that must go well."""
        ran = self.run(cell)
        assert ran.error is None, ran.error
        return ran.value

    def refusal(self, cell: str) -> str:
        """The one line that a cell fails with."""
        ran = self.run(cell)
        assert ran.error is not None, ran.out
        last = ran.out.rstrip().splitlines()[-1]
        assert last == f"CTS: {ran.error}"
        assert "Traceback" not in ran.out
        return str(ran.error)


@pytest.fixture(scope="session")
def ipython(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InteractiveShell]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
        shell.run_line_magic("load_ext", "cts_jupyter")
        yield shell
        InteractiveShell.clear_instance()


@pytest.fixture
def shell(
    ipython: InteractiveShell, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shell]:
    for name in ("CDM_TASK_SERVICE_URL", "KBASE_AUTH_TOKEN", "JPY_PARENT_PID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(service.folder / "runtime"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    ipython.reset(new_session=False)
    yield Shell(ipython)
    if session._current is not None:
        session._current.close()
        session._current = None


@pytest.fixture
def place(request: pytest.FixtureRequest) -> str:
    """A folder of the object store for one test."""
    return f"data/{request.node.originalname.replace('_', '-')}-{next(_numbers)}/"


@pytest.fixture
def inputs(shell: Shell, place: str, tmp_path: Path) -> str:
    """A folder of three stored files."""
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(name)
    shell(f"%cts put a.txt b.txt c.txt {place}in/")
    return f"{place}in/"
