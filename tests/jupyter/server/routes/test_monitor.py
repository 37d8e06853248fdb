"""``/health``, ``/ready``, ``/metrics`` and the log, of a real server."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from cts_core.errors import UnavailableError
from cts_jupyter.server.http import authentication
from tests.harness.server import ServerHarness, running_server

TOKEN = "the-monitors-token"


@pytest.fixture
def cts_settings() -> dict[str, Any]:
    return {"metrics_token": TOKEN}


def samples(text: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("route", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("status") in (None, "200")
    }


async def test_health_needs_neither_token_nor_engine(server: ServerHarness):
    response = await server.get("/health", token=None)
    assert response.json() == {"status": "alive"}
    server.extension._lifecycle.fail("it is broken")
    assert (await server.get("/health", token=None)).status_code == 200
    assert (await server.get("/ready", token=None)).status_code == 503


async def test_ready_names_each_dependency(server: ServerHarness, monkeypatch: pytest.MonkeyPatch):
    for token in (None, "kernel", TOKEN, "wrong"):
        response = await server.get("/ready", token=token)
        assert response.status_code == 200
        readiness = response.json()
        assert readiness["status"] == "ready"
        states = {d["name"]: d["state"] for d in readiness["dependencies"]}
        assert states["records"] == states["objects"] == states["site local"] == "up"

    async def away() -> None:
        raise UnavailableError("host inner.example.org does not answer")

    monkeypatch.setattr("cts_core.observability.health.FRESH_SECONDS", -1.0)
    dependencies = server.engine._health._dependencies
    for name, status, code in (("site local", "degraded", 200), ("records", "not ready", 503)):
        monkeypatch.setattr(dependencies[name], "probe", away)
        # The engine's own calls meanwhile find it there.
        monkeypatch.setattr(dependencies[name], "success_means_up", False)
        for token in (None, TOKEN):
            response = await server.http.get(
                f"{server.root}/ready",
                headers={"Authorization": f"Bearer {token}"} if token else {},
            )
            assert response.status_code == code
            assert response.json()["status"] == status
            assert ("inner.example.org" in response.text) == (token is not None)


async def test_metrics_are_for_admins_and_monitors(server: ServerHarness):
    assert (await server.get("/metrics", token=None)).status_code == 401
    assert (await server.get("/metrics", token="wrong")).status_code == 401
    await server.get("/jobs")
    for token in ("kernel", TOKEN):
        response = await server.get("/metrics", token=token)
        assert response.status_code == 200
        figures = samples(response.text)
        assert figures["cts_request_seconds_count", "/jobs"] == 1
    # The monitor's token opens nothing else.
    assert (await server.get("/jobs", token=TOKEN)).status_code == 401


async def test_metric_labels_are_bounded(server: ServerHarness):
    for path in ("/jobs/x-1", "/jobs/x-2", "/nowhere/1", "/nowhere/2"):
        await server.get(path)
    text = (await server.get("/metrics")).text
    assert 'route="/jobs/{job_id}"' in text
    assert 'route="none"' in text
    assert "x-1" not in text
    assert "nowhere" not in text


async def test_duration_of_a_stream_is_that_of_its_first_piece(server: ServerHarness):
    async with server.events():
        text = (await server.get("/metrics")).text
        assert samples(text)["cts_event_subscribers", ""] == 1
    text = (await server.get("/metrics")).text
    assert samples(text)["cts_event_subscribers", ""] == 0


def test_no_monitor_without_a_metrics_token():
    assert authentication.identify_monitor({"Authorization": "Bearer "}, SecretStr("")) is None
    assert authentication.identify_monitor({}, SecretStr("")) is None


async def test_json_log(isolated: Path, capfd: pytest.CaptureFixture[str]):
    async with running_server(isolated, {"log_format": "json", "group": "blue"}) as server:
        for handler in logging.getLogger("ServerApp").handlers:
            assert type(handler.formatter).__name__ == "JSONFormatter"
        response = await server.get("/jobs/none-such")
        request_id = response.headers["x-request-id"]
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    entries = [json.loads(line) for line in lines]
    assert all(line["group"] == "blue" for line in entries)
    ours = [line for line in entries if line.get("request_id") == request_id]
    assert [line for line in ours if "404" in line["message"]]
