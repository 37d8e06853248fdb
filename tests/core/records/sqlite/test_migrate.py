"""Migrations: a record file of an older version is brought to this one, and loses nothing."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cts_core.model.record import JobOutcome, JobQuery, JobRecord
from cts_core.records.sqlite import jobs as sqlite_jobs
from cts_core.records.sqlite import schema as sqlite_schema
from cts_core.records.sqlite.store import SQLiteStore
from cts_core.states import JobState
from tests.harness.factories import make_image, make_job_record
from tests.harness.records import move

VERSION_1 = Path(__file__).with_name("records_version_1.sql")
NEW_COLUMNS = {"parent_id", "words", "error_words"}


def make_version_1(path: Path, jobs: list[JobRecord]) -> None:
    """Create a file as version 1 did."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(VERSION_1.read_text())
        for job in jobs:
            insert_as_version_1(db, job)
        db.commit()


def insert_as_version_1(db: sqlite3.Connection, job: JobRecord) -> None:
    new = sqlite_jobs.NewJob.of(job, 1)
    columns = {name: v for name, v in new.columns.items() if name not in NEW_COLUMNS}
    names = ", ".join(columns)
    db.execute(f"INSERT INTO jobs ({names}) VALUES ({', '.join('?' * len(columns))})",
               tuple(columns.values()))  # fmt: skip
    db.execute("INSERT INTO job_inputs VALUES (?, ?)", (job.id, new.input_files))
    db.execute(
        "INSERT INTO transitions (job_id, state, time, trans_id, notif_sent, recorded_at) "
        "VALUES (?, 'created', ?, ?, 0, ?)",
        (job.id, columns["created"], job.transition_times[0].trans_id, columns["created"]),
    )
    steps = json.dumps([["download_submitted", columns["created"]]])
    db.execute(
        "INSERT INTO containers VALUES (?, 0, 'download_submitted', ?, '{}')", (job.id, steps)
    )


def schema(path: Path) -> set[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as db:
        found = db.execute("SELECT name, sql FROM sqlite_master").fetchall()
    return {(name, " ".join((sql or "").split())) for name, sql in found}


@pytest.mark.slow
async def test_a_migration_from_version_1_keeps_the_jobs(tmp_path):
    path = tmp_path / "records.sqlite"
    jobs = [
        make_job_record(
            labels={"study": "Äpfel"}, image="host/Tool:latest", output_dir=f"data/o{n}"
        )
        for n in range(1500)
    ]
    failed = make_job_record().model_copy(update={"error": "Disk FULL"})
    make_version_1(path, [*jobs, failed])
    store = SQLiteStore(path)
    await store.open()
    found = await store.get_job(jobs[0].id)
    assert found.model_dump(exclude={"transition_times"}) == jobs[0].model_dump(
        exclude={"transition_times"}
    )
    assert len((await store.list_jobs(JobQuery(limit=2000))).jobs) == 1501
    for text, expected in {
        jobs[7].id: jobs[7],
        "data/o1499": jobs[1499],
        "disk full": failed,
    }.items():
        (listed,) = (await store.list_jobs(JobQuery(text=text))).jobs
        assert listed.id == expected.id
    assert len((await store.list_jobs(JobQuery(text="STUDY=äpfel", limit=2000))).jobs) == 1500
    assert await store.live_containers("ana") == 1501
    assert await move(store, jobs[0].id, JobState.CREATED, JobState.ERROR)
    await store.add_image(make_image())
    await store.close()


async def test_a_migrated_file_has_the_schema_of_a_new_one(tmp_path):
    paths = [tmp_path / "old.sqlite", tmp_path / "new.sqlite"]
    make_version_1(paths[0], [])
    for path in paths:
        store = SQLiteStore(path)
        await store.open()
        await store.close()
    assert schema(paths[0]) == schema(paths[1])
    for path in paths:
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (sqlite_schema.VERSION,)
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_concurrent_migrations(tmp_path):
    path = tmp_path / "records.sqlite"
    make_version_1(path, [make_job_record()])
    stores = [SQLiteStore(path) for _ in range(8)]
    await asyncio.gather(*(store.open() for store in stores))
    for store in stores:
        assert len((await store.list_jobs(JobQuery(text="HOST/tool"))).jobs) == 1
    await asyncio.gather(*(store.close() for store in stores))


async def test_a_failed_migration_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "records.sqlite"
    make_version_1(path, [make_job_record()])
    before = schema(path)

    def fail(db: sqlite3.Connection) -> None:
        raise RuntimeError

    steps = (*sqlite_schema._MIGRATIONS[:1], (sqlite_schema._MIGRATIONS[1][0], fail))
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_schema, "_MIGRATIONS", steps)
        with pytest.raises(RuntimeError):
            await SQLiteStore(path).open()
    assert schema(path) == before
    store = SQLiteStore(path)
    await store.open()
    assert len((await store.list_jobs(JobQuery())).jobs) == 1
    await store.close()


async def test_a_server_of_version_1_works_beside_this_version(tmp_path):
    path = tmp_path / "records.sqlite"
    make_version_1(path, [])
    with closing(sqlite3.connect(path)) as old:
        store = SQLiteStore(path)
        await store.open()
        job = make_job_record()
        insert_as_version_1(old, job)
        old.commit()
        assert await move(
            store,
            job.id,
            JobState.CREATED,
            JobState.DOWNLOAD_SUBMITTED,
            outcome=JobOutcome(error="x"),
        )
        assert [found.id for found in (await store.list_jobs(JobQuery())).jobs] == [job.id]
        await store.close()
