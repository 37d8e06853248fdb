"""Writes that the database aborts because they meet others."""

from __future__ import annotations

import pytest
from pymongo.errors import DuplicateKeyError, OperationFailure

from cts_core.backoff import Backoff
from cts_core.records.mongo import conflicts
from cts_core.records.mongo.conflicts import CODES, TRIES, retry_conflicts


class Write:
    """Fails with each of these errors in turn, then returns how often it was tried."""

    def __init__(self, *errors: Exception) -> None:
        self.tries = 0
        self._errors = list(errors)

    async def __call__(self) -> int:
        self.tries += 1
        if self._errors:
            raise self._errors.pop(0)
        return self.tries


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conflicts, "BACKOFF", Backoff(first=0.0, longest=0.0))


@pytest.mark.parametrize("code", CODES)
async def test_an_aborted_write_is_tried_again(code: int) -> None:
    assert await retry_conflicts(Write(*[OperationFailure("aborted", code)] * 2)) == 3


async def test_tries_are_bounded() -> None:
    write = Write(*[OperationFailure("aborted", CODES[0])] * (TRIES + 1))
    with pytest.raises(OperationFailure, match="aborted"):
        await retry_conflicts(write)
    assert write.tries == TRIES


@pytest.mark.parametrize("error", [DuplicateKeyError("taken", 11000), OperationFailure("no", 13)])
async def test_any_other_failure_is_the_writes(error: OperationFailure) -> None:
    write = Write(error)
    with pytest.raises(type(error)):
        await retry_conflicts(write)
    assert write.tries == 1
