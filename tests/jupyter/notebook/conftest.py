"""Fixtures for ``%cts`` against a service in a process of its own."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from cts_jupyter.notebook import last_submission, session
from tests.harness.notebook import ServiceHarness, ShellHarness, running_service
from tests.harness.paths import WRITE_ARGUMENTS

_numbers = itertools.count()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceHarness]:
    folder = tmp_path_factory.mktemp("service")
    with running_service(folder) as service:
        with service.client() as client:
            client.register_image("host/tool", executable=str(WRITE_ARGUMENTS))
        yield service
    assert service.file.token not in (folder / "log").read_text()


@pytest.fixture(scope="session")
def ipython(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InteractiveShell]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        main = sys.modules["__main__"]
        shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
        # The shell's own __main__ has no __spec__, without which later tests could not start processes.
        sys.modules["__main__"] = main
        shell.run_line_magic("load_ext", "cts_jupyter")
        yield shell
        InteractiveShell.clear_instance()


@pytest.fixture
def shell(
    ipython: InteractiveShell,
    service: ServiceHarness,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ShellHarness]:
    for name in ("CDM_TASK_SERVICE_URL", "KBASE_AUTH_TOKEN", "JPY_PARENT_PID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(service.folder / "runtime"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(last_submission, "_last", None)
    ipython.reset(new_session=False)
    yield ShellHarness(ipython)
    if session._current is not None:
        session._current.close()
        session._current = None


@pytest.fixture
def place(request: pytest.FixtureRequest) -> str:
    """A folder of the object store for one test."""
    return f"data/{request.node.originalname.replace('_', '-')}-{next(_numbers)}/"


@pytest.fixture
def inputs(shell: ShellHarness, place: str, tmp_path: Path) -> str:
    """A folder of three stored files."""
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(name)
    shell(f"%cts put a.txt b.txt c.txt {place}in/")
    return f"{place}in/"
