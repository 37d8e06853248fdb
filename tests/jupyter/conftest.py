"""A real Jupyter server in the test's process, with the real engine behind it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from jupyter_server.serverapp import ServerApp
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from traitlets.config import Config

TOOL = Path(__file__).with_name("tool.py")
JUPYTER_TOKEN = "jupyters-own-token"


@dataclass
class Server:
    """A running server, and what its requests may carry."""

    app: ServerApp
    root: str
    kernel_token: str
    http: httpx.AsyncClient

    @property
    def extension(self) -> Any:
        return self.app.extension_manager.extension_points["cts_jupyter"].app

    @property
    def engine(self) -> Any:
        return self.extension._engine

    async def request(
        self, method: str, path: str, *, token: str | None = "kernel", **kwargs: Any
    ) -> httpx.Response:
        """``token``: ``kernel``, ``jupyter``, None, or the text itself."""
        text = {"kernel": self.kernel_token, "jupyter": JUPYTER_TOKEN}.get(token or "", token)
        headers = dict(kwargs.pop("headers", None) or {})
        if text is not None:
            headers.setdefault("Authorization", f"Bearer {text}")
        response = await self.http.request(method, self.root + path, headers=headers, **kwargs)
        check_answer(response, method, path)
        return response

    async def get(self, path: str, **kwargs: Any) -> httpx.Response:
        return await self.request("GET", path, **kwargs)

    async def post(self, path: str, **kwargs: Any) -> httpx.Response:
        return await self.request("POST", path, **kwargs)

    async def put(self, path: str, **kwargs: Any) -> httpx.Response:
        return await self.request("PUT", path, **kwargs)

    async def upload(self, path: str, content: bytes) -> None:
        answer = await self.put("/files/content", params={"path": path}, content=content)
        assert answer.status_code == 200, answer.text

    async def prepare(self, *names: str) -> None:
        """Register the image ``host/tool`` and store the inputs ``data/in/<name>``."""
        answer = await self.post("/admin/images/host/tool", json={"executable": str(TOOL)})
        assert answer.status_code == 200, answer.text
        for name in names or ("a", "b"):
            await self.upload(f"data/in/{name}", name.encode())


def check_answer(response: httpx.Response, method: str, path: str) -> None:
    """What holds for every answer below the root."""
    assert response.headers["x-request-id"]
    if response.status_code >= 400 and method != "HEAD":
        error = response.json()["error"]
        assert error["httpcode"] == response.status_code
        assert error["request_id"] == response.headers["x-request-id"]
        assert error["time"].endswith("Z")
        assert error["httpstatus"]
        assert (error.get("appcode") is None) == (error.get("apperror") is None)
        if response.status_code >= 500:
            assert "appcode" not in error
    if response.status_code == 204:
        assert response.content == b""


def submission(**changes: Any) -> dict[str, Any]:
    return {
        "cluster": "local",
        "image": "host/tool",
        "params": {"args": [{"type": "input_files", "input_files_format": "space_separated_list"}]},
        "output_dir": "data/out",
        "input_files": ["data/in/a", "data/in/b"],
        **changes,
    }


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
    """A machine of its own: nothing of the user's configuration is read. The folder to work in."""
    for name in ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR"):
        monkeypatch.setenv(f"JUPYTER_{name}", str(tmp_path / f"jupyter-{name.lower()}"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    config = tmp_path / "cts.toml"
    config.touch()
    monkeypatch.setenv("CTS_CONFIG", str(config))
    for name in ("CDM_TASK_SERVICE_URL", "KBASE_AUTH_TOKEN", "JPY_PARENT_PID"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@asynccontextmanager
async def running_server(
    folder: Path, settings: Mapping[str, Any], config: Mapping[str, Any] | None = None
) -> AsyncIterator[Server]:
    """A Jupyter server with CTS, in this event loop."""
    (sock,) = bind_sockets(0, "127.0.0.1")
    port = sock.getsockname()[1]
    given = {
        "ServerApp": {"base_url": "/a%40b/", **(config or {}).get("ServerApp", {})},
        "IdentityProvider": {"token": JUPYTER_TOKEN, **(config or {}).get("IdentityProvider", {})},
        "CTSExtension": {
            "preset": "embedded",
            "home": str(folder / "cts-home"),
            "owner": "ana",
            "overrides": {"local": {"cpus": 2, "memory": 1_000_000_000}, **settings},
        },
    }
    app = ServerApp(
        config=Config(given),
        port=port,
        root_dir=str(folder),
        allow_root=True,
        jpserver_extensions={"cts_jupyter": True},
    )
    app.init_signal = lambda: None
    app.initialize(argv=[], new_httpserver=False, find_extensions=False)
    front = HTTPServer(app.web_app, max_body_size=app.max_body_size)
    front.add_socket(sock)
    await app.extension_manager.start_all_extensions()
    files = list(Path(app.runtime_dir).glob("cts-server-*.json"))
    token = json.loads(files[0].read_text())["token"] if files else "no-server-file"
    async with httpx.AsyncClient(timeout=30) as client:
        yield Server(app, f"http://127.0.0.1:{port}/a%40b/cts", token, client)
    front.stop()
    await app._cleanup()
    await front.close_all_connections()


@pytest.fixture
async def server(
    isolated: Path, cts_settings: Mapping[str, Any], jupyter_config: Mapping[str, Any]
) -> AsyncIterator[Server]:
    async with running_server(isolated, cts_settings, jupyter_config) as running:
        yield running
