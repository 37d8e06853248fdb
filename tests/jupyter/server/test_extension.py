"""The server extension: its start, its failures, its stop, and the file that it leaves for kernels meanwhile."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cts_core.errors import UnavailableError
from cts_jupyter.discovery import NoConnectionError, find_connection
from cts_jupyter.server import extension
from cts_jupyter.server.garbage import PASSES_APART
from tests.harness.server import ServerHarness, running_server


def runtime(folder: Path) -> Path:
    return folder / "jupyter-runtime_dir"


def server_files(folder: Path) -> list[Path]:
    return list(runtime(folder).glob("*cts-server-*"))


@pytest.mark.parametrize(
    ("cts_settings", "named"),
    [
        ({"no_such_setting": 1}, "no_such_setting"),
        ({"max_cpu_hours": -1}, "max_cpu_hours"),
        ({"objects_dir": "/dev/null/objects"}, "/dev/null"),
    ],
)
async def test_invalid_settings_leave_jupyter_running(
    server: ServerHarness, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    for path in ("", "/jobs", "/nope", "/static/card.js"):
        response = await server.get(path)
        error = response.json()["error"]
        assert response.status_code == 503
        assert named in error["message"]
        assert "appcode" not in error
    base = server.root.removesuffix("/cts")
    headers = {"Authorization": "token jupyters-own-token"}
    assert (await server.http.get(f"{base}/api/status", headers=headers)).status_code == 200
    assert server_files(Path(server.app.root_dir)) == []
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.slow
async def test_garbage_is_collected_at_quiet_moments_while_it_runs(isolated: Path) -> None:
    before = gc.get_threshold()
    async with running_server(isolated, {}):
        assert gc.get_threshold() == (*before[:2], PASSES_APART)
    assert gc.get_threshold() == before


async def test_threads_give_way_to_the_event_loop_soon_while_it_runs(isolated: Path) -> None:
    before = sys.getswitchinterval()
    async with running_server(isolated, {}):
        assert sys.getswitchinterval() == pytest.approx(extension.SWITCH_SECONDS)
    assert sys.getswitchinterval() == pytest.approx(before)


async def test_responses_give_the_reason_of_a_failed_start(isolated: Path) -> None:
    (isolated / "cts-home").write_text("a file where the folder should be")
    async with running_server(isolated, {}) as server:
        response = await server.get("")
        assert response.status_code == 503
        assert "cts-home" in response.json()["error"]["message"]


async def test_server_file(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_server(isolated, {}) as server:
        (file,) = server_files(isolated)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        content = json.loads(file.read_text())
        assert content["url"] == server.root
        assert content["pid"] == os.getpid()
        monkeypatch.setenv("JPY_PARENT_PID", str(os.getpid()))
        connection = find_connection()
        assert (connection.socket, connection.token()) == (
            Path(content["socket"]),
            server.kernel_token,
        )
    assert server_files(isolated) == []
    with pytest.raises(NoConnectionError, match="No CTS is running"):
        find_connection()


async def test_requests_wait_for_a_starting_engine(isolated: Path) -> None:
    async with running_server(isolated, {}) as server:
        lifecycle = server.extension._lifecycle
        engine = await lifecycle.wait_until_running()
        lifecycle._core = None
        lifecycle._started.clear()
        asked = server.get("/whoami")
        lifecycle.start(engine)
        assert (await asked).status_code == 200


async def test_live_jobs_count_as_activity(
    server: ServerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extension, "ACTIVITY_SECONDS", 0.01)
    found = iter([UnavailableError("away"), False, True])
    before = server.app.web_app.last_activity()

    async def any_live() -> bool:
        answer = next(found, True)
        if isinstance(answer, UnavailableError):
            raise answer
        return answer

    settings = server.app.web_app.settings
    counting = asyncio.create_task(
        extension.count_jobs_as_activity(SimpleNamespace(any_live=any_live), settings)
    )
    async with asyncio.timeout(10):
        while server.app.web_app.last_activity() == before:
            await asyncio.sleep(0.01)
    counting.cancel()


@pytest.mark.slow
def test_server_extension_is_valid() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "jupyter", "server", "extension", "list"],
        capture_output=True, text=True, check=True, timeout=110,
    )  # fmt: skip
    output = listed.stdout + listed.stderr
    lines = [line for line in output.splitlines() if "cts_jupyter" in line]
    assert any("enabled" in line for line in lines), output
    assert any("OK" in line for line in lines), output


def test_windows_is_refused_with_one_line(
    isolated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cts_jupyter.server import headless  # noqa: PLC0415 - a module of its own for one test

    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit) as stopped:
        headless.main([])
    monkeypatch.undo()
    assert "Linux and macOS" in str(stopped.value)
    assert "\n" not in str(stopped.value)
