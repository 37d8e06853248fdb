"""The health check of a container: which server it asks, and what it returns without one."""

from __future__ import annotations

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from cts_jupyter.server.probe import health_url, main


def server_file(folder: Path, pid: int, age: float, **changes: object) -> None:
    file = folder / f"jpserver-{pid}.json"
    file.write_text(json.dumps({"port": 8888, "base_url": "/", "secure": False, **changes}))
    os.utime(file, (1e9 - age, 1e9 - age))


def test_the_server_that_started_last_is_asked(tmp_path: Path):
    server_file(tmp_path, 7, 1, port=9000, base_url="/apis/", secure=True)
    server_file(tmp_path, 9, 2)
    assert health_url(tmp_path) == "https://127.0.0.1:9000/apis/cts/health"


def test_no_server_is_not_healthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    assert main() == 1
    assert "no server has started" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", '{"port": 1', "{}"], ids=repr)
def test_file_that_is_being_written_is_no_traceback(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: str,
):
    (tmp_path / "jpserver-7.json").write_text(content)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    assert main() == 1
    assert "Traceback" not in capsys.readouterr().err


def test_the_environments_proxy_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Healthy) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        server_file(tmp_path, 7, 1, port=server.server_port)
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        assert main() == 0
