"""Tests of staging for the site ``kbase``: CTS, the staging service and KBase's auth, over sockets in this event loop."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from cts_core.config.sections import RefdataSettings
from cts_core.config.settings import Settings
from cts_core.engine import adapters
from cts_core.engine import refdata_staging as engine_staging
from cts_core.errors import ConfigError
from cts_core.identity.kbase import KBaseIdentity
from cts_core.model.refdata import AdminReferenceData, RefdataReport
from cts_core.model.site import SiteName
from cts_core.refdata.stager import Stager
from cts_core.refdata_service import service as module
from cts_core.refdata_service.cts_client import CTSUpdates
from cts_core.refdata_service.service import RefdataService
from cts_core.sites.htcondor import refdata_client as client_module
from cts_core.sites.htcondor.refdata_client import RefdataClient
from tests.harness.factories import make_refdata, make_refdata_status, packed
from tests.harness.reporting_site import ReportingSite
from tests.harness.server import ServerHarness, running_server
from tests.services.proxy import Proxy
from tests.simulators.kbase_auth import KBaseAuth

pytestmark = pytest.mark.slow

TIMEOUT_SECONDS = 90.0
ADMIN_ROLES = ("CTS_ADMIN", "KBASE_STAFF", "HAS_NERSC_ACCOUNT")
Json = dict[str, Any]


async def _stream(data: bytes) -> AsyncIterator[bytes]:
    yield data


class LogRecorder(logging.Handler):
    """Records the messages of CTS's loggers, independently of Jupyter's configuration."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += f"{record.getMessage()}\n"

    async def wait_for(self, text: str) -> None:
        async def is_logged() -> bool:
            return text in self.text

        await until(is_logged)


class StagedSite(ReportingSite):
    """A ReportingSite whose reference data is staged by the staging service, as at the site kbase."""

    staging: RefdataClient | None = None

    async def close(self) -> None:
        if self.staging is not None:
            await self.staging.close()

    async def stage_refdata(self, refdata: AdminReferenceData) -> RefdataReport:
        if self.staging is not None:
            await self.staging.stage(refdata)
        return await super().stage_refdata(refdata)


class StagingHarness:
    """CTS, and the staging service once it is started, each behind a proxy."""

    def __init__(self, folder: Path, auth: KBaseAuth, cts: ServerHarness, site: StagedSite) -> None:
        self.folder = folder
        self.cts = cts
        self.site = site
        self.cts_proxy = Proxy(httpx.URL(cts.root).port or 0)
        self.staging_proxy = Proxy(0)
        self.admin = auth.add("eve", *ADMIN_ROLES)
        self.cts_token = auth.add("cts", "CDM_TASK_SERVICE_SERVER")
        self.data = folder / "refdata"
        self.staging: ServerHarness | None = None
        self._auth = auth
        self._running = AsyncExitStack()

    def settings(self, **changes: object) -> Json:
        refdata = {
            "local_path": str(self.data),
            "metadata_path": str(self.folder / "sums"),
            "cts_url": self.cts_proxy.url + httpx.URL(self.cts.root).raw_path.decode(),
            "cts_token": self._auth.add("stager", "CTS_REFDATA_SERVICE"),
            "min_free": 0,
        }
        return {
            "objects": "directory",
            "objects_dir": str(self.folder / "cts-home" / "objects"),
            "log_format": "plain",
            "kbase": {"auth_url": self._auth.url, "admin_roles": ["CTS_ADMIN"]},
            "refdata": refdata | changes,
        }

    async def start(self, **changes: object) -> None:
        """Start the staging service, or restart it."""
        await self.stop()
        self.staging = await self._running.enter_async_context(
            running_server(
                self.folder, self.settings(**changes), {"CTSExtension": {"preset": "refdata"}}
            )
        )
        self.staging_proxy.target = httpx.URL(self.staging.root).port or 0

    async def stop(self) -> None:
        await self._running.aclose()
        self.staging = None

    def enable_staging(self, token: str | None = None) -> None:
        """Make CTS request staging at the server behind the staging service's proxy."""
        url = self.staging_proxy.url + httpx.URL(self.cts.root).raw_path.decode()
        self.site.staging = RefdataClient(
            RefdataSettings(server_url=url, server_token=SecretStr(token or self.cts_token))
        )

    async def request(self, method: str, path: str, token: str | None) -> httpx.Response:
        """Send a request to the staging service; return the response."""
        assert self.staging is not None
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        url = self.staging.root + path
        response = await self.staging.http.request(method, url, headers=headers)
        assert response.headers["x-request-id"]
        return response

    async def staging_status(self, refdata_id: str) -> Json:
        response = await self.request("GET", f"/refdata/{refdata_id}/", self.admin)
        assert response.status_code == 200, response.text
        status: Json = response.json()
        return status

    async def put(self, path: str, content: bytes) -> None:
        response = await self.cts.put(
            "/files/content", params={"path": path}, content=content, token=self.admin
        )
        assert response.status_code == 200, response.text

    async def register(self, path: str = "data/ref.tgz", *, unpack: bool = True) -> str:
        response = await self.cts.post(
            f"/admin/refdata/{path}", params={"unpack": unpack}, token=self.admin
        )
        assert response.status_code == 200, response.text
        return str(response.json()["id"])

    async def status(self, refdata_id: str) -> Json:
        response = await self.cts.get(f"/admin/refdata/{refdata_id}", token=self.admin)
        (status,) = response.json()["statuses"]
        assert isinstance(status, dict)
        return status

    async def until(self, refdata_id: str, *states: str) -> Json:
        async def is_reached() -> bool:
            return (await self.status(refdata_id))["state"] in states

        await until(is_reached)
        return await self.status(refdata_id)

    async def wait_until_delayed(self, refdata_id: str) -> str:
        reason = ""

        async def is_delayed() -> bool:
            nonlocal reason
            reason = (await self.staging_status(refdata_id)).get("waits_for", "")
            return bool(reason)

        await until(is_delayed)
        return reason


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not await condition():
            await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_staging, "BUSY_SECONDS", 0.02)
    monkeypatch.setattr(module, "CYCLE_SECONDS", 0.02)
    monkeypatch.setattr(module, "FIRST_DELAY_SECONDS", 0.05)
    monkeypatch.setattr(client_module, "FIRST_DELAY_SECONDS", 0.05)
    monkeypatch.setattr(client_module, "MAX_DELAY_SECONDS", 0.2)
    monkeypatch.setattr(client_module, "CHECK_SECONDS", 0.2)


@pytest.fixture
def recorder() -> Iterator[LogRecorder]:
    handler = LogRecorder()
    loggers = [logging.getLogger(name) for name in ("cts_core", "cts_jupyter")]
    for logger in loggers:
        logger.addHandler(handler)
    yield handler
    for logger in loggers:
        logger.removeHandler(handler)


@pytest.fixture
async def harness(
    isolated: Path, kbase_auth: KBaseAuth, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[StagingHarness]:
    site = StagedSite()
    monkeypatch.setattr(adapters, "sites", lambda *_: {SiteName.KBASE: site})
    kbase = {"auth_url": kbase_auth.url, "admin_roles": ["CTS_ADMIN"]}
    settings = {"identity": "kbase", "sites": [], "kbase": kbase}
    async with running_server(isolated, settings) as cts:
        harness = StagingHarness(isolated, kbase_auth, cts, site)
        yield harness
        await harness.stop()
    harness.cts_proxy.close()
    harness.staging_proxy.close()


STATES = ["created", "download_submitted", "complete"]


async def test_reference_data_is_staged_and_reported(harness: StagingHarness) -> None:
    await harness.start()
    harness.enable_staging()
    await harness.put("data/ref.tgz", packed(**{"a/b": b"hello", "c": b""}))
    refdata_id = await harness.register()
    status = await harness.until(refdata_id, "complete", "error")
    assert [step["state"] for step in status["transition_times"]] == STATES
    folder = harness.data / refdata_id
    assert (folder / "a/b").read_bytes() == b"hello"
    assert sorted(path.name for path in folder.iterdir()) == ["a", "c"]
    hello, nothing = (hashlib.md5(text).hexdigest() for text in (b"hello", b""))
    assert await harness.staging_status(refdata_id) == {
        "status": "done",
        "files": [
            {"path": "a/b", "md5": hello, "size": 5},
            {"path": "c", "md5": nothing, "size": 0},
        ],
    }
    sums = json.loads((harness.folder / "sums" / refdata_id / "md5.json").read_text())
    assert sums["a/b"] == {"md5": hello, "size": 5}
    # No temporary file is left, and a file that is not unpacked is stored unchanged.
    await harness.put("data/ref.txt", b"as it is")
    other = await harness.register("data/ref.txt", unpack=False)
    await harness.until(other, "complete")
    assert (harness.data / other / "ref.txt").read_bytes() == b"as it is"

    async def is_tidy() -> bool:
        return not list(harness.data.glob(".cts-*/*"))

    await until(is_tidy)
    assert (await harness.staging_status("never-heard-of")) == {"status": "none"}


async def test_authorization(harness: StagingHarness, kbase_auth: KBaseAuth) -> None:
    await harness.start()
    root = (await harness.request("GET", "/", None)).json()
    assert root["service_name"] == "CDM Refdata Service"
    paths = (await harness.request("GET", "/openapi.json", None)).json()
    assert paths["info"]["title"] == "CDM Refdata Service"
    assert {"/", "/refdata/{refdata_id}", "/refdata/{refdata_id}/{cluster}"} <= paths[
        "paths"
    ].keys()
    ready = (await harness.request("GET", "/ready", None)).json()
    assert {d["name"]: d["state"] for d in ready["dependencies"]} == {
        "objects": "up",
        "identity": "up",
        "cts": "up",
    }
    figures = await harness.request("GET", "/metrics", harness.admin)
    assert 'cts_dependency_up{dependency="cts"} 1.0' in figures.text

    ana = kbase_auth.add("ana")
    stager = kbase_auth.add("stager", "CTS_REFDATA_SERVICE")
    half_admin = kbase_auth.add("eva", "CTS_ADMIN")
    unknown = "a3f9c1de-5e52-45f8-9a0e-2b6ad0f3c8a1"

    async def status(method: str, path: str, token: str | None) -> tuple[int, int | None]:
        response = await harness.request(method, path, token)
        return response.status_code, response.json().get("error", {}).get("appcode")

    stage, view = f"/refdata/{unknown}/kbase", f"/refdata/{unknown}/"
    assert await status("POST", stage, None) == (401, 10010)
    assert await status("POST", stage, "no-such-token") == (401, 10020)
    for token in (ana, stager, harness.admin):
        assert await status("POST", stage, token) == (403, 20000)
    assert await status("POST", stage, harness.cts_token) == (404, 40060)
    elsewhere = f"/refdata/{unknown}/local"
    assert await status("POST", elsewhere, harness.cts_token) == (400, 100000)
    assert await status("POST", f"/refdata/{unknown}/moon", harness.cts_token) == (400, 30010)
    # A letter, but not one of the schema's pattern.
    assert await status("GET", "/refdata/%C3%A9", harness.cts_token) == (400, 30010)
    for token in (ana, stager):
        assert await status("GET", view, token) == (403, 20000)
    # An admin needs no role of CTS's sites here.
    for token in (harness.admin, half_admin, harness.cts_token):
        assert await status("GET", view, token) == (200, None)
    assert await status("GET", "/whoami", ana) == (404, 40000)
    assert await status("PUT", view, harness.admin) == (405, None)


async def test_concurrent_requests_stage_once(
    harness: StagingHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.start()
    claims: list[str] = []
    fetches: list[str] = []
    update, fetch = CTSUpdates.update, Stager._fetch_and_place

    async def counted_update(self: CTSUpdates, refdata_id: str, state: Any, *args: Any) -> None:
        claims.append(state.value)
        await update(self, refdata_id, state, *args)

    async def counted_fetch(self: Stager, refdata: Any) -> None:
        fetches.append(refdata.id)
        await fetch(self, refdata)

    monkeypatch.setattr(CTSUpdates, "update", counted_update)
    monkeypatch.setattr(Stager, "_fetch_and_place", counted_fetch)
    await harness.put("data/ref.tgz", packed(a=b"a"))
    refdata_id = await harness.register()
    path = f"/refdata/{refdata_id}/kbase"
    for _ in range(2):
        responses = await asyncio.gather(
            *(harness.request("POST", path, harness.cts_token) for _ in range(5))
        )
        assert [response.status_code for response in responses] == [204] * 5
        assert [response.content for response in responses] == [b""] * 5
        await harness.until(refdata_id, "complete")
    assert claims == ["download_submitted", "complete"]
    assert fetches == [refdata_id]


@pytest.mark.parametrize(
    ("registered", "stored", "match"),
    [
        (b"no archive at all", b"no archive at all", "damaged, or not packed by gzip"),
        (packed(a=b"a"), packed(a=b"changed"), "when they were registered"),
    ],
    ids=["damaged", "changed"],
)
async def test_damaged_or_changed_reference_data_fails(
    harness: StagingHarness, registered: bytes, stored: bytes, match: str
) -> None:
    await harness.start()
    await harness.put("data/ref.tgz", registered)
    refdata_id = await harness.register()
    await harness.cts.engine._objects.write("data/ref.tgz", _stream(stored))
    harness.enable_staging()
    status = await harness.until(refdata_id, "error", "complete")
    assert status["state"] == "error"
    assert status["error"] == "An unexpected error occurred."
    assert match in status["admin_error"]
    assert not (harness.data / refdata_id).exists()

    async def is_forgotten() -> bool:
        return await harness.staging_status(refdata_id) == {"status": "none"}

    await until(is_forgotten)


async def test_full_disk_is_waited_for_across_a_restart(harness: StagingHarness) -> None:
    await harness.start(min_free=1 << 62)
    harness.enable_staging()
    await harness.put("data/ref.tgz", packed(a=b"a"))
    refdata_id = await harness.register()
    await harness.until(refdata_id, "download_submitted")
    assert "are kept free" in await harness.wait_until_delayed(refdata_id)
    assert (await harness.status(refdata_id))["state"] == "download_submitted"
    await harness.start()
    await harness.until(refdata_id, "complete")


async def test_report_while_cts_is_unavailable(
    harness: StagingHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.start()
    go = asyncio.Event()
    fetch = Stager._fetch_and_place

    async def held_fetch(self: Stager, refdata: Any) -> None:
        await go.wait()
        await fetch(self, refdata)

    monkeypatch.setattr(Stager, "_fetch_and_place", held_fetch)
    harness.enable_staging()
    await harness.put("data/ref.tgz", packed(a=b"a"))
    refdata_id = await harness.register()
    await harness.until(refdata_id, "download_submitted")
    harness.cts_proxy.closed = True
    harness.cts_proxy.cut()
    go.set()

    async def is_staged() -> bool:
        return (await harness.staging_status(refdata_id))["status"] == "done"

    await until(is_staged)

    def fail_fetch(self: Stager, refdata: Any) -> None:
        raise AssertionError("it is staged already")

    monkeypatch.setattr(Stager, "_fetch_and_place", fail_fetch)
    # A service that was stopped before it could report does so after the next start.
    await harness.start()
    assert (await harness.status(refdata_id))["state"] == "download_submitted"
    harness.cts_proxy.closed = False
    await harness.until(refdata_id, "complete")


async def test_staging_service_is_unavailable(
    harness: StagingHarness, recorder: LogRecorder
) -> None:
    harness.staging_proxy.closed = True
    harness.enable_staging()
    await harness.put("data/ref.tgz", packed(a=b"a"))
    refdata_id = await harness.register()
    await recorder.wait_for("refdata.server_url) cannot be used")
    await harness.start()
    harness.staging_proxy.closed = False
    status = await harness.until(refdata_id, "complete", "error")
    assert status["state"] == "complete"


async def test_token_is_not_sent_to_another_service(
    harness: StagingHarness, recorder: LogRecorder
) -> None:
    harness.staging_proxy.target = harness.cts_proxy.target
    harness.enable_staging()
    await harness.put("data/ref.tgz", packed(a=b"a"))
    refdata_id = await harness.register()
    await recorder.wait_for("its root says that it is 'CDM Task Service'")
    assert harness.cts_token not in recorder.text
    assert f"POST /a%40b/cts/refdata/{refdata_id}" not in recorder.text
    assert (await harness.status(refdata_id))["state"] == "created"


async def test_token_without_the_role_is_no_terminal_error(
    harness: StagingHarness, recorder: LogRecorder, kbase_auth: KBaseAuth
) -> None:
    await harness.start()
    harness.enable_staging(kbase_auth.add("nobody"))
    await harness.put("data/ref.tgz", packed(a=b"a"))
    refdata_id = await harness.register()
    await recorder.wait_for("it refuses the token that is set here")
    assert (await harness.status(refdata_id))["state"] == "created"


async def test_unfinished_folder_of_another_program_is_replaced(harness: StagingHarness) -> None:
    await harness.start()
    await harness.put("data/ref.tgz", packed(a=b"a"))
    refdata_id = await harness.register()
    (harness.data / refdata_id).mkdir()
    (harness.data / refdata_id / "half").write_bytes(b"h")
    assert await harness.staging_status(refdata_id) == {"status": "none"}
    harness.enable_staging()
    await harness.until(refdata_id, "complete")
    assert [path.name for path in (harness.data / refdata_id).iterdir()] == ["a"]


async def test_lost_request_is_repeated(harness: StagingHarness) -> None:
    await harness.start(min_free=1 << 62)
    harness.enable_staging()
    await harness.put("data/ref.tgz", packed(a=b"a"))
    refdata_id = await harness.register()
    await harness.until(refdata_id, "download_submitted")
    await harness.stop()
    shutil.rmtree(harness.data)
    await harness.start()
    await harness.until(refdata_id, "complete")


async def test_request_unknown_to_cts_is_dropped(
    harness: StagingHarness, recorder: LogRecorder
) -> None:
    await harness.start(min_free=1 << 62)
    harness.enable_staging()
    await harness.put("data/ref.tgz", packed(a=b"a"))
    refdata_id = await harness.register()
    await harness.until(refdata_id, "download_submitted")
    await harness.stop()
    (request,) = harness.data.glob(".cts-asked/*.json")
    content = json.loads(request.read_text())
    request.with_name("gone.json").write_text(json.dumps(content | {"id": "gone"}))
    await harness.start()

    async def is_given_up() -> bool:
        return "Reference data gone is given up" in recorder.text

    await until(is_given_up)
    await harness.until(refdata_id, "complete")
    assert await harness.staging_status("gone") == {"status": "none"}


class DeployedStagingService:
    """A staging service that does only what the contract says, and starts anew at every request."""

    def __init__(self, harness: StagingHarness, token: str) -> None:
        self.tokens: list[str] = []
        self.views = 0
        service = self
        root = httpx.URL(harness.cts.root).raw_path.decode()

        class Root(RequestHandler):
            def get(self) -> None:
                self.finish({"service_name": "CDM Refdata Service", "version": "0.1.0"})

        class Stage(RequestHandler):
            async def post(self, refdata_id: str) -> None:
                service.tokens.append(self.request.headers["Authorization"])
                async with httpx.AsyncClient(base_url=harness.cts.root) as http:
                    refdata = await http.get(f"/refdata/id/{refdata_id}")
                    assert refdata.json()["file"] == "data/ref.tgz"
                    headers = {"Authorization": f"Bearer {token}"}
                    update = f"/external_exec/refdata/{refdata_id}/kbase/update"
                    claimed = await http.put(f"{update}/download_submitted", headers=headers)
                    assert claimed.status_code == 204, claimed.text
                self.set_status(204)

        class View(RequestHandler):
            def get(self, _: str) -> None:
                service.views += 1
                self.set_status(403)
                self.finish({"error": {"httpcode": 403, "appcode": 20000, "message": "no"}})

        (sock,) = bind_sockets(0, "127.0.0.1")
        self.server = HTTPServer(
            Application(
                [
                    (f"{root}/", Root),
                    (rf"{root}/refdata/([\w-]+)/kbase", Stage),
                    (rf"{root}/refdata/([\w-]+)/", View),
                ]
            )
        )
        self.server.add_socket(sock)
        harness.staging_proxy.target = sock.getsockname()[1]


async def test_deployed_staging_service_gets_one_request(
    harness: StagingHarness, kbase_auth: KBaseAuth
) -> None:
    token = kbase_auth.add("stager", "CTS_REFDATA_SERVICE")
    deployed = DeployedStagingService(harness, token)
    await harness.put("data/ref.tgz", packed(a=b"a"))
    harness.enable_staging()
    refdata_id = await harness.register()
    await harness.until(refdata_id, "download_submitted")

    async def was_viewed() -> bool:
        return deployed.views > 2

    await until(was_viewed)
    assert deployed.tokens == [f"Bearer {harness.cts_token}"]
    response = await harness.cts.put(
        f"/external_exec/refdata/{refdata_id}/kbase/update/complete", token=token
    )
    assert response.status_code == 204
    assert (await harness.status(refdata_id))["state"] == "complete"
    deployed.server.stop()
    await deployed.server.close_all_connections()


async def test_requests_beyond_the_limit_are_refused(
    harness: StagingHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 1)
    await harness.start(min_free=1 << 62)
    await harness.put("data/ref.tgz", packed(a=b"a"))
    await harness.put("data/two.tgz", packed(a=b"a"))
    first, second = await harness.register(), await harness.register("data/two.tgz")
    paths = [f"/refdata/{refdata_id}/kbase" for refdata_id in (first, first, second)]
    responses = [await harness.request("POST", path, harness.cts_token) for path in paths]
    assert [response.status_code for response in responses] == [204, 204, 503]
    assert (await harness.status(second))["state"] == "created"


async def test_request_while_cts_is_unavailable(harness: StagingHarness) -> None:
    await harness.start()
    harness.cts_proxy.closed = True
    harness.cts_proxy.cut()
    refdata_id = make_refdata(statuses=[make_refdata_status(cluster=SiteName.KBASE)]).id
    response = await harness.request("POST", f"/refdata/{refdata_id}/kbase", harness.cts_token)
    assert response.status_code == 503
    assert "appcode" not in response.json()["error"]
    assert await harness.staging_status(refdata_id) == {"status": "none"}


@pytest.mark.parametrize(
    ("roles", "path", "match"),
    [
        (("CTS_EXTERNAL_EXECUTOR",), None, "stager lacks the role CTS_REFDATA_SERVICE"),
        (None, None, "refdata.cts_token: KBase's auth service refuses it"),
        (("CTS_REFDATA_SERVICE",), "/proc/none", "refdata.local_path"),
    ],
)
async def test_start_is_refused(
    tmp_path: Path, kbase_auth: KBaseAuth, roles: tuple[str, ...] | None, path: str, match: str
) -> None:
    token = "unknown" if roles is None else kbase_auth.add("stager", *roles)
    settings = Settings(
        preset="refdata",
        identity="kbase",
        sites=[],
        home=tmp_path,
        kbase={"auth_url": kbase_auth.url, "admin_roles": ["CTS_ADMIN"]},
        refdata={
            "local_path": path or str(tmp_path / "data"),
            "metadata_path": str(tmp_path / "sums"),
            "cts_url": "http://127.0.0.1:9/cts",
            "cts_token": token,
        },
    )
    service = RefdataService.from_settings(
        settings, KBaseIdentity(settings.kbase), adapters.object_store(settings)
    )
    with pytest.raises(ConfigError, match=match):
        await service.start()
