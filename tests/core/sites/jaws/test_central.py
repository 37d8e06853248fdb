"""The client of JAWS central, on a simulator of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from pydantic import SecretStr

from cts_core.clock import utc_now
from cts_core.errors import UnavailableError
from cts_core.http_client import HttpClient
from cts_core.sites.jaws.central import Central, JAWSError, Run
from cts_core.sites.jaws.outages import jaws as availability
from cts_core.sites.jaws.pace import Pace
from cts_core.sites.jaws.results import RunEnd
from tests.simulators.jaws_central import JAWS
from tests.simulators.server import PreparedResponse

pytestmark = pytest.mark.slow


@asynccontextmanager
async def client_of(jaws: JAWS, timeout: float) -> AsyncIterator[Central]:
    http = HttpClient("127.0.0.1", timeout=timeout, connections=4)
    yield Central(jaws.url, SecretStr(jaws.token), http, Pace(1000))
    await http.close()


@pytest.fixture
async def central(jaws: JAWS) -> AsyncIterator[Central]:
    async with client_of(jaws, timeout=60) as central:
        yield central


async def test_user_of_the_token_is_told(jaws: JAWS, central: Central):
    assert await central.user() == jaws.user


async def test_run_is_told_until_it_is_done(jaws: JAWS, central: Central):
    run = jaws.submit("job")
    assert await central.run("1000") == Run("1000", "created", None, None)
    run.output_dir = "/global/jaws/1000/x"
    run.move("succeeded", "succeeded")
    told = await central.run("1000")
    assert told is not None
    assert (told.end, told.output_dir) == (None, run.output_dir)
    run.move("done", "succeeded")
    told = await central.run("1000")
    assert told is not None
    assert told.end is RunEnd.SUCCESS


async def test_unknown_run_is_none(central: Central):
    assert await central.run("7") is None


async def test_run_is_cancelled_once_and_again(jaws: JAWS, central: Central):
    run = jaws.submit("job")
    assert not await central.was_cancelled("1000")
    await central.cancel("1000")
    await central.cancel("1000")
    assert (run.status, await central.was_cancelled("1000")) == ("cancelled", True)


async def test_cancel_that_is_too_late_or_of_no_run_is_none(jaws: JAWS, central: Central):
    run = jaws.submit("job")
    run.move("done", "succeeded")
    await central.cancel("1000")
    await central.cancel("7")
    assert run.result == "succeeded"
    assert not await central.was_cancelled("7")


async def test_runs_are_found_by_their_tag_where_there_is_a_search(jaws: JAWS, central: Central):
    for tag in ("a", "b", "a"):
        jaws.submit(tag)
    now = utc_now()
    assert await central.find("a", now) == ["1000", "1002"]
    assert await central.find("none", now) == []
    jaws.has_search = False
    assert await central.find("a", now) is None


async def test_search_is_of_the_days_since_then(jaws: JAWS, central: Central):
    now = utc_now()
    for days in (0, 3, 8):
        jaws.submit("a").submitted = now - timedelta(days=days)
    assert await central.find("a", now - timedelta(days=3)) == ["1000", "1001"]
    # A clock may be behind.
    assert await central.find("a", now + timedelta(days=3)) == ["1000"]
    assert jaws.searches == [5, 2]


async def test_those_who_wait_share_the_next_search(jaws: JAWS, central: Central):
    now = utc_now()
    old = jaws.submit("old")
    old.submitted = now - timedelta(days=30)
    jaws.delay = 0.5
    first = asyncio.create_task(central.find("new", now))
    while not jaws.calls:
        await asyncio.sleep(0.01)
    later = [asyncio.create_task(central.find("new", now)) for _ in range(10)]
    later.append(asyncio.create_task(central.find("old", now - timedelta(days=30))))
    # One that gives up takes nothing from the others.
    later.pop(0).cancel()
    await first
    # The search under way does not count for those who came while it went on.
    jaws.submit("new")
    assert await asyncio.gather(*later) == [["1001"]] * 9 + [["1000"]]
    assert jaws.searches == [2, 32]


async def test_search_that_fails_is_made_again(jaws: JAWS, central: Central):
    now = utc_now()
    jaws.override = PreparedResponse(503, b"{}")
    told = await asyncio.gather(*(central.find("a", now) for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in told] == [UnavailableError] * 3
    assert len(jaws.calls) == 1
    jaws.override = None
    assert await central.find("a", now) == []


async def test_search_ends_with_its_client(jaws: JAWS, central: Central):
    jaws.delay = 1.0
    search = asyncio.create_task(central.find("a", utc_now()))
    while not jaws.calls:
        await asyncio.sleep(0.01)
    await central.stop()
    with pytest.raises(asyncio.CancelledError):
        await search


@pytest.mark.parametrize("body", [b"", b'{"detail": "Not Found"}'])
async def test_answer_of_something_else_is_not_that_jaws_has_no_search(
    jaws: JAWS, central: Central, body: bytes
):
    jaws.submit("a")
    jaws.override = PreparedResponse(404, body)
    with pytest.raises((UnavailableError, JAWSError)):
        await central.find("a", utc_now())
    with pytest.raises((UnavailableError, JAWSError)):
        await central.cancel("1000")
    jaws.override = None
    assert await central.find("a", utc_now()) == ["1000"]


async def test_sites_say_how_they_are(jaws: JAWS, central: Central):
    assert availability("kbase", await central.status("kbase")).is_usable
    jaws.sites["jgi"]["jgi-Cromwell"] = "DOWN"
    assert not availability("jgi", await central.status("jgi")).is_usable
    assert "UNKNOWN SITE" in (availability("x", await central.status("x")).reason or "")


_OUTAGES = [
    PreparedResponse(503, b"{}"),
    PreparedResponse(500, b'{"detail": {"error": "no database"}}'),
    PreparedResponse(502, b"<html>", "text/html"),
    PreparedResponse(429, b'{"detail": "slower"}'),
    PreparedResponse(200, b"<html>maintenance</html>", "text/html"),
    PreparedResponse(404, b"<html>", "text/html"),
    PreparedResponse(404, b""),
    PreparedResponse(404, b"{}"),
    PreparedResponse(404, b'{"message": "no Route matched with those values"}'),
    PreparedResponse(404, b'{"detail": {}}'),
    PreparedResponse(401, b'{"detail": "Provided token is not valid"}'),
]


@pytest.mark.parametrize(
    "answer", _OUTAGES, ids=lambda answer: f"{answer.status} {answer.body.decode()}"
)
async def test_no_proper_answer_is_an_outage_and_nothing_is_sent_again(
    jaws: JAWS, central: Central, answer: PreparedResponse
):
    jaws.override = answer
    with pytest.raises(UnavailableError) as error:
        await central.run("7")
    assert jaws.token not in str(error.value)
    assert jaws.calls == ["GET /api/v2/run/7"]


@pytest.mark.parametrize(
    "answer",
    [
        PreparedResponse(400, b'{"detail": {"error": "bad"}}'),
        PreparedResponse(404, b'{"detail": "Not Found"}'),
        PreparedResponse(200, b"[]"),
        PreparedResponse(200, b"null"),
        PreparedResponse(200, b'{"status": "created"}'),
        PreparedResponse(200, b'{"id": 8, "status": "created"}'),
    ],
    ids=lambda answer: f"{answer.status} {answer.body.decode()}",
)
async def test_answer_without_meaning_is_an_error_of_the_call(
    jaws: JAWS, central: Central, answer: PreparedResponse
):
    jaws.override = answer
    with pytest.raises(JAWSError):
        await central.run("7")


async def test_refusal_of_a_cancel_has_its_reason(jaws: JAWS, central: Central):
    jaws.override = PreparedResponse(400, b'{"detail": {"error": "you may not"}}')
    with pytest.raises(JAWSError, match="you may not"):
        await central.cancel("7")


async def test_call_has_one_deadline(jaws: JAWS):
    jaws.delay = 2.0
    async with client_of(jaws, timeout=0.3) as central:
        with pytest.raises(UnavailableError, match=r"did not answer within 0\.3 s"):
            await central.user()


async def test_tags_of_runs_that_go_on(jaws: JAWS, central: Central):
    for tag, status in (("a", "running"), ("b", "done"), ("c", "cancelled"), ("a", "done")):
        jaws.submit(tag).move(status)
    assert await central.active_tags() == {"a"}
    jaws.has_search = False
    assert await central.active_tags() == set()
