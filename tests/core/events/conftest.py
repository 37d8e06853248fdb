"""The store of the tests of events."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from cts_core.records.sqlite.store import SQLiteStore


@pytest.fixture
async def store(tmp_path) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "records.sqlite")
    await store.open()
    yield store
    await store.close()
