"""The client at NERSC, as admins and monitoring see it: ``/admin/clients/nersc``, ``/ready`` and ``/metrics``."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness.jaws_settings import jaws_settings
from tests.harness.server import ServerHarness, running_server
from tests.services.s3 import S3Server
from tests.simulators.jaws_sites import JAWSSites, jaws_sites

__all__ = ["jaws_sites"]
PATH = "/admin/clients/nersc"


@pytest.mark.slow
async def test_client_is_shown_and_its_end_is_warned_of(
    isolated: Path, jaws_sites: JAWSSites, minio: S3Server
):
    nersc = jaws_sites.nersc
    nersc.expires_at = datetime.now(UTC) + timedelta(hours=20)
    minio.empty()
    minio.put({"logs/x": b""})
    settings = jaws_settings(jaws_sites, minio, isolated)
    async with running_server(isolated, settings, {}) as server:
        await _until_available(server)
        shown = (await server.get(PATH)).json()
        assert shown["id"] == nersc.client_id
        assert datetime.fromisoformat(shown["expires_at"]) == nersc.expires_at
        assert shown["expires_in"].startswith("PT19H59M")
        enough = await server.get(PATH, params={"require_lifetime": "PT10H"})
        assert enough.json()["id"] == nersc.client_id
        for lifetime, appcode in (("P1D", 30200), ("PT0.5S", 30010)):
            refused = await server.get(PATH, params={"require_lifetime": lifetime})
            assert (refused.status_code, refused.json()["error"]["appcode"]) == (400, appcode)
        (warning,) = (await server.get("/ready")).json()["warnings"]
        assert nersc.client_id in warning
        assert "expires at" in warning
        assert (await server.get("/ready", token=None)).json()["warnings"] == []
        lifetimes = await _lifetimes(server)
        assert set(lifetimes) == {"perlmutter-jaws", "lawrencium-jaws"}
        assert all(19 * 3600 < seconds < 20 * 3600 for seconds in lifetimes.values())


async def _until_available(server: ServerHarness) -> None:
    async with asyncio.timeout(60):
        while not all(s["available"] for s in (await server.get("/sites")).json()["sites"]):
            await asyncio.sleep(0.1)


async def _lifetimes(server: ServerHarness) -> dict[str, float]:
    text = (await server.get("/metrics")).text
    return {
        sample.labels["site"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "cts_client_lifetime_seconds"
    }


async def test_service_without_sites_of_jaws_has_no_client(server: ServerHarness):
    refused = await server.get(PATH)
    assert (refused.status_code, refused.json()["error"]["appcode"]) == (400, 60000)
    assert "not configured" in refused.json()["error"]["message"]
