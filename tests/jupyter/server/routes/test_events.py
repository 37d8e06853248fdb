"""Event streams over REST: live, resumed, quiet, slow, ended."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import get_args

import httpx
import pytest

from cts_core.model.event import Progress
from cts_jupyter.server.http.route import EVENT_KINDS
from cts_jupyter.server.routes import events as events_module
from tests.harness.factories import TO_COMPLETE
from tests.harness.server import ServerHarness, submission

LONG_AGO = "2020-01-01T00:00:00Z"


async def submit(server: ServerHarness, **changes) -> str:
    return (await server.post("/jobs", json=submission(**changes))).json()["job_id"]


async def read(
    server: ServerHarness, *, until: str = "complete", having: set[str] | None = None, **options
) -> list[dict]:
    """Return the transitions up to the first one in this state, or until all of ``having`` have come."""
    events = []
    async with asyncio.timeout(30):
        async with server.events(**options) as stream:
            async for event in stream:
                if event["event"] != "transition":
                    continue
                events.append(event)
                missing = having and having - {e["trans_id"] for e in events}
                if (event["state"] == until) if having is None else not missing:
                    break
    return events


@pytest.mark.slow
async def test_live_events(server: ServerHarness) -> None:
    await server.prepare("a", "b")
    async with server.events() as stream:
        job_id = await submit(server)
        seen = []
        async with asyncio.timeout(30):
            async for event in stream:
                assert event["job_id"] == job_id
                assert event["user"] == "ana"
                if event["event"] == "transition":
                    assert event["id"] == event["recorded_at"]
                    seen.append(event["state"])
                    if event["state"] == "complete":
                        break
                else:
                    assert event["id"] is None
    assert seen == TO_COMPLETE


async def test_headers(server: ServerHarness) -> None:
    async with server.http.stream(
        "GET", f"{server.root}/events", headers={"Authorization": f"Bearer {server.kernel_token}"}
    ) as response:
        assert response.headers["content-type"] == "text/event-stream"
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["cache-control"] == "no-cache"
        lines = response.aiter_lines()
        # A cursor before any event: who loses the connection now resumes from here.
        assert (await anext(lines)).startswith("retry: ")
        assert (await anext(lines)).startswith("id: 20")


@pytest.mark.slow
async def test_resume_from_any_event_misses_none(server: ServerHarness) -> None:
    await server.prepare("a", "b")
    whole = []
    for number in range(3):
        job_id = await submit(server, output_dir=f"data/out{number}")
        whole += await read(server, job=job_id, after=LONG_AGO)
    ids = [event["trans_id"] for event in whole]
    assert len(set(ids)) == 3 * len(TO_COMPLETE)
    for position, event in enumerate(whole[:-1]):
        later = set(ids[position + 1 :])
        rest = await read(server, last_event_id=event["id"], having=later)
        assert later <= {e["trans_id"] for e in rest}


@pytest.mark.slow
async def test_early_disconnect_resumes_from_the_first_cursor(server: ServerHarness) -> None:
    await server.prepare("a", "b")
    async with server.events() as stream:
        cursor = stream.cursor
    job_id = await submit(server)
    seen = await read(server, last_event_id=cursor)
    assert [e["state"] for e in seen if e["job_id"] == job_id] == TO_COMPLETE


@pytest.mark.slow
async def test_one_job(server: ServerHarness) -> None:
    await server.prepare("a", "b")
    await read(server, job=await submit(server), after=LONG_AGO)
    second = await submit(server, output_dir="data/other")
    assert {e["job_id"] for e in await read(server, job=second, after=LONG_AGO)} == {second}


async def job_stream(server: ServerHarness, job_id: str, **options) -> list[dict]:
    """Return the events of a job's stream until it ends, without those of progress."""
    async with asyncio.timeout(60):
        async with server.events(f"/jobs/{job_id}/events", **options) as stream:
            return [event async for event in stream if event["event"] != "progress"]


@pytest.mark.slow
async def test_event_stream_of_a_job_has_all_its_events_and_ends(server: ServerHarness) -> None:
    await server.prepare("a", "b")
    job_id = await submit(server)
    live, late = await job_stream(server, job_id), await job_stream(server, job_id)
    for events in (live, late):
        assert [event.get("state") for event in events] == [*TO_COMPLETE, None]
        assert {event.get("job_id") for event in events} == {job_id, None}
        assert events[-1] == {"event": "end", "id": None}


@pytest.mark.slow
async def test_event_stream_of_a_job_resumes_from_any_event(server: ServerHarness) -> None:
    await server.prepare("a", "b")
    job_id = await submit(server)
    whole = (await job_stream(server, job_id))[:-1]
    for position, event in enumerate(whole):
        rest = await job_stream(server, job_id, last_event_id=event["id"])
        assert {e["trans_id"] for e in whole[position + 1 :]} <= {e["trans_id"] for e in rest[:-1]}
        # However late: its end is told again, and nobody waits for nothing.
        assert [e["event"] for e in rest[-2:]] == ["transition", "end"]
        assert rest[-2]["state"] == "complete"
    assert (await job_stream(server, job_id, after="2999-01-01T00:00:00Z"))[-1]["event"] == "end"


@pytest.mark.parametrize(("path", "status"), [("nope/events", 404), ("a!b/events", 400)])
async def test_no_event_stream_of_such_a_job(server: ServerHarness, path: str, status: int) -> None:
    assert (await server.get(f"/jobs/{path}")).status_code == status


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("job=nope", {}, 404),
        ("job=a!b", {}, 400),
        ("after=yesterday", {}, 400),
        ("after=2026-01-01T00:00:00", {}, 400),
        ("", {"Last-Event-ID": "x"}, 400),
        ("", {"Authorization": ""}, 401),
    ],
)
async def test_error_responses(
    server: ServerHarness, query: str, headers: dict, status: int
) -> None:
    response = await server.get(f"/events?{query}", headers=headers)
    assert response.status_code == status


@pytest.mark.slow
async def test_quiet_stream_has_pings(
    server: ServerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "PING_SECONDS", 0.05)
    await server.prepare("a", "b")
    headers = {"Authorization": f"Bearer {server.kernel_token}"}
    async with (
        asyncio.timeout(30),
        server.http.stream("GET", f"{server.root}/events", headers=headers) as response,
    ):
        pings, states = 0, 0
        async for line in response.aiter_lines():
            if line == "event: ping":
                pings += 1
                if pings == 3:
                    await submit(server)
            states += line == "event: transition"
            if states == len(TO_COMPLETE):
                break
    assert pings >= 3


def test_every_kind_of_event_is_described():
    assert {progress.kind for progress in get_args(Progress)} < set(EVENT_KINDS)


async def test_event_stream_ends_when_the_server_stops(server: ServerHarness) -> None:
    async with server.events() as stream:
        stopping = asyncio.create_task(server.extension.stop_extension())
        async with asyncio.timeout(10):
            with contextlib.suppress(httpx.RemoteProtocolError):
                async for _ in stream:
                    pass
            await stopping
    assert (await server.get("/")).status_code == 503


@pytest.mark.slow
async def test_client_disconnect_ends_the_subscription(server: ServerHarness) -> None:
    limit = 50
    for _ in range(limit + 10):
        async with server.events():
            pass
    async with asyncio.timeout(10):
        async with server.events() as stream:
            assert stream.cursor


async def test_stream_begins_with_the_stores_time(server: ServerHarness, monkeypatch) -> None:
    """A client whose connection breaks early resumes from there, at a server whose clock may differ."""
    time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    async def now() -> datetime:
        return time

    monkeypatch.setattr(server.engine, "now", now)
    headers = {"Authorization": f"Bearer {server.kernel_token}"}
    async with server.http.stream("GET", f"{server.root}/events", headers=headers) as response:
        async with asyncio.timeout(30):
            async for line in response.aiter_lines():
                if line.startswith("id: "):
                    break
    assert line == "id: 2026-01-02T03:04:05Z"
