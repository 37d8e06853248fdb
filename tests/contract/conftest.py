"""The record stores of the contract tests. A new adapter joins by a fixture parameter."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime

import pytest

from cts_core.records.mongo.store import MongoStore
from cts_core.records.sqlite import rows
from cts_core.records.sqlite.store import SQLiteStore
from cts_core.records.store import RecordStore


@pytest.fixture(params=["sqlite", pytest.param("mongo", marks=pytest.mark.slow)])
def make_store(request, tmp_path) -> Iterator[Callable[[], RecordStore]]:
    """Return a factory of stores on the same records; it can be pickled."""
    if request.param == "sqlite":
        yield functools.partial(SQLiteStore, tmp_path / "home" / "records.sqlite")
    else:
        yield functools.partial(MongoStore, request.getfixturevalue("mongo_settings"))


@pytest.fixture
async def store(make_store) -> AsyncIterator[RecordStore]:
    store = make_store()
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def set_recorded(request, make_store) -> Callable[[Sequence[str], datetime], None]:
    """Return a function that gives the first transition of each of these jobs this time of recording, past the store."""

    def in_sqlite(job_ids: Sequence[str], time: datetime) -> None:
        with contextlib.closing(sqlite3.connect(*make_store.args)) as db, db:
            db.executemany(
                "UPDATE transitions SET recorded_at = ? WHERE job_id = ?",
                [(rows.to_number(time), job_id) for job_id in job_ids],
            )

    def in_mongo(job_ids: Sequence[str], time: datetime) -> None:
        request.getfixturevalue("db").jobs.update_many(
            {"id": {"$in": list(job_ids)}}, {"$set": {"transition_times.0._recorded_at": time}}
        )

    return in_sqlite if make_store.func is SQLiteStore else in_mongo


@pytest.fixture
async def other(make_store, store) -> AsyncIterator[RecordStore]:
    """A second store on the same records, as of another server."""
    other = make_store()
    await other.open()
    yield other
    await other.close()
