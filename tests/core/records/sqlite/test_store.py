"""SQLiteStore: files, locks, crashes and full disks. Everything else is in the contract tests."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from cts_core.clock import utc_now
from cts_core.errors import ConfigError, StorageFullError, UnavailableError
from cts_core.model.record import JobQuery, JobSummary
from cts_core.records.sqlite import connection, disk_reserve, events, listing, schema
from cts_core.records.sqlite.connection import Connections
from cts_core.records.sqlite.migrate import connect
from cts_core.records.sqlite.store import SQLiteStore
from tests.harness.factories import NOON, make_job_record
from tests.harness.paths import ROOT


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "home ?#%" / "records.sqlite"


@pytest.fixture
async def store(path) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(path, busy_seconds=0.1)
    await store.open()
    yield store
    await store.close()


def run(path: Path, *statements: str) -> list[tuple]:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        return [row for statement in statements for row in db.execute(statement)]


async def opening(path: Path) -> None:
    await SQLiteStore(path, busy_seconds=0.1).open()


async def insert(store: SQLiteStore, containers: int = 1) -> str:
    job = make_job_record()
    await store.insert_job(job, containers=containers)
    return job.id


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE jobs SET outcome = 'none' WHERE id = '{}'",
        "DELETE FROM transitions WHERE job_id = '{}'",
    ],
)
async def test_a_record_that_cannot_be_read_disturbs_no_other(
    path: Path, store: SQLiteStore, change: str
):
    unreadable, good = await insert(store), await insert(store)
    run(path, change.format(unreadable))
    error, summary = await store.get_summaries([unreadable, good])
    assert isinstance(error, ValueError)
    assert isinstance(summary, JobSummary)
    with pytest.raises(ValueError, match=str(error)[:20]):
        await store.get_summary(unreadable)
    assert [job.id for job in await store.live_jobs()] == [good]
    page = await store.list_jobs(JobQuery(limit=10))
    assert good in [job.id for job in page.jobs]


# -- files --


async def test_a_new_file_is_marked_and_private(store, path):
    assert run(path, "PRAGMA application_id") == [(schema.APPLICATION_ID,)]
    assert run(path, "PRAGMA user_version") == [(schema.VERSION,)]
    assert run(path, "PRAGMA journal_mode") == [("wal",)]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_closing_leaves_one_file_and_the_disk_reserve(path):
    store = SQLiteStore(path)
    await store.open()
    await insert(store)
    await store.close()
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, "records.reserve"}


async def test_a_newer_file_is_refused(store, path):
    await store.close()
    run(path, "PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match=r"records\.sqlite was written by a newer CTS.*upgrade"):
        await opening(path)


async def test_a_database_of_another_program_is_refused_and_left_alone(path):
    path.parent.mkdir()
    run(path, "CREATE TABLE bookmarks (url)")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"not a record file of CTS; choose another home"):
        await opening(path)
    assert path.read_bytes() == before


async def test_a_file_that_is_no_database_is_refused_and_left_alone(path):
    path.parent.mkdir()
    path.write_text("not a database, but a text that somebody wrote" * 100)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"not a record file of CTS"):
        await opening(path)
    assert path.read_bytes() == before


async def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot be kept in .*records\.sqlite.*choose a home"):
        await opening(tmp_path / "file" / "records.sqlite")
    with pytest.raises(ConfigError, match="Is a directory"):
        await opening(tmp_path)


async def test_a_file_system_without_shared_memory_is_refused(path, monkeypatch):
    def connect(address: str, **options) -> sqlite3.Connection:
        # A way of locking for file systems without any other; it has no shared memory.
        return real(f"{address}&vfs=unix-dotfile", **options)

    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", connect)
    with pytest.raises(ConfigError, match=r"write-ahead log.*choose a home on a local disk"):
        await opening(path)


async def test_concurrent_creations_of_the_file(path):
    stores = [SQLiteStore(path) for _ in range(8)]
    await asyncio.gather(*(store.open() for store in stores))
    await asyncio.gather(*(insert(store) for store in stores))
    assert len((await stores[0].list_jobs(JobQuery())).jobs) == 8
    await asyncio.gather(*(store.close() for store in stores))


async def test_foreign_keys_hold(store, path):
    await insert(store)
    connections = Connections(path)
    await connections.open()
    with pytest.raises(sqlite3.IntegrityError):
        await connections.write(lambda db: db.execute("DELETE FROM jobs"))
    await connections.close()


# -- locks, full disks, other failures: each raises an error, and the store recovers --


async def test_a_locked_file_is_a_temporary_outage(store, path):
    job_id = await insert(store)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match="locked by another process"):
            await insert(store)
        # Readers do not wait for writers.
        assert (await store.get_summary(job_id)).id == job_id
        other.execute("ROLLBACK")
    await insert(store)
    assert len((await store.list_jobs(JobQuery())).jobs) == 2


async def test_opening_a_locked_file_is_an_outage(path):
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        other.execute("CREATE TABLE t (c)")
        with pytest.raises(UnavailableError, match="locked by another process"):
            await opening(path)
        other.execute("ROLLBACK")
    store = SQLiteStore(path)
    await store.open()
    await store.close()


async def test_a_full_disk_fails_writes_and_recovers(store, path, monkeypatch):
    ((pages,),) = run(path, "PRAGMA page_count")
    most = pages + 100

    def limited(*args, **kwargs) -> sqlite3.Connection:
        db = connect(*args, **kwargs)
        db.execute(f"PRAGMA max_page_count = {most}")
        return db

    first = await insert(store)
    monkeypatch.setattr(connection, "connect", limited)
    await store._connections.write(lambda db: db.execute(f"PRAGMA max_page_count = {most}"))
    jobs = [store.insert_job(make_job_record(), containers=5000) for _ in range(5)]
    failures = await asyncio.gather(*jobs, return_exceptions=True)
    for failure in failures:
        assert isinstance(failure, StorageFullError)
        assert "is full: free some space" in str(failure)
    assert [job.id for job in (await store.list_jobs(JobQuery())).jobs] == [first]
    most = pages + 10_000
    await store.insert_job(make_job_record(), containers=5000)
    assert len((await store.list_jobs(JobQuery())).jobs) == 2


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_CANTOPEN])
async def test_a_quota_fails_writes_once_its_reserve_is_used(path, monkeypatch, code):
    """SQLite has no code of its own for EDQUOT, so that the system is asked whether another byte can be written."""
    connections = Connections(path)
    await connections.open()
    reserve = path.with_suffix(".reserve")
    failures = 0

    def refused(db: sqlite3.Connection) -> None:
        nonlocal failures
        failures += 1
        db.execute("ROLLBACK")
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = code
        raise error

    def exceeded(*_: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    try:
        with pytest.raises(UnavailableError):
            await connections.write(refused)
        assert (failures, reserve.exists()) == (1, True)
        monkeypatch.setattr(disk_reserve.os, "fsync", exceeded)
        monkeypatch.setattr(disk_reserve.os, "posix_fallocate", exceeded)
        with pytest.raises(StorageFullError):
            await connections.write(refused)
        assert (failures, reserve.exists()) == (3, False), "it was tried again without the reserve"
        with pytest.raises(StorageFullError):
            connections.check_room()
    finally:
        await connections.close()


_FILE_LIMIT = """
import asyncio, resource, signal, sys
from pathlib import Path
from cts_core.errors import CTSError
from cts_core.model.record import JobQuery
from cts_core.records.sqlite.store import SQLiteStore
from tests.harness.factories import make_job_record

async def main():
    store = SQLiteStore(Path(sys.argv[1]))
    await store.open()
    await store.insert_job(make_job_record(), containers=1)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        await store.insert_job(make_job_record(files=10_000), containers=1)
    except CTSError as e:
        print(type(e).__name__)
    print(len((await store.list_jobs(JobQuery())).jobs))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await store.insert_job(make_job_record(files=10_000), containers=1)
    print(len((await store.list_jobs(JobQuery())).jobs))
    await store.close()

asyncio.run(main())
"""


@pytest.mark.slow
def test_the_store_recovers_from_a_write_that_the_system_refuses(path):
    if resource.getrlimit(resource.RLIMIT_FSIZE)[1] != resource.RLIM_INFINITY:
        pytest.skip("this system limits the size of files")
    done = subprocess.run(
        [sys.executable, "-c", _FILE_LIMIT, path],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    error, *counts = done.stdout.split()
    assert error in ("UnavailableError", "StorageFullError"), done.stderr
    assert counts == ["1", "2"]


async def test_a_vanished_file_is_an_outage(path):
    connections = Connections(path)
    await connections.open()
    path.rename(path.with_suffix(".moved"))
    with pytest.raises(UnavailableError, match="cannot be used now"):
        await connections.read(lambda db: db.execute("SELECT 1"))
    assert not path.exists(), "an empty file in its place would look like a store without jobs"
    path.with_suffix(".moved").rename(path)
    await connections.read(lambda db: db.execute("SELECT count(*) FROM jobs"))
    await connections.close()


async def test_a_vanished_folder_is_not_a_full_disk(store, path):
    path.parent.rename(path.parent.with_name("moved"))
    with pytest.raises(UnavailableError, match="cannot be used now"):
        await insert(store)
    path.parent.with_name("moved").rename(path.parent)
    await insert(store)


async def test_a_failing_write_does_not_affect_others_of_its_commit(store, path):
    connections = Connections(path)
    await connections.open()

    def fail(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO inactive_sites VALUES ('kbase')")
        raise KeyError

    def add(name: str) -> object:
        return connections.write(
            lambda db: db.execute(f"INSERT INTO inactive_sites VALUES ('{name}')")
        )

    answers = await asyncio.gather(
        add("local"),
        connections.write(fail),
        connections.write(lambda db: db.execute("INSERT INTO inactive_sites VALUES (NULL, 2)")),
        add("perlmutter-jaws"),
        return_exceptions=True,
    )
    assert isinstance(answers[1], KeyError)
    assert isinstance(answers[2], UnavailableError)
    assert {cluster.value for cluster in await store.inactive_sites()} == {
        "local",
        "perlmutter-jaws",
    }
    await connections.close()


async def test_a_status_does_not_wait_behind_pages(store, monkeypatch):
    job_id = await insert(store)
    go_on = threading.Event()
    page = listing.page

    def slow(*args):
        assert go_on.wait(30)
        return page(*args)

    monkeypatch.setattr(listing, "page", slow)
    pages = [
        asyncio.create_task(store.list_jobs(JobQuery())) for _ in range(2 * connection.READERS)
    ]
    await asyncio.sleep(0)
    assert (await store.get_summary(job_id)).id == job_id
    go_on.set()
    assert [len((await page).jobs) for page in pages] == [1] * len(pages)


async def test_the_number_of_waiting_operations_is_bounded(store, path, monkeypatch):
    monkeypatch.setattr("cts_core.records.sqlite.connection.MAX_WAITING", 3)
    answers = await asyncio.gather(
        *(store.inactive_sites() for _ in range(5)), return_exceptions=True
    )
    assert answers[:3] == [set()] * 3
    assert all(isinstance(answer, UnavailableError) for answer in answers[3:])
    assert await store.inactive_sites() == set()


# -- crashes --

_DYING = """
import asyncio, os, signal, sqlite3, sys
from pathlib import Path
from cts_core.records.sqlite.store import SQLiteStore
from tests.harness.factories import make_job_record

statement = sys.argv[2]
real = sqlite3.connect

def die(executed):
    if statement and executed.lstrip().startswith(statement):
        os.kill(os.getpid(), signal.SIGKILL)

def connect(*args, **options):
    db = real(*args, **options)
    db.set_trace_callback(die)
    return db

async def main():
    store = SQLiteStore(Path(sys.argv[1]))
    await store.open()
    sqlite3.connect = connect
    await store.insert_job(make_job_record(id="a-job", files=1000), containers=100)
    await store.close()

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failpoint", "statement", "is_stored"),
    [
        ("store:before=kill", "", False),
        ("", "INSERT INTO job_inputs", False),
        ("", "INSERT INTO containers", False),
        ("", "COMMIT", False),
        ("store:after=kill", "", True),
    ],
)
async def test_a_killed_writer_leaves_all_of_a_job_or_nothing(
    path, failpoint, statement, is_stored
):
    dead = subprocess.run(
        [sys.executable, "-c", _DYING, path, statement],
        cwd=ROOT,
        env={"CTS_FAILPOINTS": failpoint},
        check=False,
    )
    assert dead.returncode == -signal.SIGKILL
    store = SQLiteStore(path)
    await store.open()
    jobs = (await store.list_jobs(JobQuery())).jobs
    assert [job.id for job in jobs] == ["a-job"] * is_stored
    assert len(await store.unsent()) == is_stored
    if is_stored:
        assert len((await store.get_job("a-job")).job_input.input_files) == 1000
        assert len(await store.container_states("a-job")) == 100
    await store.close()
    tables = ("job_inputs", "containers", "transitions")
    counts = run(path, *(f"SELECT count(*) > 0 FROM {table}" for table in tables))
    assert counts == [(is_stored,)] * 3
    assert run(path, "PRAGMA integrity_check") == [("ok",)]


_BUSY = """
import asyncio, sys
from pathlib import Path
from cts_core.records.sqlite.store import SQLiteStore
from tests.harness.factories import make_job_record

async def main():
    store = SQLiteStore(Path(sys.argv[1]))
    await store.open()
    while True:
        jobs = [make_job_record() for _ in range(5)]
        await asyncio.gather(*(store.insert_job(job, containers=20) for job in jobs))
        print(*(job.id for job in jobs), flush=True)

asyncio.run(main())
"""


@pytest.mark.slow
async def test_writes_acknowledged_before_a_kill_are_durable(path):
    with subprocess.Popen(
        [sys.executable, "-c", _BUSY, path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        answered = writer.stdout.readline().split()
        for _ in range(20):
            answered += writer.stdout.readline().split()
        writer.kill()
        rest = writer.stdout.read()
    # The last line may be incomplete.
    answered += rest[: rest.rfind("\n") + 1].split()
    store = SQLiteStore(path)
    await store.open()
    stored = {job.id for job in (await store.list_jobs(JobQuery())).jobs}
    assert stored >= set(answered)
    for job_id in stored:
        assert len(await store.container_states(job_id)) == 20
    await store.close()


# -- times of recording --


async def test_a_clock_that_is_set_back_does_not_reorder_events(store, monkeypatch):
    await insert(store)
    monkeypatch.setattr(events, "utc_now", lambda: NOON)
    job_id = await insert(store)
    first, second = await store.unsent()
    assert second.job_id == job_id
    assert NOON < first.recorded_at == second.recorded_at <= utc_now()


async def test_time_is_told_by_an_open_store_alone(tmp_path: Path) -> None:
    """A call that succeeds counts as a sign that the store is up."""
    store = SQLiteStore(tmp_path / "records.sqlite")
    await store.open()
    await store.now()
    await store.close()
    with pytest.raises(UnavailableError):
        await store.now()
