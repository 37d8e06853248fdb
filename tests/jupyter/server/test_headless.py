"""``jupyter cts``: every path outside ``/cts`` is 404; and a real process of it, stopped and started again."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from jupyter_core.paths import jupyter_runtime_dir
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.routing import ReversibleRuleRouter
from tornado.web import Application

from cts_core.config.load import load_settings
from cts_jupyter.discovery import Connection, ServerFile
from cts_jupyter.server.extension import CTSExtension
from cts_jupyter.server.headless import HeadlessApp
from cts_jupyter.server.http.handler import CTSHandler
from tests.harness.paths import COPY_INPUTS
from tests.harness.server import submission
from tests.services.server import START_SECONDS, free_port

pytestmark = pytest.mark.slow

SAMPLES = [
    "/", "/api", "/api/", "/api/contents", "/api/kernels", "/api/kernelspecs", "/api/sessions", "/api/terminals",
    "/api/shutdown", "/api/status", "/api/me", "/api/security/csp-report", "/api/events", "/api/config/x",
    "/api/nbconvert", "/api/spec.yaml", "/login", "/logout", "/metrics", "/static/base/images/logo.png",
    "/static/favicon.ico", "/favicon.ico", "/robots.txt", "/custom/custom.js", "/kernelspecs/python3/logo-64x64.png",
    "/files/x", "/view/x", "/nbconvert/html/x", "/tree", "/lab", "/notebooks/x.ipynb", "/terminals/1", "/edit/x",
    "/ctsx", "/cts.json", "//cts", "/CTS", "/x/cts", "/cts%2fwhoami", "/nbextensions/x.js", "/services/x",
]  # fmt: skip


def handlers(router: ReversibleRuleRouter) -> Iterator[tuple[str, Any]]:
    """Iterate over the router's rules, at any depth."""
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


def test_flag_selects_the_staging_service(app: HeadlessApp) -> None:
    app.parse_command_line(["--refdata"])
    assert CTSExtension(parent=app).load_overrides() == {"preset": "refdata"}


async def test_environment_file_is_read_before_the_settings(
    app: HeadlessApp, isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Set and removed, so that what the file sets is removed at the end.
    monkeypatch.setenv("CTS_CONTACT", "")
    monkeypatch.delenv("CTS_CONTACT")
    file = isolated / "cts.env"
    file.write_text("CTS_CONTACT='the operators'\n")
    words = [f"--CTSExtension.home={isolated / 'home'}", f"--env-file={file}"]
    app.initialize(words, new_httpserver=False)
    assert load_settings(CTSExtension(parent=app).load_overrides()).contact == "the operators"
    await app._cleanup()


def test_environment_file_that_cannot_be_read_ends_the_start(
    app: HeadlessApp, isolated: Path
) -> None:
    with pytest.raises(SystemExit) as ended:
        app.initialize([f"--env-file={isolated / 'none'}"], new_httpserver=False)
    assert ended.value.code == 1


async def test_router_has_no_rules_but_those_of_cts(app: HeadlessApp, isolated: Path) -> None:
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
                response = await client.request(method, path, headers=token)
                assert response.status_code == 404, (method, path)
                assert "set-cookie" not in response.headers
        assert (await client.get("/cts/whoami", headers=token)).status_code == 200
    front.stop()
    await app._cleanup()
    await front.close_all_connections()


@dataclass
class Service:
    """Runs processes of ``jupyter cts`` on one home, one after the other."""

    folder: Path
    environment: dict[str, str]
    process: subprocess.Popen[str] | None = None
    output: list[str] = field(default_factory=list)
    within: Sequence[str] = ()
    """The command that runs the service."""

    def start(self) -> Connection:
        self.process = subprocess.Popen(
            [*self.within, sys.executable, "-m", "jupyter", "cts", f"--port={free_port()}", "--allow-root", f"--home={self.folder / 'home'}"],
            env=self.environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=self.folder,
        )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        assert self.process.stderr
        for line in self.process.stderr:
            self.output.append(line)
            if "CTS serves" in line or time.monotonic() > deadline:
                break
        # At its port, where everybody comes, and not at the socket of its kernels.
        left = ServerFile.model_validate_json(server_file().read_bytes())
        return Connection(left.url, lambda: left.token)

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


def server_file() -> Path:
    """Return the file that the latest server has left for kernels."""
    files = Path(jupyter_runtime_dir()).glob("cts-server-*.json")
    return max(files, key=lambda file: file.stat().st_mtime_ns)


def client(connection: Connection) -> httpx.Client:
    return httpx.Client(
        base_url=connection.url,
        headers={"Authorization": f"Bearer {connection.token()}"},
        timeout=30,
    )


@pytest.mark.parametrize("death", [signal.SIGTERM, signal.SIGKILL])
def test_idempotency_key_and_job_outlive_the_process(service: Service, death: int) -> None:
    with client(service.start()) as first:
        assert first.get("/whoami").json()["user"] == "ana"
        first.post(
            "/admin/images/host/tool", json={"executable": str(COPY_INPUTS)}
        ).raise_for_status()
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
    for header in re.findall(r"Bearer \S+", text):
        assert header.startswith("Bearer <token>")


def test_help_names_the_options(isolated: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "jupyter", "cts", "--help"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    for word in ("--port", "--home", "--owner", "--preset", "/cts"):
        assert word in shown.stdout
    assert "notebook-dir" not in shown.stdout


def begin_upload(
    pool: ThreadPoolExecutor, http: httpx.Client, go_on: threading.Event
) -> Future[httpx.Response]:
    """Start an upload that the server has begun to read, and that waits until it may continue."""
    read = threading.Event()

    def trickle() -> Iterator[bytes]:
        # More than sockets buffer: once it is gone, the server is reading.
        yield b"x" * (64 << 20)
        read.set()
        go_on.wait(20)
        yield b"last"

    path = {"path": "data/in/slow"}
    upload = pool.submit(lambda: http.put("/files/content", params=path, content=trickle()))
    assert read.wait(20)
    return upload


def read_events(http: httpx.Client) -> list[str]:
    with http.stream("GET", "/events") as events:
        return list(events.iter_lines())


def wait_until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_refused(url: str) -> bool:
    try:
        httpx.get(url)
    except httpx.ConnectError:
        return True
    return False


def test_shutdown_drains_requests(service: Service) -> None:
    connection = service.start()
    go_on = threading.Event()
    assert service.process
    with client(connection) as http, ThreadPoolExecutor(2) as pool:
        stream = pool.submit(read_events, http)
        slow = begin_upload(pool, http, go_on)
        wait_until(lambda: "cts_event_subscribers 1.0" in http.get("/metrics").text)
        service.process.send_signal(signal.SIGTERM)
        # Streams of events end at once, others are waited for.
        assert "event: begin" in stream.result(20)
        wait_until(lambda: is_refused(connection.url))
        assert service.process.poll() is None
        go_on.set()
        assert slow.result(20).status_code == 200
    assert service.process.wait(20) == 0
    service.stop()
    assert "Traceback" not in "".join(service.output)


def test_second_signal_ends_the_process_at_once(service: Service) -> None:
    connection = service.start()
    go_on = threading.Event()
    assert service.process
    with client(connection) as http, ThreadPoolExecutor(1) as pool:
        begin_upload(pool, http, go_on)
        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: is_refused(connection.url))
        service.stop()
        assert service.process.returncode == -signal.SIGTERM
        go_on.set()


def test_requests_beyond_the_drain_time_are_cut_off(service: Service) -> None:
    service.environment["CTS_DRAIN_S"] = "0.2"
    connection = service.start()
    go_on = threading.Event()
    with client(connection) as http, ThreadPoolExecutor(1) as pool:
        begin_upload(pool, http, go_on)
        service.stop()
        go_on.set()
    assert service.process
    assert service.process.returncode == 0


def test_stalled_upload_holds_up_no_stop(service: Service) -> None:
    service.environment |= {"CTS_DRAIN_S": "600", "CTS_LIMITS__BODY_WINDOW_S": "1.5"}
    connection = service.start()
    go_on = threading.Event()
    with client(connection) as http, ThreadPoolExecutor(1) as pool:
        upload = begin_upload(pool, http, go_on)
        service.stop()
        go_on.set()
        assert upload.exception(20) or upload.result().status_code == 408
    assert service.process
    assert service.process.returncode == 0
    assert "have not ended" not in "".join(service.output)


@pytest.mark.parametrize("sent", [b"", b"GET /cts/health HTT"])
def test_connection_without_a_whole_head_is_closed(service: Service, sent: bytes) -> None:
    service.environment["CTS_LIMITS__IDLE_S"] = "0.5"
    address = urlsplit(service.start().url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as idle:
        idle.sendall(sent)
        assert idle.recv(1) == b""


def test_configured_root_path(service: Service) -> None:
    service.environment["CTS_ROOT_PATH"] = "/apis/tasks"
    connection = service.start()
    assert connection.url.endswith("/apis/tasks/cts")
    with client(connection) as http:
        assert http.get("/whoami").json()["user"] == "ana"
    assert httpx.get(connection.url.replace("/apis/tasks", "") + "/health").status_code == 404
    probe = [sys.executable, "-m", "cts_jupyter.server.probe"]
    assert subprocess.run(probe, env=service.environment, check=False).returncode == 0
    service.stop()
    assert subprocess.run(probe, env=service.environment, check=False).returncode == 1


def test_configured_prefixes(service: Service) -> None:
    service.environment["CTS_PREFIXES"] = "/, /services/cts, /cts/v1/"
    connection = service.start()
    assert connection.url.endswith("/cts")
    with client(connection) as http:
        server = connection.url.removesuffix("/cts")
        for prefix in ("", "/cts", "/services/cts", "/cts/v1"):
            for path in ("/whoami", "//whoami/"):
                assert http.get(f"{server}{prefix}{path}").json()["user"] == "ana"
            for path in ("", "/"):
                root = http.get(f"{server}{prefix}{path}").json()
                assert root["service_name"] == "CDM Task Service"
            unknown = http.get(f"{server}{prefix}/services/whoami")
            assert (unknown.status_code, unknown.json()["error"]["appcode"]) == (404, 40000)
    service.stop()


def test_too_few_open_files_are_logged_at_start(service: Service) -> None:
    service.environment["CTS_LIMITS__ALL_STREAMS"] = "3000"
    for most, is_logged in ((2000, True), (4000, False)):
        service.within = ["sh", "-c", f'ulimit -Sn 1024; ulimit -Hn {most}; exec "$@"', "sh"]
        service.start()
        service.stop()
        output = "".join(service.output)
        assert (
            "limits.all_streams (3000) is more than this process can serve" in output
        ) is is_logged
        service.output.clear()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"CTS_RECORDS": "paper"}, "records: paper is not available"),
        ({"CTS_OBJECTS": "s3"}, "s3.url is needed, because objects is s3"),
        ({"CTS_HOME": "/dev/null/x"}, "/dev/null"),
    ],
)
def test_process_exits_if_cts_cannot_start(
    service: Service, variables: dict[str, str], message: str
) -> None:
    service.environment.update(variables)
    process = subprocess.run(
        [sys.executable, "-m", "jupyter", "cts", f"--port={free_port()}", "--allow-root"],
        env=service.environment, capture_output=True, text=True, timeout=60, cwd=service.folder, check=False,
    )  # fmt: skip
    assert process.returncode == 1
    assert message in process.stderr
    assert "Traceback" not in process.stderr
