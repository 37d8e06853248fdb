"""Fixtures for all folders of tests: ``server``, a Jupyter server with CTS, and what configures it; tests override these."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cts_jupyter.server import kernel_socket
from tests.harness.server import ServerHarness, running_server


@pytest.fixture
def cts_settings() -> dict[str, Any]:
    """Settings that a test changes, as in cts.toml."""
    return {}


@pytest.fixture
def jupyter_config() -> dict[str, Any]:
    """Jupyter configuration that a test adds."""
    return {}


@pytest.fixture
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Hide the user's configuration and return the folder that the test works in."""
    for name in ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR"):
        monkeypatch.setenv(f"JUPYTER_{name}", str(tmp_path / f"jupyter-{name.lower()}"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    config = tmp_path / "cts.toml"
    config.touch()
    monkeypatch.setenv("CTS_CONFIG", str(config))
    for name in ("CDM_TASK_SERVICE_URL", "KBASE_AUTH_TOKEN", "JPY_PARENT_PID"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
async def server(
    isolated: Path, cts_settings: Mapping[str, Any], jupyter_config: Mapping[str, Any]
) -> AsyncIterator[ServerHarness]:
    async with running_server(isolated, cts_settings, jupyter_config) as running:
        yield running


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take Unix sockets away from the system."""

    def fail(_: str) -> None:
        raise OSError("not supported here")

    monkeypatch.setattr(kernel_socket, "bind_unix_socket", fail)
