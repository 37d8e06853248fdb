"""The contract of record stores: requests for checksums."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from datetime import datetime
from typing import Any

import pytest

from cts_core.errors import NoSuchChecksumsError, TooManyRequestsError
from cts_core.model.checksums import (
    MAX_FILES,
    ChecksumTask,
    ComputationState,
    FileResult,
    TaskState,
)
from cts_core.model.record import Idempotency
from cts_core.records.store import MAX_CHECKSUM_TASKS, KeyHolder, RecordStore
from tests.harness.factories import CRC, NOON
from tests.harness.records import SECOND

DONE = FileResult(file="data/b", state=ComputationState.DONE, crc64nvme=CRC)


def make(time: datetime = NOON, **changes: Any) -> ChecksumTask:
    files = [FileResult(file="data/a", etag="e"), FileResult(file="data/b")]
    task = ChecksumTask(id=str(uuid.uuid4()), user="ana", created=time, files=files)
    return task.model_copy(update=changes)


async def add(store: RecordStore, time: datetime = NOON, **changes: Any) -> ChecksumTask:
    task = make(time, **changes)
    assert await store.add_checksums(task, max_running=10) is None
    return task


async def test_a_request_comes_back_as_it_was_stored(store, other):
    task = await add(store)
    assert await other.get_checksums(task.id) == task
    await store.record_checksum(task.id, 1, DONE)
    failed = FileResult(file="data/a", etag="e", state=ComputationState.FAILED, error="gone")
    await store.record_checksum(task.id, 0, failed)
    found = await other.get_checksums(task.id)
    assert found == task.model_copy(update={"files": [failed, DONE]})
    assert [file.to_json().keys() for file in found.files][1] == {"file", "state", "crc64nvme"}


async def test_requests_are_listed_and_run_oldest_first(store):
    tasks = [await add(store, NOON + n * SECOND) for n in (2, 0, 1)]
    await add(store, user="bob", time=NOON + 3 * SECOND)
    listed = await store.list_checksums("ana")
    assert [task.id for task in listed] == [tasks[n].id for n in (0, 2, 1)]
    assert (listed[0].state, listed[0].created) == (TaskState.RUNNING, tasks[0].created)
    assert await store.end_checksums(tasks[1].id, TaskState.CANCELED)
    assert not await store.end_checksums(tasks[1].id, TaskState.ENDED)
    assert (await store.get_checksums(tasks[1].id)).state is TaskState.CANCELED
    running = await store.running_checksums("a", now=NOON)
    assert [(each.id, each.user) for each in running[:2]] == [
        (tasks[2].id, "ana"),
        (tasks[0].id, "ana"),
    ]
    assert running[2].user == "bob"
    assert await store.list_checksums("eve") == []


async def test_one_server_computes_a_request(store, other):
    first, second = await add(store), await add(store)
    both = [first.id, second.id]
    until = NOON + 30 * SECOND
    assert await store.take_checksums(both[:1], "a", now=NOON, until=until) == {first.id}
    assert await other.take_checksums(both, "b", now=NOON, until=until) == {second.id}
    assert await store.take_checksums(both, "a", now=NOON, until=until + SECOND) == {first.id}
    for owner, now, free in (
        ("a", NOON, {first.id}),
        ("b", NOON, {second.id}),
        ("c", NOON, set()),
        ("c", until, {second.id}),
        ("c", until + SECOND, set(both)),
    ):
        running = await store.running_checksums(owner, now=now)
        assert {each.id for each in running} == free
    # The first server is gone.
    assert await other.take_checksums(both, "b", now=until, until=until) == {second.id}
    later = until + SECOND
    assert await other.take_checksums(both, "b", now=later, until=later) == set(both)
    await store.end_checksums(first.id, TaskState.ENDED)
    assert await other.take_checksums(both, "b", now=later, until=later) == {second.id}


async def test_requests_that_are_over_are_kept_in_number(store):
    tasks = []
    for n in range(MAX_CHECKSUM_TASKS + 1):
        tasks.append(await add(store, NOON + n * SECOND))
        await store.end_checksums(tasks[-1].id, TaskState.ENDED)
    await add(store, NOON + 9999 * SECOND)
    listed = await store.list_checksums("ana")
    assert len(listed) == MAX_CHECKSUM_TASKS + 1
    for call in (
        store.get_checksums(tasks[0].id),
        store.record_checksum(tasks[0].id, 0, DONE),  # its objects are deleted, too
    ):
        with pytest.raises(NoSuchChecksumsError):
            await call


async def test_no_such_request(store):
    for call in (
        store.get_checksums("none"),
        store.record_checksum("none", 0, DONE),
        store.end_checksums("none", TaskState.ENDED),
    ):
        with pytest.raises(NoSuchChecksumsError, match="No request for checksums with ID 'none'"):
            await call
    task = await add(store)
    with pytest.raises(NoSuchChecksumsError):
        await store.record_checksum(task.id, 2, DONE)


async def test_as_many_requests_of_a_user_run_as_may(store, other):
    tasks = [make() for _ in range(12)]
    added = await asyncio.gather(
        *(
            server.add_checksums(task, max_running=3)
            for task, server in zip(tasks, [store, other] * 6, strict=True)
        ),
        return_exceptions=True,
    )
    assert Counter(map(type, added)) == {type(None): 3, TooManyRequestsError: 9}
    running = {task.id for task, error in zip(tasks, added, strict=True) if error is None}
    assert {task.id for task in await store.list_checksums("ana")} == running
    refused = next(task.id for task in tasks if task.id not in running)
    for call in (store.get_checksums(refused), store.record_checksum(refused, 0, DONE)):
        with pytest.raises(NoSuchChecksumsError):
            await call
    assert await store.add_checksums(make(user="bob"), max_running=3) is None
    await store.end_checksums(running.pop(), TaskState.CANCELED)
    assert await store.add_checksums(make(), max_running=3) is None
    with pytest.raises(TooManyRequestsError, match="3 requests for checksums of user ana run"):
        await store.add_checksums(make(), max_running=3)


async def test_an_idempotency_key_is_of_one_request_of_its_user(store, other):
    key = Idempotency("key", "hash")
    task = make()
    assert await store.add_checksums(task, max_running=1, idempotency=key) is None
    # Also where no other one may run.
    for again in (key, Idempotency("key", "other hash")):
        found = await other.add_checksums(make(), max_running=1, idempotency=again)
        assert found == KeyHolder(task.id, "hash")
    assert await other.get_checksums(task.id) == task
    assert await store.add_checksums(make(user="bob"), max_running=1, idempotency=key) is None
    await store.end_checksums(task.id, TaskState.ENDED)
    again = await store.add_checksums(make(), max_running=1, idempotency=key)
    assert again == KeyHolder(task.id, "hash")
    assert [each.id for each in await store.list_checksums("ana")] == [task.id]


@pytest.mark.parametrize("max_running", [1, 10])
async def test_one_request_is_stored_of_many_with_one_key(store, other, max_running):
    tasks = [
        make(files=[FileResult(file=f"data/{n}/{k}") for k in range(n + 1)]) for n in range(20)
    ]
    answers = await asyncio.gather(
        *(
            server.add_checksums(
                task, max_running=max_running, idempotency=Idempotency("key", "hash")
            )
            for task, server in zip(tasks, [store, other] * 10, strict=True)
        )
    )
    (listed,) = await store.list_checksums("ana")
    assert Counter(answers) == {None: 1, KeyHolder(listed.id, "hash"): 19}
    # Of the objects of the others none is left behind, and none is among its own.
    (stored,) = [task for task in tasks if task.id == listed.id]
    assert await store.get_checksums(listed.id) == stored
    for task in tasks:
        if task is not stored:
            with pytest.raises(NoSuchChecksumsError):
                await store.record_checksum(task.id, 0, DONE)


@pytest.mark.slow
async def test_a_request_of_many_objects_is_stored_whatever_is_said_of_them(store):
    # More than MongoDB keeps in one document.
    files = [FileResult(file=f"data/{n}/{'x' * 900}", error="y" * 900) for n in range(MAX_FILES)]
    task = await add(store, files=files)
    await store.record_checksum(task.id, MAX_FILES - 1, DONE)
    assert await store.get_checksums(task.id) == task.model_copy(
        update={"files": [*files[:-1], DONE]}
    )
