"""The client for asyncio: as complete as the blocking one, and against the real server in the loop that it runs in."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import pytest

import cts_jupyter
from cts_core.backoff import Backoff
from cts_jupyter.client import AsyncClient, CTSClient, async_client, event_stream, transport
from cts_jupyter.client.api.admin import AdminEndpoints
from cts_jupyter.client.async_calls import AsyncStream
from cts_jupyter.client.async_client import AsyncAdminEndpoints
from cts_jupyter.client.transport import CTSClientError, CTSConnectionError, CTSRequestError
from cts_jupyter.discovery import Connection
from tests.harness.factories import TO_COMPLETE
from tests.harness.server import ServerHarness, submission
from tests.services.proxy import Proxy

NOWHERE = "http://127.0.0.1:9/cts"
BY_HAND = {"admin", "of", "pieces"}
"""Members of both clients that are written twice."""
UNLIKE = {"close"}
"""Members of the blocking client that have another name here."""


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (transport, event_stream):
        monkeypatch.setattr(module, "RETRY_BACKOFF", Backoff(first=0.02, longest=5.0, jitter=0.5))


@pytest.fixture
async def cts(server: ServerHarness) -> AsyncIterator[AsyncClient]:
    async with cts_jupyter.AsyncClient(server.root, lambda: server.kernel_token) as cts:
        yield cts


@pytest.fixture
def proxy(server: ServerHarness) -> Iterator[Proxy]:
    with contextlib.closing(Proxy(server.app.port)) as proxy:
        yield proxy


@pytest.fixture
async def through(server: ServerHarness, proxy: Proxy) -> AsyncIterator[AsyncClient]:
    """A client of the server behind the proxy."""
    url = server.root.replace(f":{server.app.port}", f":{proxy.port}")
    async with AsyncClient(url, lambda: server.kernel_token) as cts:
        yield cts


async def wait_for(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def public_names(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


# As complete as the blocking client.


def twins() -> list[tuple[Any, Any]]:
    """Return each method of the blocking client with what has its name here."""
    pairs = [(CTSClient, AsyncClient), (AdminEndpoints, AsyncAdminEndpoints)]
    return [
        (getattr(blocking, name), getattr(twin, name, None))
        for blocking, twin in pairs
        for name in sorted(public_names(blocking) - BY_HAND - UNLIKE)
    ]


@pytest.mark.parametrize(("method", "twin"), twins(), ids=lambda f: getattr(f, "__qualname__", ""))
def test_every_method_has_a_twin(method: Any, twin: Any) -> None:
    assert twin is not None, "it is missing"
    assert twin.__wrapped__ is method, "it is another method's"
    signature = inspect.signature(twin)
    assert signature.parameters == inspect.signature(method).parameters
    answer = get_type_hints(method)["return"]
    if issubclass(get_origin(answer) or answer, Iterator) or hasattr(answer, "__next__"):
        assert signature.return_annotation is AsyncStream
    else:
        assert inspect.iscoroutinefunction(twin)


def test_what_is_written_by_hand_takes_the_same() -> None:
    assert public_names(AsyncClient) >= BY_HAND
    for name in ("__init__", "of", "pieces"):
        own, other = (inspect.signature(getattr(cls, name)) for cls in (AsyncClient, CTSClient))
        assert own.parameters == other.parameters


# Against the server.


@pytest.mark.slow
async def test_many_calls_at_once(cts: AsyncClient, server: ServerHarness) -> None:
    for number in range(5):
        await server.upload(f"data/{number}", b"x")
    calls = [cts.whoami() if n % 2 else cts.files(f"data/{n % 5}") for n in range(50)]
    found = await asyncio.gather(*calls)
    assert {answer.user for answer in found[1::2]} == {"ana"}
    assert [page.objects[0].path for page in found[::2]] == [
        f"data/{n % 5}" for n in range(0, 50, 2)
    ]


async def test_files(cts: AsyncClient, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"bytes" * 100_000)
    callers: set[str] = set()

    def on_piece(_size: int) -> None:
        callers.add(threading.current_thread().name)

    stored = await cts.upload(source, "data/d/x", on_piece=on_piece)
    assert await cts.download("data/d/x", target, on_piece=on_piece) == stored.crc64nvme
    assert target.read_bytes() == source.read_bytes()
    assert callers == {"cts-call"}
    assert [file.path async for file in cts.iter_files("data/")] == ["data/d/x"]
    async with cts.pieces("files/content", query={"path": "data/d/x"}) as (headers, pieces):
        assert headers["content-length"] == "500000"
        assert b"".join([piece async for piece in pieces]) == source.read_bytes()
    with pytest.raises(CTSRequestError, match="nope"):
        async with cts.pieces("files/content", query={"path": "data/nope"}):
            pass
    connection = Connection(cts.url, lambda: None)
    async with AsyncClient.of(connection) as stranger:
        with pytest.raises(CTSRequestError) as refused:
            await stranger.files("data/")
        assert refused.value.status == 401


@pytest.mark.slow
async def test_job_from_submission_to_outputs(cts: AsyncClient, server: ServerHarness) -> None:
    await server.prepare("a", "b")
    server_time = (await cts.root()).server_time
    job_id = await cts.submit(submission(num_containers=2))
    other = await cts.submit(submission(output_dir="data/other"))
    states = []
    async with cts.events(after=server_time, job=job_id) as events:
        async for event in events:
            if event.type == "transition":
                states.append(event.state)
            if event.state == "complete":
                break
    assert states == TO_COMPLETE
    jobs = await asyncio.gather(*(cts.wait(waited) for waited in (job_id, other, job_id)))
    assert [(job.id, job.state) for job in jobs] == [
        (waited, "complete") for waited in (job_id, other, job_id)
    ]
    assert cts._feed.watched() == []
    outputs = [output.file async for output in cts.iter_outputs(job_id)]
    assert sorted(outputs) == ["data/out/a.out", "data/out/b.out"]
    log = b"".join([piece async for piece in cts.stream_log(job_id, 0, "stdout")])
    assert log == await cts.admin.log(job_id, 0, "stdout")
    assert (await cts.admin.job(job_id)).user == "ana"
    with pytest.raises(CTSRequestError) as refused:
        await cts.cancel(job_id)
    assert (refused.value.status, refused.value.appcode) == (404, 40040)


@pytest.mark.slow
async def test_cancelled_submission_is_found_by_its_key(
    through: AsyncClient, proxy: Proxy, server: ServerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await server.prepare("a", "b")
    await through.supports("POST", "/jobs", "Idempotency-Key")
    sends = threading.Event()

    def token() -> str:
        sends.set()
        return server.kernel_token

    monkeypatch.setattr(through._endpoints._transport, "_token", token)
    proxy.freeze()
    task = asyncio.create_task(through.submit(submission(), "key"))
    assert await asyncio.to_thread(sends.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    proxy.thaw()
    job_id = await through.submit(submission(), "key")
    assert [job.id for job in await through.jobs()] == [job_id]


@pytest.mark.slow
async def test_wait_outlasts_an_outage_and_leaves_nothing_when_cancelled(
    through: AsyncClient, proxy: Proxy, server: ServerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_client, "BACKSTOP_SECONDS", 0.1)
    looks: list[str] = []

    def look(error: CTSClientError) -> bool:
        looks.append(type(error).__name__)
        return transport.is_away(error)

    monkeypatch.setattr(async_client, "is_away", look)
    await server.prepare("a", "b")
    params = submission()["params"] | {"environment": {"OUT": "/output_files", "WORK": "60"}}
    job_id = await through.submit(submission(params=params))
    waiting, left = (asyncio.create_task(through.wait(job_id)) for _ in range(2))
    await wait_for(lambda: len(through._feed._listeners.get(job_id, ())) == 2)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    assert len(through._feed._listeners[job_id]) == 1
    await wait_for(lambda: through._feed._run._events)
    proxy.closed = True
    proxy.cut()
    await wait_for(lambda: len(looks) > 1)
    proxy.closed = False
    await server.put(f"/jobs/{job_id}/cancel")
    assert (await waiting).state == "canceled"
    assert through._feed.watched() == []
    with pytest.raises(CTSRequestError, match="No job"):
        await through.wait("x")


@pytest.mark.parametrize("is_client_closed", [True, False])
async def test_close_while_a_stream_waits(cts: AsyncClient, *, is_client_closed: bool) -> None:
    stream = cts.events()
    waiting = asyncio.create_task(anext(stream, None))
    events = stream._puller._source
    await wait_for(lambda: events._response is not None)
    if is_client_closed:
        await cts.aclose()
        with pytest.raises(CTSConnectionError, match="was closed"):
            await waiting
    else:
        await stream.aclose()
        assert await waiting is None
    await wait_for(lambda: not cts._calls._streams)


async def test_closed_client_is_a_clear_error() -> None:
    async with AsyncClient(NOWHERE, lambda: None) as cts:
        await cts.aclose()
        for ask in (cts.whoami, lambda: cts.wait("x"), lambda: anext(cts.events())):
            with pytest.raises(CTSConnectionError, match=f"The connection to {NOWHERE} was closed"):
                await ask()
        await cts.aclose()


async def test_service_that_is_gone() -> None:
    async with AsyncClient(NOWHERE, lambda: None) as cts:
        for ask in (cts.whoami, lambda: cts.wait("x"), lambda: anext(cts.events())):
            with pytest.raises(CTSConnectionError, match="cannot be reached"):
                await ask()
        assert cts._feed.watched() == []


async def test_loops_share_a_client(cts: AsyncClient, server: ServerHarness) -> None:
    await server.upload("data/x", b"x")

    async def use() -> list[str]:
        users = await asyncio.gather(*(cts.whoami() for _ in range(3)))
        return [users[0].user, *[file.path async for file in cts.iter_files("data/")]]

    found = await asyncio.gather(use(), *(asyncio.to_thread(asyncio.run, use()) for _ in range(2)))
    assert found == [["ana", "data/x"]] * 3


@pytest.mark.slow
def test_silent_service_does_not_hold_up_the_end_of_a_program() -> None:
    """The call that waits for it would wait for an hour."""
    program = """
import asyncio, socket
from cts_jupyter import AsyncClient
listener = socket.create_server(("127.0.0.1", 0))

async def main():
    async with AsyncClient(f"http://127.0.0.1:{listener.getsockname()[1]}/cts", lambda: None) as cts:
        for waits in (cts.verify("data/x"), anext(cts.iter_files("data/")), anext(cts.events()), cts.wait("x")):
            try:
                await asyncio.wait_for(waits, 0.1)
            except TimeoutError:
                print("silent")

asyncio.run(main())
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=100
    )
    assert (ran.stdout.split(), ran.stderr) == (["silent"] * 4, "")
