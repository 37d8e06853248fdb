"""``jupyter cts``: everything outside ``/cts`` is 404; and a real process of it, stopped and started again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import TOOL, submission
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.routing import ReversibleRuleRouter
from tornado.web import Application

from cts_jupyter.api.handler import CTSHandler
from cts_jupyter.connection import Connection, find_connection
from cts_jupyter.headless import HeadlessApp

SAMPLES = [
    "/", "/api", "/api/", "/api/contents", "/api/kernels", "/api/kernelspecs", "/api/sessions", "/api/terminals",
    "/api/shutdown", "/api/status", "/api/me", "/api/security/csp-report", "/api/events", "/api/config/x",
    "/api/nbconvert", "/api/spec.yaml", "/login", "/logout", "/metrics", "/static/base/images/logo.png",
    "/static/favicon.ico", "/favicon.ico", "/robots.txt", "/custom/custom.js", "/kernelspecs/python3/logo-64x64.png",
    "/files/x", "/view/x", "/nbconvert/html/x", "/tree", "/lab", "/notebooks/x.ipynb", "/terminals/1", "/edit/x",
    "/ctsx", "/cts.json", "//cts", "/CTS", "/x/cts", "/cts%2fwhoami", "/nbextensions/x.js", "/services/x",
]  # fmt: skip


def handlers(router: ReversibleRuleRouter) -> Iterator[tuple[str, Any]]:
    """Every rule that the router holds, at any depth."""
    for rule in router.rules:
        target = rule.target
        if isinstance(target, ReversibleRuleRouter):
            yield from handlers(target)
        else:
            pattern = getattr(rule.matcher, "regex", None)
            yield (pattern.pattern if pattern else str(rule.matcher)), target


@pytest.fixture
def app(isolated: Path) -> Iterator[HeadlessApp]:
    app = HeadlessApp(allow_root=True, root_dir=str(isolated))
    app.init_signal = lambda: None
    yield app
    app.clear_instance()


async def test_router_knows_nothing_but_cts(app: HeadlessApp, isolated: Path) -> None:
    hostile = [
        "--ServerApp.jpserver_extensions={'jupyterlab': True, 'jupyter_server_terminals': True}"
    ]
    app.initialize([f"--CTSExtension.home={isolated / 'home'}", *hostile], new_httpserver=False)
    assert list(app.extension_manager.extensions) == ["cts_jupyter"]
    application: Application = app.web_app
    rules = list(handlers(application.default_router))
    assert [target for _, target in rules] == [CTSHandler]

    (sock,) = bind_sockets(0, "127.0.0.1")
    front = HTTPServer(application)
    front.add_socket(sock)
    await app.extension_manager.start_all_extensions()
    port = sock.getsockname()[1]
    token = {"Authorization": f"token {app.identity_provider.token}"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for path in SAMPLES:
            for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
                answer = await client.request(method, path, headers=token)
                assert answer.status_code == 404, (method, path)
                assert "set-cookie" not in answer.headers
        assert (await client.get("/cts/whoami", headers=token)).status_code == 200
    front.stop()
    await app._cleanup()
    await front.close_all_connections()


@dataclass
class Service:
    """Processes of ``jupyter cts`` on one home, one after the other."""

    folder: Path
    environment: dict[str, str]
    process: subprocess.Popen[str] | None = None
    output: list[str] = field(default_factory=list)

    def start(self) -> Connection:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jupyter", "cts", "--port=0", "--allow-root", f"--home={self.folder / 'home'}"],
            env=self.environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=self.folder,
        )  # fmt: skip
        deadline = time.monotonic() + 30
        assert self.process.stderr
        for line in self.process.stderr:
            self.output.append(line)
            if "CTS serves" in line or time.monotonic() > deadline:
                break
        return find_connection()

    def stop(self, number: int = signal.SIGTERM) -> None:
        assert self.process
        self.process.send_signal(number)
        _, rest = self.process.communicate(timeout=30)
        self.output.append(rest)


@pytest.fixture
def service(isolated: Path) -> Iterator[Service]:
    service = Service(isolated, {**os.environ, "CTS_OWNER": "ana", "CTS_PRESET": "embedded"})
    yield service
    if service.process and service.process.poll() is None:
        service.process.kill()
        service.process.communicate()


def client(found: Connection) -> httpx.Client:
    return httpx.Client(
        base_url=found.url, headers={"Authorization": f"Bearer {found.token()}"}, timeout=30
    )


@pytest.mark.parametrize("death", [signal.SIGTERM, signal.SIGKILL])
def test_key_and_job_outlive_the_process(service: Service, death: int) -> None:
    with client(service.start()) as first:
        assert first.get("/whoami").json()["user"] == "ana"
        first.post("/admin/images/host/tool", json={"executable": str(TOOL)}).raise_for_status()
        for name in ("a", "b"):
            put = first.put("/files/content", params={"path": f"data/in/{name}"}, content=b"x")
            put.raise_for_status()
        key = {"Idempotency-Key": "k"}
        job_id = first.post("/jobs", json=submission(), headers=key).json()["job_id"]
    service.stop(death)
    with client(service.start()) as second:
        assert second.post("/jobs", json=submission(), headers=key).json()["job_id"] == job_id
        with second.stream("GET", f"/events?job={job_id}&after=2020-01-01T00:00:00Z") as events:
            assert any('"state":"complete"' in line for line in events.iter_lines())
    service.stop()
    text = "".join(service.output)
    assert "CTS 0." in text
    assert "Traceback" not in text
    for found in re.findall(r"Bearer \S+", text):
        assert found.startswith("Bearer <token>")


def test_help_names_what_it_takes(isolated: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "jupyter", "cts", "--help"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    for word in ("--port", "--home", "--owner", "--preset", "/cts"):
        assert word in shown.stdout
    assert "notebook-dir" not in shown.stdout
