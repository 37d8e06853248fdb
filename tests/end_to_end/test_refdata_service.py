"""Staging for the site ``kbase``: CTS, the staging service and KBase's auth, over real sockets in this event loop."""

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

PATIENCE = 90.0
ADMIN_ROLES = ("CTS_ADMIN", "KBASE_STAFF", "HAS_NERSC_ACCOUNT")
Json = dict[str, Any]


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


class Heard(logging.Handler):
    """What our loggers say, whatever Jupyter makes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += f"{record.getMessage()}\n"

    async def until_told(self, text: str) -> None:
        async def is_told() -> bool:
            return text in self.text

        await until(is_told)


class StagedSite(ReportingSite):
    """Has its reference data staged as the site kbase has."""

    staging: RefdataClient | None = None

    async def close(self) -> None:
        if self.staging is not None:
            await self.staging.close()

    async def stage_refdata(self, refdata: AdminReferenceData) -> RefdataReport:
        if self.staging is not None:
            await self.staging.stage(refdata)
        return await super().stage_refdata(refdata)


class Pair:
    """CTS, and the staging service once it is started, each reached through a door."""

    def __init__(self, folder: Path, auth: KBaseAuth, cts: ServerHarness, site: StagedSite) -> None:
        self.folder = folder
        self.cts = cts
        self.site = site
        self.to_cts = Proxy(httpx.URL(cts.root).port or 0)
        self.to_staging = Proxy(0)
        self.admin = auth.add("eve", *ADMIN_ROLES)
        self.cts_itself = auth.add("cts", "CDM_TASK_SERVICE_SERVER")
        self.data = folder / "refdata"
        self.staging: ServerHarness | None = None
        self._auth = auth
        self._running = AsyncExitStack()

    def settings(self, **changes: object) -> Json:
        refdata = {
            "local_path": str(self.data),
            "metadata_path": str(self.folder / "sums"),
            "cts_url": self.to_cts.url + httpx.URL(self.cts.root).raw_path.decode(),
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
        """Start the staging service, another time if it was."""
        await self.stop()
        self.staging = await self._running.enter_async_context(
            running_server(
                self.folder, self.settings(**changes), {"CTSExtension": {"preset": "refdata"}}
            )
        )
        self.to_staging.target = httpx.URL(self.staging.root).port or 0

    async def stop(self) -> None:
        await self._running.aclose()
        self.staging = None

    def ask_there(self, token: str | None = None) -> None:
        """Have CTS ask the staging service, or whoever is behind that door."""
        url = self.to_staging.url + httpx.URL(self.cts.root).raw_path.decode()
        self.site.staging = RefdataClient(
            RefdataSettings(server_url=url, server_token=SecretStr(token or self.cts_itself))
        )

    async def ask(self, method: str, path: str, token: str | None) -> httpx.Response:
        """The staging service's answer."""
        assert self.staging is not None
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        url = self.staging.root + path
        answer = await self.staging.http.request(method, url, headers=headers)
        assert answer.headers["x-request-id"]
        return answer

    async def told(self, refdata_id: str) -> Json:
        answer = await self.ask("GET", f"/refdata/{refdata_id}/", self.admin)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    async def put(self, path: str, content: bytes) -> None:
        answer = await self.cts.put(
            "/files/content", params={"path": path}, content=content, token=self.admin
        )
        assert answer.status_code == 200, answer.text

    async def register(self, path: str = "data/ref.tgz", *, unpack: bool = True) -> str:
        answer = await self.cts.post(
            f"/admin/refdata/{path}", params={"unpack": unpack}, token=self.admin
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    async def status(self, refdata_id: str) -> Json:
        answer = await self.cts.get(f"/admin/refdata/{refdata_id}", token=self.admin)
        (found,) = answer.json()["statuses"]
        assert isinstance(found, dict)
        return found

    async def until(self, refdata_id: str, *states: str) -> Json:
        async def is_there() -> bool:
            return (await self.status(refdata_id))["state"] in states

        await until(is_there)
        return await self.status(refdata_id)

    async def until_waits(self, refdata_id: str) -> str:
        found = ""

        async def does_wait() -> bool:
            nonlocal found
            found = (await self.told(refdata_id)).get("waits_for", "")
            return bool(found)

        await until(does_wait)
        return found


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_staging, "BUSY_SECONDS", 0.02)
    monkeypatch.setattr(module, "PASS_SECONDS", 0.02)
    monkeypatch.setattr(module, "FIRST_DELAY_SECONDS", 0.05)
    monkeypatch.setattr(client_module, "FIRST_DELAY_SECONDS", 0.05)
    monkeypatch.setattr(client_module, "MAX_DELAY_SECONDS", 0.2)
    monkeypatch.setattr(client_module, "CHECK_SECONDS", 0.2)


@pytest.fixture
def heard() -> Iterator[Heard]:
    handler = Heard()
    loggers = [logging.getLogger(name) for name in ("cts_core", "cts_jupyter")]
    for logger in loggers:
        logger.addHandler(handler)
    yield handler
    for logger in loggers:
        logger.removeHandler(handler)


@pytest.fixture
async def pair(
    isolated: Path, kbase_auth: KBaseAuth, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Pair]:
    site = StagedSite()
    monkeypatch.setattr(adapters, "sites", lambda *_: {SiteName.KBASE: site})
    kbase = {"auth_url": kbase_auth.url, "admin_roles": ["CTS_ADMIN"]}
    settings = {"identity": "kbase", "sites": [], "kbase": kbase}
    async with running_server(isolated, settings) as cts:
        pair = Pair(isolated, kbase_auth, cts, site)
        yield pair
        await pair.stop()
    pair.to_cts.close()
    pair.to_staging.close()


STATES = ["created", "download_submitted", "complete"]


async def test_asked_for_staged_and_reported(pair: Pair) -> None:
    await pair.start()
    pair.ask_there()
    await pair.put("data/ref.tgz", packed(**{"a/b": b"hello", "c": b""}))
    refdata_id = await pair.register()
    status = await pair.until(refdata_id, "complete", "error")
    assert [step["state"] for step in status["transition_times"]] == STATES
    folder = pair.data / refdata_id
    assert (folder / "a/b").read_bytes() == b"hello"
    assert sorted(path.name for path in folder.iterdir()) == ["a", "c"]
    hello, nothing = (hashlib.md5(text).hexdigest() for text in (b"hello", b""))
    assert await pair.told(refdata_id) == {
        "status": "done",
        "files": [
            {"path": "a/b", "md5": hello, "size": 5},
            {"path": "c", "md5": nothing, "size": 0},
        ],
    }
    sums = json.loads((pair.folder / "sums" / refdata_id / "md5.json").read_text())
    assert sums["a/b"] == {"md5": hello, "size": 5}
    # Nothing is left of the way there, and a file that is not unpacked stays as it is.
    await pair.put("data/ref.txt", b"as it is")
    other = await pair.register("data/ref.txt", unpack=False)
    await pair.until(other, "complete")
    assert (pair.data / other / "ref.txt").read_bytes() == b"as it is"

    async def is_tidy() -> bool:
        return not list(pair.data.glob(".cts-*/*"))

    await until(is_tidy)
    assert (await pair.told("never-heard-of")) == {"status": "none"}


async def test_who_may_do_what(pair: Pair, kbase_auth: KBaseAuth) -> None:
    await pair.start()
    root = (await pair.ask("GET", "/", None)).json()
    assert root["service_name"] == "CDM Refdata Service"
    paths = (await pair.ask("GET", "/openapi.json", None)).json()
    assert paths["info"]["title"] == "CDM Refdata Service"
    assert {"/", "/refdata/{refdata_id}", "/refdata/{refdata_id}/{cluster}"} <= paths[
        "paths"
    ].keys()
    ready = (await pair.ask("GET", "/ready", None)).json()
    assert {d["name"]: d["state"] for d in ready["dependencies"]} == {
        "objects": "up",
        "identity": "up",
        "cts": "up",
    }
    figures = await pair.ask("GET", "/metrics", pair.admin)
    assert 'cts_dependency_up{dependency="cts"} 1.0' in figures.text

    ana = kbase_auth.add("ana")
    stager = kbase_auth.add("stager", "CTS_REFDATA_SERVICE")
    half_admin = kbase_auth.add("eva", "CTS_ADMIN")
    unknown = "a3f9c1de-5e52-45f8-9a0e-2b6ad0f3c8a1"

    async def answer(method: str, path: str, token: str | None) -> tuple[int, int | None]:
        found = await pair.ask(method, path, token)
        return found.status_code, found.json().get("error", {}).get("appcode")

    stage, look = f"/refdata/{unknown}/kbase", f"/refdata/{unknown}/"
    assert await answer("POST", stage, None) == (401, 10010)
    assert await answer("POST", stage, "no-such-token") == (401, 10020)
    for token in (ana, stager, pair.admin):
        assert await answer("POST", stage, token) == (403, 20000)
    assert await answer("POST", stage, pair.cts_itself) == (404, 40060)
    elsewhere = f"/refdata/{unknown}/local"
    assert await answer("POST", elsewhere, pair.cts_itself) == (400, 100000)
    assert await answer("POST", f"/refdata/{unknown}/moon", pair.cts_itself) == (400, 30010)
    # A letter, but not as the description's pattern has it.
    assert await answer("GET", "/refdata/%C3%A9", pair.cts_itself) == (400, 30010)
    for token in (ana, stager):
        assert await answer("GET", look, token) == (403, 20000)
    # Who lacks a role that CTS' sites need is an admin here all the same.
    for token in (pair.admin, half_admin, pair.cts_itself):
        assert await answer("GET", look, token) == (200, None)
    assert await answer("GET", "/whoami", ana) == (404, 40000)
    assert await answer("PUT", look, pair.admin) == (405, None)


async def test_asked_many_times_at_once_it_is_staged_once(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pair.start()
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
    await pair.put("data/ref.tgz", packed(a=b"a"))
    refdata_id = await pair.register()
    path = f"/refdata/{refdata_id}/kbase"
    for _ in range(2):
        answers = await asyncio.gather(*(pair.ask("POST", path, pair.cts_itself) for _ in range(5)))
        assert [answer.status_code for answer in answers] == [204] * 5
        assert [answer.content for answer in answers] == [b""] * 5
        await pair.until(refdata_id, "complete")
    assert claims == ["download_submitted", "complete"]
    assert fetches == [refdata_id]


@pytest.mark.parametrize(
    ("registered", "found", "match"),
    [
        (b"no archive at all", b"no archive at all", "damaged, or not packed by gzip"),
        (packed(a=b"a"), packed(a=b"changed"), "when they were registered"),
    ],
    ids=["damaged", "changed"],
)
async def test_what_cannot_be_staged(
    pair: Pair, registered: bytes, found: bytes, match: str
) -> None:
    await pair.start()
    await pair.put("data/ref.tgz", registered)
    refdata_id = await pair.register()
    await pair.cts.engine._objects.write("data/ref.tgz", _pieces(found))
    pair.ask_there()
    status = await pair.until(refdata_id, "error", "complete")
    assert status["state"] == "error"
    assert status["error"] == "An unexpected error occurred."
    assert match in status["admin_error"]
    assert not (pair.data / refdata_id).exists()

    async def is_forgotten() -> bool:
        return await pair.told(refdata_id) == {"status": "none"}

    await until(is_forgotten)


async def test_a_disk_without_room_is_waited_for_also_over_a_restart(pair: Pair) -> None:
    await pair.start(min_free=1 << 62)
    pair.ask_there()
    await pair.put("data/ref.tgz", packed(a=b"a"))
    refdata_id = await pair.register()
    await pair.until(refdata_id, "download_submitted")
    assert "are kept free" in await pair.until_waits(refdata_id)
    assert (await pair.status(refdata_id))["state"] == "download_submitted"
    await pair.start()
    await pair.until(refdata_id, "complete")


async def test_cts_is_away_when_it_is_to_be_told(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pair.start()
    go = asyncio.Event()
    fetch = Stager._fetch_and_place

    async def held_fetch(self: Stager, refdata: Any) -> None:
        await go.wait()
        await fetch(self, refdata)

    monkeypatch.setattr(Stager, "_fetch_and_place", held_fetch)
    pair.ask_there()
    await pair.put("data/ref.tgz", packed(a=b"a"))
    refdata_id = await pair.register()
    await pair.until(refdata_id, "download_submitted")
    pair.to_cts.closed = True
    pair.to_cts.cut()
    go.set()

    async def is_staged() -> bool:
        return (await pair.told(refdata_id))["status"] == "done"

    await until(is_staged)

    def not_again(self: Stager, refdata: Any) -> None:
        raise AssertionError("it is staged already")

    monkeypatch.setattr(Stager, "_fetch_and_place", not_again)
    # Killed before it could report, it reports after the next start.
    await pair.start()
    assert (await pair.status(refdata_id))["state"] == "download_submitted"
    pair.to_cts.closed = False
    await pair.until(refdata_id, "complete")


async def test_the_staging_service_is_away(pair: Pair, heard: Heard) -> None:
    pair.to_staging.closed = True
    pair.ask_there()
    await pair.put("data/ref.tgz", packed(a=b"a"))
    refdata_id = await pair.register()
    await heard.until_told("refdata.server_url) cannot be used")
    await pair.start()
    pair.to_staging.closed = False
    status = await pair.until(refdata_id, "complete", "error")
    assert status["state"] == "complete"


async def test_another_service_never_sees_the_token(pair: Pair, heard: Heard) -> None:
    pair.to_staging.target = pair.to_cts.target
    pair.ask_there()
    await pair.put("data/ref.tgz", packed(a=b"a"))
    refdata_id = await pair.register()
    await heard.until_told("its root says that it is 'CDM Task Service'")
    assert pair.cts_itself not in heard.text
    assert f"POST /a%40b/cts/refdata/{refdata_id}" not in heard.text
    assert (await pair.status(refdata_id))["state"] == "created"


async def test_a_token_without_its_role_is_no_end(
    pair: Pair, heard: Heard, kbase_auth: KBaseAuth
) -> None:
    await pair.start()
    pair.ask_there(kbase_auth.add("nobody"))
    await pair.put("data/ref.tgz", packed(a=b"a"))
    refdata_id = await pair.register()
    await heard.until_told("it refuses the token that is set here")
    assert (await pair.status(refdata_id))["state"] == "created"


async def test_what_another_program_left_unfinished_is_begun_anew(pair: Pair) -> None:
    await pair.start()
    await pair.put("data/ref.tgz", packed(a=b"a"))
    refdata_id = await pair.register()
    (pair.data / refdata_id).mkdir()
    (pair.data / refdata_id / "half").write_bytes(b"h")
    assert await pair.told(refdata_id) == {"status": "none"}
    pair.ask_there()
    await pair.until(refdata_id, "complete")
    assert [path.name for path in (pair.data / refdata_id).iterdir()] == ["a"]


async def test_what_the_service_has_lost_is_asked_for_again(pair: Pair) -> None:
    await pair.start(min_free=1 << 62)
    pair.ask_there()
    await pair.put("data/ref.tgz", packed(a=b"a"))
    refdata_id = await pair.register()
    await pair.until(refdata_id, "download_submitted")
    await pair.stop()
    shutil.rmtree(pair.data)
    await pair.start()
    await pair.until(refdata_id, "complete")


async def test_what_cts_does_not_know_any_more_is_given_up(pair: Pair, heard: Heard) -> None:
    await pair.start(min_free=1 << 62)
    pair.ask_there()
    await pair.put("data/ref.tgz", packed(a=b"a"))
    refdata_id = await pair.register()
    await pair.until(refdata_id, "download_submitted")
    await pair.stop()
    (kept,) = pair.data.glob(".cts-asked/*.json")
    told = json.loads(kept.read_text())
    kept.with_name("gone.json").write_text(json.dumps(told | {"id": "gone"}))
    await pair.start()

    async def is_given_up() -> bool:
        return "Reference data gone is given up" in heard.text

    await until(is_given_up)
    await pair.until(refdata_id, "complete")
    assert await pair.told("gone") == {"status": "none"}


class Deployed:
    """A staging service of which no more holds than the contract says, and which begins each time that it is asked."""

    def __init__(self, pair: Pair, token: str) -> None:
        self.asked: list[str] = []
        self.looks = 0
        ours = self
        root = httpx.URL(pair.cts.root).raw_path.decode()

        class Root(RequestHandler):
            def get(self) -> None:
                self.finish({"service_name": "CDM Refdata Service", "version": "0.1.0"})

        class Stage(RequestHandler):
            async def post(self, refdata_id: str) -> None:
                ours.asked.append(self.request.headers["Authorization"])
                async with httpx.AsyncClient(base_url=pair.cts.root) as http:
                    found = await http.get(f"/refdata/id/{refdata_id}")
                    assert found.json()["file"] == "data/ref.tgz"
                    headers = {"Authorization": f"Bearer {token}"}
                    update = f"/external_exec/refdata/{refdata_id}/kbase/update"
                    claimed = await http.put(f"{update}/download_submitted", headers=headers)
                    assert claimed.status_code == 204, claimed.text
                self.set_status(204)

        class Look(RequestHandler):
            def get(self, _: str) -> None:
                ours.looks += 1
                self.set_status(403)
                self.finish({"error": {"httpcode": 403, "appcode": 20000, "message": "no"}})

        (sock,) = bind_sockets(0, "127.0.0.1")
        self.server = HTTPServer(
            Application(
                [
                    (f"{root}/", Root),
                    (rf"{root}/refdata/([\w-]+)/kbase", Stage),
                    (rf"{root}/refdata/([\w-]+)/", Look),
                ]
            )
        )
        self.server.add_socket(sock)
        pair.to_staging.target = sock.getsockname()[1]


async def test_the_deployed_staging_service_is_asked_once(
    pair: Pair, kbase_auth: KBaseAuth
) -> None:
    token = kbase_auth.add("stager", "CTS_REFDATA_SERVICE")
    deployed = Deployed(pair, token)
    await pair.put("data/ref.tgz", packed(a=b"a"))
    pair.ask_there()
    refdata_id = await pair.register()
    await pair.until(refdata_id, "download_submitted")

    async def was_looked_at() -> bool:
        return deployed.looks > 2

    await until(was_looked_at)
    assert deployed.asked == [f"Bearer {pair.cts_itself}"]
    answer = await pair.cts.put(
        f"/external_exec/refdata/{refdata_id}/kbase/update/complete", token=token
    )
    assert answer.status_code == 204
    assert (await pair.status(refdata_id))["state"] == "complete"
    deployed.server.stop()
    await deployed.server.close_all_connections()


async def test_no_more_is_taken_than_can_be_kept(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 1)
    await pair.start(min_free=1 << 62)
    await pair.put("data/ref.tgz", packed(a=b"a"))
    await pair.put("data/two.tgz", packed(a=b"a"))
    first, second = await pair.register(), await pair.register("data/two.tgz")
    paths = [f"/refdata/{refdata_id}/kbase" for refdata_id in (first, first, second)]
    answers = [await pair.ask("POST", path, pair.cts_itself) for path in paths]
    assert [answer.status_code for answer in answers] == [204, 204, 503]
    assert (await pair.status(second))["state"] == "created"


async def test_cts_cannot_be_asked_what_to_stage(pair: Pair) -> None:
    await pair.start()
    pair.to_cts.closed = True
    pair.to_cts.cut()
    refdata_id = make_refdata(statuses=[make_refdata_status(cluster=SiteName.KBASE)]).id
    answer = await pair.ask("POST", f"/refdata/{refdata_id}/kbase", pair.cts_itself)
    assert answer.status_code == 503
    assert "appcode" not in answer.json()["error"]
    assert await pair.told(refdata_id) == {"status": "none"}


@pytest.mark.parametrize(
    ("roles", "path", "match"),
    [
        (("CTS_EXTERNAL_EXECUTOR",), None, "stager lacks the role CTS_REFDATA_SERVICE"),
        (None, None, "refdata.cts_token: KBase's auth service refuses it"),
        (("CTS_REFDATA_SERVICE",), "/proc/none", "refdata.local_path"),
    ],
)
async def test_it_does_not_start(
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
