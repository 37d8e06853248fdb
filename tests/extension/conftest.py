"""The fixtures of pytest-jupyter, by which Jupyter's own extensions are tested, for this folder alone.

pytest-jupyter registers no entry point (``pytest --trace-config`` does not list it), so it is loaded only where it is
named. It is not named in ``pytest_plugins``: pytest accepts that in the topmost conftest only, and its automatic
fixtures would then create an event loop and a Jupyter server for every test of the suite. The fixtures are imported
into this conftest instead, and so are visible in this folder only. Three more things would reach beyond it:

- ``jp_asyncio_loop`` creates an event loop and makes it the thread's. It is overridden: the loop is that of
  pytest-asyncio, which runs the coroutines of this folder as it runs all others, and closes the loop itself.
- Its hooks would run coroutine tests in that other loop. They are not imported.
- Its import sets the number of files that this process may open. That is undone here.
"""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.serverapp import ServerApp
from traitlets.config import Config

from cts_jupyter.server.extension import CTSExtension

_OPEN_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)
from pytest_jupyter.jupyter_core import (  # noqa: E402, F401 - between getrlimit and setrlimit; fixtures
    echo_kernel_spec,
    jp_config_dir,
    jp_data_dir,
    jp_env_config_path,
    jp_env_jupyter_path,
    jp_environ,
    jp_home_dir,
    jp_kernel_dir,
    jp_runtime_dir,
    jp_system_config_path,
    jp_system_jupyter_path,
)
from pytest_jupyter.jupyter_server import (  # noqa: E402, F401 - as above
    jp_argv,
    jp_auth_header,
    jp_base_url,
    jp_configurable_serverapp,
    jp_fetch,
    jp_http_port,
    jp_logging_stream,
    jp_nbconvert_templates,
    jp_root_dir,
    jp_server_cleanup,
    jp_serverapp,
    jp_web_app,
)
from pytest_jupyter.pytest_tornasync import (  # noqa: E402, F401 - as above
    http_server,
    http_server_client,
    http_server_port,
)

resource.setrlimit(resource.RLIMIT_NOFILE, _OPEN_FILES)


@pytest.fixture(autouse=True)
async def jp_asyncio_loop() -> asyncio.AbstractEventLoop:
    """The event loop of pytest-asyncio; see above."""
    return asyncio.get_running_loop()


@pytest.fixture
def cts_config() -> dict[str, Any]:
    """Options of the extension that a test overrides."""
    return {}


@pytest.fixture
def server_config() -> dict[str, Any]:
    """Options of the Jupyter server that a test overrides."""
    return {}


@pytest.fixture
def jp_server_config(
    tmp_path: Path, cts_config: dict[str, Any], server_config: dict[str, Any]
) -> Config:
    extensions = {"cts_jupyter": True, "jupyter_server_terminals": False}
    own = {
        "preset": "embedded",
        "home": str(tmp_path / "cts-home"),
        "owner": "ana",
        "overrides": {"local": {"cpus": 2, "memory": 1_000_000_000}},
    }
    return Config(
        {
            "ServerApp": {"jpserver_extensions": extensions, **server_config},
            "CTSExtension": own | cts_config,
        }
    )


@pytest.fixture(autouse=True)
def hidden_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the user's configuration of CTS."""
    file = tmp_path / "cts.toml"
    file.touch()
    monkeypatch.setenv("CTS_CONFIG", str(file))
    for name in ("CDM_TASK_SERVICE_URL", "KBASE_AUTH_TOKEN", "JPY_PARENT_PID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def serverapp(jp_serverapp: ServerApp) -> ServerApp:  # noqa: F811 - the fixture
    """A Jupyter server whose extensions are started, as ``ServerApp.start`` does and pytest-jupyter does not."""
    await jp_serverapp.extension_manager.start_all_extensions()
    return jp_serverapp


@pytest.fixture
def extension(serverapp: ServerApp) -> CTSExtension:
    return serverapp.extension_manager.extension_points["cts_jupyter"].app
