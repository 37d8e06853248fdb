"""MongoStore during outages of its server, which is dead, frozen or refuses: errors, and the recovery."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from pydantic import SecretStr
from pymongo.errors import OperationFailure

from cts_core.config.sections import MongoSettings
from cts_core.errors import ConfigError, NoSuchJobError, StorageFullError, UnavailableError
from cts_core.model.record import Idempotency, JobQuery, JobSummary
from cts_core.records.mongo import connection as mongo_connection
from cts_core.records.mongo.store import MongoStore
from cts_core.records.store import RecordStore
from cts_core.states import JobState
from tests.harness.factories import NOON, TO_COMPLETE, make_image, make_job_record, make_refdata
from tests.harness.records import BEGINNING, CREATED, STARTED, insert, move
from tests.services.mongo import PASSWORD, MongoServer
from tests.services.server import free_port, or_skip

pytestmark = [
    pytest.mark.slow,
    # pymongo drops the socket that its monitor is just connecting when a client is closed.
    pytest.mark.filterwarnings("ignore:.*socket.socket:pytest.PytestUnraisableExceptionWarning"),
]

TIMEOUT = 3.0
FAR_BEYOND = 30.0
"""Seconds within which calls on a dead server must fail, even on a busy machine."""


@pytest.fixture(autouse=True)
def _collect_dropped_sockets() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[MongoServer]:
    """A server for these tests alone, since they kill it."""
    with or_skip():
        server = MongoServer(tmp_path_factory.mktemp("mongo"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def settings(
    request, mongo, server
) -> MongoSettings:  # mongo: so that the server is built beforehand
    return server.settings(f"outage_{abs(hash(request.node.name))}", timeout_s=TIMEOUT)


@pytest.fixture
async def store(settings) -> AsyncIterator[MongoStore]:
    store = MongoStore(settings)
    await store.open()
    yield store
    await store.close()


CALLS: dict[str, Callable[[RecordStore], object]] = {
    "read": lambda store: store.get_job("any"),
    "list": lambda store: store.list_jobs(JobQuery(user="ana")),
    "count": lambda store: store.count_jobs(),
    "insert": lambda store: store.insert_job(make_job_record(), containers=2),
    "move": lambda store: move(store, "any", CREATED, STARTED),
    "lease": lambda store: store.take_leases(["any"], "me", now=NOON, until=NOON),
    "unsent": lambda store: store.unsent(),
    "events": lambda store: store.events(since=BEGINNING),
    "image": lambda store: store.add_image(make_image()),
    "refdata": lambda store: store.add_refdata(make_refdata()),
}


async def check_that_calls_fail_clearly(store: MongoStore, host: str) -> None:
    async def fail(name: str) -> None:
        with pytest.raises(UnavailableError, match=f"{host} cannot be used now") as error:
            await CALLS[name](store)
        assert PASSWORD not in str(error.value)

    began = time.monotonic()
    await asyncio.gather(*map(fail, CALLS))
    assert time.monotonic() - began < FAR_BEYOND


async def until_available(store: RecordStore, job_id: str) -> JobSummary:
    """Retry until a restarted server is available again."""
    async with asyncio.timeout(FAR_BEYOND):
        while True:
            with contextlib.suppress(UnavailableError):
                return await store.get_summary(job_id)
            await asyncio.sleep(0.05)


async def test_a_killed_server(server, store, settings):
    job = await insert(store, containers=3)
    server.kill()
    await check_that_calls_fail_clearly(store, settings.host)
    server.start()
    await until_available(store, job.id)
    assert await store.container_states(job.id) == [STARTED] * 3
    assert await move(store, job.id, CREATED, STARTED)
    assert [event.state for event in await store.events(since=BEGINNING)] == [CREATED, STARTED]


async def test_a_frozen_server(server, store, settings):
    job = await insert(store, containers=3)
    server.freeze()
    try:
        await check_that_calls_fail_clearly(store, settings.host)
    finally:
        server.thaw()
    await until_available(store, job.id)
    assert await move(store, job.id, CREATED, STARTED)


async def test_no_acknowledged_write_is_lost(server, store):
    """Submit and move jobs while the server is killed repeatedly."""
    stored: dict[str, JobState] = {}
    sent: dict[str, int] = {}
    goes_on = True

    async def submit(number: int) -> None:
        for count in itertools.count():
            if not goes_on:
                return
            job, key = make_job_record(), Idempotency(f"{number} {count}", "hash")
            sent[job.id] = count % 4 + 1
            try:
                await store.insert_job(job, containers=sent[job.id], idempotency=key)
                stored[job.id] = CREATED
                for old, new in itertools.pairwise(TO_COMPLETE):
                    assert await move(store, job.id, old, new)
                    stored[job.id] = new
            except UnavailableError:
                await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(submit(number)) for number in range(8)]
    for _ in range(3):
        count = len(stored)
        async with asyncio.timeout(FAR_BEYOND):
            while len(stored) < count + 10:
                await asyncio.sleep(0.01)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
    goes_on = False
    await asyncio.gather(*tasks)

    await until_available(store, next(iter(stored)))
    for job_id, count in sent.items():
        try:
            job = await store.get_summary(job_id)
        except NoSuchJobError:
            assert job_id not in stored
            continue
        # All acknowledged writes are there, and perhaps one whose response was lost; none in part.
        acknowledged = TO_COMPLETE.index(stored.get(job_id, CREATED))
        assert job.state in TO_COMPLETE[acknowledged : acknowledged + 2]
        assert [t.state for t in job.transition_times] == TO_COMPLETE[
            : TO_COMPLETE.index(job.state) + 1
        ]
        assert len(await store.containers(job_id)) == count
    unsent = {event.job_id for event in await store.unsent(limit=100_000)}
    assert unsent >= stored.keys()


async def test_closing_waits_for_operations_under_way(settings):
    store = MongoStore(settings)
    await store.open()
    jobs = [make_job_record() for _ in range(20)]
    inserts = [asyncio.create_task(store.insert_job(job, containers=1)) for job in jobs]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*inserts) == [None] * 20
    with pytest.raises(UnavailableError, match="closed"):
        await store.get_job(jobs[0].id)


async def test_a_cancellation_at_any_step_takes_effect(store):
    await store.list_images()
    for steps in [*range(60)] * 25:
        reading = asyncio.create_task(store.events(since=NOON, user="ana"))
        for _ in range(steps):
            await asyncio.sleep(0)
        if reading.cancel():
            with pytest.raises(asyncio.CancelledError):
                await reading


async def test_the_number_of_waiting_operations_is_bounded(store, monkeypatch):
    monkeypatch.setattr(mongo_connection, "MAX_WAITING", 2)
    answers = await asyncio.gather(*(store.list_images() for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [list, list, UnavailableError]
    assert await store.list_images() == []


async def test_a_new_database_is_opened_concurrently(settings):
    stores = [MongoStore(settings.model_copy(update={"timeout_s": FAR_BEYOND})) for _ in range(6)]
    await asyncio.gather(*(store.open() for store in stores))
    await asyncio.gather(*(insert(store) for store in stores))
    assert len((await stores[0].list_jobs(JobQuery())).jobs) == 6
    await asyncio.gather(*(store.close() for store in stores))


# -- errors at the start --


def _unused_host() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"password": SecretStr("wr0ng")}, ConfigError, r"mongo\.user, mongo\.password: .* 'cts'"),
        ({"user": "nobody"}, ConfigError, r"mongo\.user, mongo\.password: .* 'nobody'"),
        ({"user": "", "password": SecretStr("")}, ConfigError, r"mongo\.user: .* no right to"),
        ({"db": "no/name"}, ConfigError, r"mongo\.db: 'no/name' cannot be"),
        ({"host": "mongodb://:x"}, ConfigError, r"mongo\.host: 'mongodb://:x' cannot be used"),
        ({"host": _unused_host()}, UnavailableError, r"mongo\.host: MongoDB at .* be reached"),
        ({"host": "no-such-host.invalid"}, UnavailableError, r"mongo\.host: .* be reached"),
    ],
)
async def test_an_error_at_the_start_names_its_setting(settings, changes, error, message, caplog):
    caplog.set_level(logging.DEBUG)
    store = MongoStore(settings.model_copy(update=changes))
    with pytest.raises(error, match=message) as found:
        await store.open()
    for secret in (PASSWORD, "wr0ng"):
        assert secret not in str(found.value)
        assert secret not in caplog.text


async def test_a_login_by_the_auth_source_of_the_url(server, settings, store):
    url = f"mongodb://{settings.host}/?authSource=admin"
    again = MongoStore(settings.model_copy(update={"host": url}))
    await again.open()
    assert await again.list_images() == []
    await again.close()


async def test_a_newer_database_is_refused(server, settings, store):
    with server.client() as client:
        schema = client[settings.db]["cts_store"]
        schema.update_one({"_id": "schema"}, {"$set": {"version": 99}})
        with pytest.raises(ConfigError, match=r"mongo\.db: .* a newer CTS \(schema 99.*upgrade"):
            await MongoStore(settings).open()
        assert schema.find_one({"_id": "schema"})["version"] == 99


def test_an_error_has_the_message_of_the_server_alone():
    answer = {"ok": 0.0, "errmsg": "the database system is shutting down", "code": 1}
    refusal = OperationFailure(f"{answer['errmsg']}, full error: {answer}", 1, answer)
    connection = mongo_connection.Connection(MongoSettings(host="somewhere:27017"))
    assert str(connection._translate(refusal)) == (
        "The job records on MongoDB at somewhere:27017 cannot be used now: the database system is shutting down"
    )


@pytest.mark.parametrize(
    "failure",
    [
        OperationFailure("Executor error", 14031),
        OperationFailure('could not extend file "base/1": No space left on device', 1),
        OperationFailure("13: Disk quota exceeded", 8),
    ],
)
async def test_a_full_disk_is_no_outage(store, monkeypatch, failure):
    async def refuse(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr("cts_core.records.mongo.jobs.insert", refuse)
    with pytest.raises(StorageFullError, match="has no space left: free some and try again"):
        await insert(store)
