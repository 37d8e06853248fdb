"""The extension as Jupyter loads it: by pytest-jupyter, as Jupyter's own extensions are tested."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.auth import Authorizer
from jupyter_server.serverapp import ServerApp
from tornado.httpclient import HTTPClientError, HTTPResponse

from cts_jupyter.server.extension import CTSExtension


class DenyingAuthorizer(Authorizer):
    """An authorizer that denies access to CTS and to nothing else."""

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        return resource != "cts"


async def error_of(response: Awaitable[HTTPResponse]) -> dict[str, Any]:
    """Await a request that must fail, and return its error."""
    with pytest.raises(HTTPClientError) as raised:
        await response
    body = raised.value.response.body
    error = json.loads(body)["error"]
    assert error["httpcode"] == raised.value.code
    return error


def content(response: HTTPResponse) -> Any:
    assert response.code == 200
    return json.loads(response.body)


def test_it_is_enabled_and_loaded(serverapp: ServerApp, extension: CTSExtension) -> None:
    manager = serverapp.extension_manager
    assert manager.extensions["cts_jupyter"].enabled
    assert manager.extension_apps["cts_jupyter"] == {extension}
    assert isinstance(extension, CTSExtension)
    assert extension.is_serving


@pytest.mark.parametrize("jp_base_url", ["/", "/user/ana/", "/a%40b/"])
async def test_the_root_below_the_base_url(serverapp: ServerApp, jp_fetch, jp_base_url) -> None:
    assert serverapp.base_url == jp_base_url
    for path in (("cts",), ("cts", "")):
        assert content(await jp_fetch(*path))["service_name"] == "CDM Task Service"
    described = content(await jp_fetch("cts", "openapi.json"))
    assert "/whoami" in described["paths"]


async def test_whoami_with_jupyters_token(serverapp: ServerApp, jp_fetch) -> None:
    assert content(await jp_fetch("cts", "whoami"))["user"] == "ana"


async def test_whoami_without_a_token(
    serverapp: ServerApp, http_server_client, jp_base_url
) -> None:
    error = await error_of(http_server_client.fetch(f"{jp_base_url}cts/whoami"))
    assert (error["httpcode"], error["appcode"]) == (401, 10010)


async def test_whoami_with_a_wrong_token(serverapp: ServerApp, jp_fetch) -> None:
    headers = {"Authorization": "Bearer not-a-token"}
    error = await error_of(jp_fetch("cts", "whoami", headers=headers))
    assert (error["httpcode"], error["appcode"]) == (401, 10020)


@pytest.mark.parametrize("server_config", [{"authorizer_class": DenyingAuthorizer}])
async def test_jupyters_authorizer_decides(serverapp: ServerApp, jp_fetch) -> None:
    error = await error_of(jp_fetch("cts", "whoami"))
    assert (error["httpcode"], error["appcode"]) == (403, 20000)
    content(await jp_fetch("api", "status"))


async def test_a_foreign_host_is_forbidden(serverapp: ServerApp, jp_fetch) -> None:
    headers = {"Host": "attacker.example"}
    error = await error_of(jp_fetch("cts", "whoami", headers=headers))
    assert (error["httpcode"], error["appcode"]) == (403, 20000)


@pytest.mark.parametrize("cts_config", [{"overrides": {"no_such_setting": 1}}])
async def test_a_configuration_error_leaves_jupyter_running_and_says_why(
    serverapp: ServerApp, extension: CTSExtension, jp_fetch, caplog: pytest.LogCaptureFixture
) -> None:
    assert not extension.is_serving
    for path in ("", "whoami", "jobs"):
        error = await error_of(jp_fetch("cts", path))
        assert error["httpcode"] == 503
        assert "no_such_setting" in error["message"]
    content(await jp_fetch("api", "status"))
    assert "no_such_setting" in caplog.text


async def test_shutdown_stops_the_engine(
    serverapp: ServerApp, extension: CTSExtension, jp_fetch, jp_runtime_dir: Path
) -> None:
    drivers = list(extension._core._drivers.values())
    assert drivers
    assert not any(driver._task.done() for driver in drivers)
    assert content(await jp_fetch("cts", "ready"))["status"] == "ready"
    (file,) = jp_runtime_dir.glob("cts-server-*.json")
    await serverapp._cleanup()
    assert not extension.is_serving
    assert not file.exists()
    error = await error_of(jp_fetch("cts", "whoami"))
    assert error["httpcode"] == 503
    assert "stopping" in error["message"]
    assert all(driver._task.done() for driver in drivers)
