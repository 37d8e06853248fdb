"""Bodies that stall, come too slowly, or find no room in memory; and connections without a request."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cts_core.config.sections import LimitsSettings
from cts_core.errors import TooManyRequestsError
from cts_core.objects.directory import DirectoryStore
from cts_core.objects.s3 import upload
from cts_jupyter.server.http.bodies import SMALL_BODY, Bodies, BodyBudget, BodyClock
from cts_jupyter.server.http.call import UPLOAD_BUFFER
from tests.harness.factories import make_job_record
from tests.harness.server import ServerHarness
from tests.simulators.kbase_auth import KBaseAuth

MIB = 1 << 20


def budget(*, room: int = 64, each: int = 16, wait_seconds: float = 30) -> BodyBudget:
    return BodyBudget(room * MIB, each * MIB, wait_seconds)


async def waits(work: asyncio.Task[Any]) -> bool:
    for _ in range(5):
        await asyncio.sleep(0)
    return not work.done()


async def test_bodies_of_one_user_wait_for_each_other_and_not_those_of_others() -> None:
    bodies = budget()
    anas = await bodies.reserve("ana", 16 * MIB)
    second = asyncio.create_task(bodies.reserve("ana", 1 * MIB))
    bobs, *others = [await bodies.reserve(name, 16 * MIB) for name in ("bob", "cy", "dan")]
    third = asyncio.create_task(bodies.reserve("eve", 1 * MIB))
    assert await waits(second), "its user has too much under way"
    assert await waits(third), "there is no more room for anybody"
    bodies.release(bobs)
    eves = await third
    assert await waits(second)
    bodies.release(anas)
    bodies.release(await second)
    for each in (eves, *others):
        bodies.release(each)
    assert not bodies._held


async def test_one_owner_gets_a_quarter_at_most() -> None:
    bodies = budget(each=64)
    await bodies.reserve("ana", 10 * MIB)
    assert await waits(asyncio.create_task(bodies.reserve("ana", 7 * MIB)))
    await bodies.reserve("bob", 7 * MIB)
    assert bodies.held == 17 * MIB


async def test_uploads_and_json_take_no_room_of_each_other() -> None:
    bodies = Bodies(LimitsSettings())
    for user in range(4):
        await bodies.uploads.reserve(user, 1 << 40)
    assert await waits(asyncio.create_task(bodies.uploads.reserve("eve", 1)))
    for user in range(4):
        await bodies.json.reserve(user, 1 << 40)
    assert await waits(asyncio.create_task(bodies.json.reserve("eve", 1)))
    assert bodies.uploads.held + bodies.json.held == 1024 * MIB


async def test_larger_body_than_the_room_of_its_owner_gets_all_of_that() -> None:
    bodies = budget()
    await bodies.reserve("ana", 1 << 40)
    assert await waits(asyncio.create_task(bodies.reserve("ana", 1)))


async def test_wait_for_room_is_bounded_and_leaves_nothing() -> None:
    bodies = budget(wait_seconds=0.01)
    held = await bodies.reserve("ana", 16 * MIB)
    with pytest.raises(TooManyRequestsError, match="send fewer at a time"):
        await bodies.reserve("ana", 1)
    canceled = asyncio.create_task(bodies.reserve("ana", 1))
    await asyncio.sleep(0)
    canceled.cancel()
    await asyncio.wait([canceled])
    assert bodies._waiting == []
    bodies.release(held)
    assert not bodies._held


async def test_clock_judges_each_window_in_which_nothing_held_the_body_back() -> None:
    stalled = asyncio.Event()
    clock = BodyClock(60, 10, stalled.set)
    clock.count(600)
    clock._check()
    assert not stalled.is_set()
    clock.hold()
    for _ in range(3):
        clock._check()
        assert not stalled.is_set(), "the service holds it back"
    clock.resume()
    clock._check()
    assert not stalled.is_set(), "the service held it back for a part of the window"
    clock.count(599)
    clock._check()
    assert stalled.is_set()
    clock.stop()


# At a server.


async def begin(
    server: ServerHarness,
    method: str,
    path: str,
    *,
    size: int | str,
    sent: int,
    token: str | None = None,
) -> Any:
    """Send the head of a request and a part of its body."""
    host, _, rest = server.root.removeprefix("http://").partition("/")
    reader, writer = await asyncio.open_connection(*host.split(":"))
    head = (
        f"{method} /{rest}{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {size}\r\n"
        f"Authorization: Bearer {token or server.kernel_token}\r\n\r\n"
    )
    writer.write(head.encode() + b" " * sent)
    return reader, writer


async def read_response(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    """Return the status and the content of a response after which the server closes the connection."""
    head, _, body = (await asyncio.wait_for(reader.read(), 30)).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def held(server: ServerHarness) -> int:
    bodies = server.extension._bodies
    return bodies.json.held + bodies.uploads.held


async def until_held(server: ServerHarness, size: int) -> None:
    async with asyncio.timeout(10):
        while held(server) != size:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("cts_settings", [{"limits": {"body_window_s": 0.3}}])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/jobs"), ("PUT", "/files/content?path=data/x")]
)
async def test_stalled_body_is_given_up(server: ServerHarness, method: str, path: str) -> None:
    reader, writer = await begin(server, method, path, size=MIB, sent=1000)
    status, content = await read_response(reader)
    writer.close()
    assert (status, content["error"]["httpcode"]) == (408, 408)
    assert "came too slowly and was given up: send it again" in content["error"]["message"]
    assert held(server) == 0
    folder: Path = server.engine.settings.objects_dir / ".cts" / "tmp"
    async with asyncio.timeout(10):
        while any(folder.glob("*")):
            await asyncio.sleep(0.01)
    assert (await server.get("/files/content", params={"path": "data/x"})).status_code == 404


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Trace memory, and collect no garbage."""
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


@pytest.mark.parametrize("cts_settings", [{"limits": {"body_window_s": 0.3}}])
async def test_memory_of_a_stalled_body_is_free_at_once(
    server: ServerHarness, uncollected: None
) -> None:
    before = tracemalloc.get_traced_memory()[0]
    reader, writer = await begin(server, "POST", "/jobs", size=16 * MIB, sent=15 * MIB)
    assert (await read_response(reader))[0] == 408
    writer.close()
    assert tracemalloc.get_traced_memory()[0] - before < 4 * MIB


@pytest.mark.parametrize("cts_settings", [{"limits": {"body_window_s": 0.3}}])
async def test_upload_that_the_store_holds_back_is_not_given_up(
    server: ServerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = server.engine.files.write

    async def slow(*args: Any, **options: Any) -> Any:
        await asyncio.sleep(1.5)
        return await write(*args, **options)

    monkeypatch.setattr(server.engine.files, "write", slow)
    await server.upload("data/x", bytes(8 * MIB))


@pytest.mark.parametrize(
    "cts_settings", [{"limits": {"body_mib": 16, "body_wait_s": 0.2, "body_window_s": 60}}]
)
async def test_body_without_room_is_refused_in_time(server: ServerHarness) -> None:
    size = 16 * MIB
    _, first = await begin(server, "POST", "/jobs", size=size, sent=1000)
    await until_held(server, size)
    reader, second = await begin(server, "POST", "/jobs", size=size, sent=size)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    assert head.startswith(b"HTTP/1.1 429 ")
    assert b"retry-after: 5" in head.lower()
    second.close()
    first.close()
    await until_held(server, 0)
    await server.upload("data/x", b"there is room again")


@pytest.mark.parametrize("size", [SMALL_BODY, SMALL_BODY + 1, "70000,70000"])
async def test_body_reserves_room_unless_it_is_small(
    server: ServerHarness, size: int | str
) -> None:
    length = int(str(size).partition(",")[0])
    reserved: list[int] = []
    reserve = server.extension._bodies.uploads.reserve

    async def recorded(owner: Any, wanted: int) -> Any:
        reserved.append(wanted)
        return await reserve(owner, wanted)

    server.extension._bodies.uploads.reserve = recorded
    reader, writer = await begin(
        server, "PUT", "/files/content?path=data/x", size=size, sent=length
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    writer.close()
    assert head.startswith(b"HTTP/1.1 200 ")
    assert reserved == ([] if length == SMALL_BODY else [length])


async def test_upload_reserves_what_it_takes_of_memory(
    server: ServerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, here = await begin(server, "PUT", "/files/content?path=data/x", size=64 * MIB, sent=1000)
    await until_held(server, UPLOAD_BUFFER)
    here.close()
    await until_held(server, 0)
    monkeypatch.setattr(DirectoryStore, "upload_memory", upload.MEMORY)
    _, at_s3 = await begin(server, "PUT", "/files/content?path=data/x", size=64 * MIB, sent=1000)
    await until_held(server, UPLOAD_BUFFER + 16 * MIB)
    at_s3.close()


class TestUsers:
    """Bodies of several users, at a store that keeps as much of an upload in memory as S3."""

    @pytest.fixture
    def cts_settings(self, kbase_auth: KBaseAuth) -> dict[str, Any]:
        return {
            "identity": "kbase",
            "sites": [],
            "kbase": {"auth_url": kbase_auth.url, "admin_roles": ["ADMIN"]},
            "allowed_paths": ["data"],
            # A submit that waited would be refused at once.
            "limits": {"body_window_s": 60, "body_wait_s": 0},
        }

    @pytest.mark.slow
    async def test_stalled_uploads_of_many_keep_no_submit_waiting(
        self, server: ServerHarness, kbase_auth: KBaseAuth, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # An upload takes 16 MiB, so that nothing is left of the room for uploads.
        monkeypatch.setattr(DirectoryStore, "upload_memory", 16 * MIB - UPLOAD_BUFFER)
        tokens = [kbase_auth.add(name) for name in ("ana", "bob", "cy", "dan")]
        target = "/files/content?path=data/x"
        stalled = []
        for token in tokens:
            for number in range(16):
                begun = begin(
                    server, "PUT", f"{target}{number}", size=64 * MIB, sent=1000, token=token
                )
                stalled.append((await begun)[1])
        await until_held(server, 4 * 192 * MIB)
        for user in ("eve", "ana"):
            for size in (500, MIB):
                response = await server.post(
                    "/jobs", token=kbase_auth.add(user), content=b" " * size
                )
                assert response.status_code == 400, response.text
        for writer in stalled:
            writer.close()
        await until_held(server, 0)

    @pytest.mark.slow
    async def test_workers_have_room_of_their_own(
        self, server: ServerHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        record = make_job_record(user="ana", num_containers=2, files=2)
        await server.engine._store.insert_job(record, containers=2)
        tokens = await server.engine.worker_tokens.issue(record)
        writers = []
        for number, token in enumerate(tokens):
            path = f"/external_exec/jobs/{record.id}/container/{number}/node/claim"
            for _ in range(5):
                begun = begin(
                    server, "POST", path, size=16 * MIB, sent=1000, token=token.get_secret_value()
                )
                writers.append((await begun)[1])
        await until_held(server, 2 * 64 * MIB)
        for writer in writers:
            writer.close()
        await until_held(server, 0)
