"""The record stores of the contract tests. A new adapter joins by a fixture parameter."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from cts_core.records.mongo.store import MongoStore
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
async def other(make_store, store) -> AsyncIterator[RecordStore]:
    """A second store on the same records, as of another server."""
    other = make_store()
    await other.open()
    yield other
    await other.close()
