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
from cts_jupyter.server.http.bodies import BodyBudget, BodyClock
from tests.harness.server import ServerHarness

MIB = 1 << 20


def budget(**limits: Any) -> BodyBudget:
    return BodyBudget(LimitsSettings(**{"body_mib": 16, "all_bodies_mib": 32, **limits}))


async def waits(work: asyncio.Task[Any]) -> bool:
    for _ in range(5):
        await asyncio.sleep(0)
    return not work.done()


async def test_bodies_of_one_user_wait_for_each_other_and_not_those_of_others() -> None:
    bodies = budget()
    anas = await bodies.reserve("ana", 16 * MIB)
    second = asyncio.create_task(bodies.reserve("ana", 1 * MIB))
    bobs = await bodies.reserve("bob", 16 * MIB)
    third = asyncio.create_task(bodies.reserve("eve", 1 * MIB))
    assert await waits(second), "its user has too much under way"
    assert await waits(third), "there is no more room for anybody"
    bodies.release(bobs)
    eves = await third
    assert await waits(second)
    bodies.release(anas)
    bodies.release(await second)
    bodies.release(eves)
    assert not bodies._held


async def test_larger_body_than_all_room_gets_all_of_it() -> None:
    bodies = budget()
    await bodies.reserve("ana", 1 << 40)
    assert await waits(asyncio.create_task(bodies.reserve("ana", 1)))


async def test_wait_for_room_is_bounded_and_leaves_nothing() -> None:
    bodies = budget(body_wait_s=0.01)
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


async def begin(server: ServerHarness, method: str, path: str, *, size: int, sent: int) -> Any:
    """Send the head of a request and a part of its body."""
    host, _, rest = server.root.removeprefix("http://").partition("/")
    reader, writer = await asyncio.open_connection(*host.split(":"))
    head = (
        f"{method} /{rest}{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {size}\r\n"
        f"Authorization: Bearer {server.kernel_token}\r\n\r\n"
    )
    writer.write(head.encode() + b" " * sent)
    return reader, writer


async def read_response(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    """Return the status and the content of a response after which the server closes the connection."""
    head, _, body = (await asyncio.wait_for(reader.read(), 30)).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def held(server: ServerHarness) -> int:
    return server.extension._bodies.budget._held.total()


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
    async with asyncio.timeout(10):
        while not held(server):
            await asyncio.sleep(0.01)
    reader, second = await begin(server, "PUT", "/files/content?path=data/x", size=size, sent=size)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    assert head.startswith(b"HTTP/1.1 429 ")
    assert b"retry-after: 5" in head.lower()
    second.close()
    first.close()
    async with asyncio.timeout(10):
        while held(server):
            await asyncio.sleep(0.01)
    await server.upload("data/x", b"there is room again")
