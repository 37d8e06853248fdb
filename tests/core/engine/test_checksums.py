"""Checksums that the service computes in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cts_core import errors
from cts_core.engine import checksums
from cts_core.engine.checksums import MAX_RUNNING, MAX_TASKS, TRIES, Checksums, choose
from cts_core.identity.identity import User
from cts_core.model.checksums import (
    ChecksumRequest,
    ChecksumTask,
    ComputationState,
    FileChecksum,
    RunningChecksums,
    TaskState,
)
from cts_core.model.event import ChecksumProgress
from cts_core.objects.directory import DirectoryStore
from cts_core.worker.checksum import crc64nvme_text
from tests.harness.engine import TIMEOUT_SECONDS, EngineHarness, running_engine

BOB = User("bob")
DONE, FAILED, WAITING = ComputationState.DONE, ComputationState.FAILED, ComputationState.WAITING


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(checksums, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(checksums, "NEXT_TRY_SECONDS", 0.02)


async def without_checksums(harness: EngineHarness, home: Path, *names: str) -> list[str]:
    """Store objects without checksums, and return their paths."""
    await harness.store("data/in/known")
    for name in names:
        (home / "objects/data/in" / name).write_text(name)
    return [f"data/in/{name}" for name in names]


def of(paths: Sequence[str], etag: str | None = None) -> ChecksumRequest:
    return ChecksumRequest(files=[FileChecksum(file=path, etag=etag) for path in paths])


async def request(
    harness: EngineHarness, paths: Sequence[str], etag: str | None = None, key: str | None = None
) -> str:
    return await harness.engine.checksums.request(harness.user, of(paths, etag), key)


async def ended(harness: EngineHarness, task_id: str) -> ChecksumTask:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            task = await harness.engine.checksums.get(harness.user, task_id)
            if task.state is not TaskState.RUNNING:
                return task
            await asyncio.sleep(0.01)


class HeldStore:
    """Holds computations back until the test lets them go on."""

    def __init__(self, harness: EngineHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[str] = []
        self.may_go_on = asyncio.Event()
        self._write = harness.engine.checksums._objects.write_checksum
        monkeypatch.setattr(harness.engine.checksums._objects, "write_checksum", self.write)

    async def write(self, path: str, *, etag: str | None) -> Any:
        self.begun.append(path)
        await self.may_go_on.wait()
        return await self._write(path, etag=etag)

    async def until_begun(self) -> None:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not self.begun:
                await asyncio.sleep(0.01)


async def test_checksums_are_computed_and_progress_is_told(
    harness: EngineHarness, tmp_path: Path
) -> None:
    paths = await without_checksums(harness, tmp_path / "home", "a", "b")
    async with harness.engine.hub.subscribe("ana") as events:
        task_id = await request(harness, [*paths, "data/in/known", "data/in/none"])
        task = await ended(harness, task_id)
        assert [file.state for file in task.files] == [DONE, DONE, DONE, FAILED]
        assert task.files[0].crc64nvme == crc64nvme_text(b"a")
        assert "was not found" in (task.files[3].error or "")
        told: dict[int, Any] = {}
        async with asyncio.timeout(TIMEOUT_SECONDS):
            async for event in events:
                assert isinstance(event, ChecksumProgress)
                told |= dict(event.changed or ())
                if event.state is TaskState.ENDED:
                    break
        assert (event.checksums_id, event.files) == (task_id, {DONE: 3, FAILED: 1})
        assert told == dict(enumerate([DONE, DONE, DONE, FAILED]))
    (listed,) = (await harness.engine.checksums.list(harness.user)).tasks
    assert (listed.id, listed.state) == (task_id, TaskState.ENDED)


async def test_an_object_that_has_changed_is_left_alone(
    harness: EngineHarness, tmp_path: Path
) -> None:
    paths = await without_checksums(harness, tmp_path / "home", "a")
    task = await ended(harness, await request(harness, paths, etag="another"))
    assert task.files[0].state is FAILED
    assert "has changed since it was chosen" in (task.files[0].error or "")
    (stored,) = await harness.engine._objects.head(paths)
    assert stored.crc64nvme is None


async def test_a_request_goes_on_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    async with running_engine(home, {}) as first:
        held = HeldStore(first, monkeypatch)
        paths = await without_checksums(first, home, "a", "b", "c")
        task_id = await request(first, paths)
        await held.until_begun()
    async with running_engine(home, {}) as second:
        task = await ended(second, task_id)
        assert [file.state for file in task.files] == [DONE] * 3
    assert held.begun == paths[:1]


async def test_a_canceled_request_computes_no_more(
    harness: EngineHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldStore(harness, monkeypatch)
    paths = await without_checksums(harness, tmp_path / "home", "a", "b")
    task_id = await request(harness, paths)
    await held.until_begun()
    service = harness.engine.checksums
    with pytest.raises(errors.UnauthorizedError):
        await service.cancel(BOB, task_id)
    await service.cancel(harness.user, task_id)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while service._tasks:
            await asyncio.sleep(0.01)
    held.may_go_on.set()
    task = await service.get(harness.user, task_id)
    assert (task.state, [f.state for f in task.files]) == (TaskState.CANCELED, [WAITING] * 2)
    await service.cancel(harness.user, task_id)
    assert held.begun == paths[:1]


async def test_an_outage_is_waited_for(
    harness: EngineHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = await without_checksums(harness, tmp_path / "home", "a", "b")
    head, outages = DirectoryStore.head, 2 * TRIES
    asked: list[str] = []

    async def away(store: DirectoryStore, heads: Any) -> Any:
        nonlocal outages
        asked.extend(heads)
        if heads[0] == paths[0]:
            outages -= 1
        if outages >= 0:
            raise errors.UnavailableError("the store is away")
        return await head(store, heads)

    monkeypatch.setattr(DirectoryStore, "head", away)
    task = await ended(harness, await request(harness, paths))
    assert [file.state for file in task.files] == [DONE, DONE]
    # The next object is not touched before the outage is over.
    assert [path for path in asked if path in paths] == [paths[0]] * (2 * TRIES + 1) + [paths[1]]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.StorageFullError("no space left: free some"), "no space left: free some"),
        (errors.UnavailableError("HTTP 500"), "HTTP 500"),
        (ValueError("a bug"), "could not be computed: ask an administrator"),
    ],
)
async def test_an_object_that_fails_keeps_no_other_waiting(
    harness: EngineHarness,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    message: str,
) -> None:
    paths = await without_checksums(harness, tmp_path / "home", "bad", "b")
    objects = harness.engine.checksums._objects
    write, tried = objects.write_checksum, list[str]()

    async def failing(path: str, *, etag: str | None) -> Any:
        tried.append(path)
        if path == paths[0]:
            raise error
        return await write(path, etag=etag)

    monkeypatch.setattr(objects, "write_checksum", failing)
    task = await ended(harness, await request(harness, paths))
    assert [file.state for file in task.files] == [FAILED, DONE]
    assert message in (task.files[0].error or "")
    assert tried == [*paths, *[paths[0]] * (TRIES - 1)]


async def test_an_object_that_fails_once_is_tried_again(
    harness: EngineHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = await without_checksums(harness, tmp_path / "home", "a")
    objects = harness.engine.checksums._objects
    write, failures = objects.write_checksum, [errors.UnavailableError("HTTP 500")]

    async def failing(path: str, *, etag: str | None) -> Any:
        if failures:
            raise failures.pop()
        return await write(path, etag=etag)

    monkeypatch.setattr(objects, "write_checksum", failing)
    task = await ended(harness, await request(harness, paths))
    assert (task.files[0].state, task.files[0].error) == (DONE, None)


async def test_requests_are_bounded(
    harness: EngineHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldStore(harness, monkeypatch)
    paths = await without_checksums(harness, tmp_path / "home", "a")
    found = await asyncio.gather(
        *(request(harness, paths) for _ in range(3 * MAX_RUNNING)), return_exceptions=True
    )
    assert sum(isinstance(each, str) for each in found) == MAX_RUNNING
    with pytest.raises(errors.TooManyRequestsError, match="10 requests for checksums of user ana"):
        await request(harness, paths)
    held.may_go_on.set()
    for task in (await harness.engine.checksums.list(harness.user)).tasks:
        await ended(harness, task.id)
    assert await request(harness, paths)


async def test_a_key_makes_one_request_of_a_user_also_of_many_at_once(
    harness: EngineHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldStore(harness, monkeypatch)
    paths = await without_checksums(harness, tmp_path / "home", "a", "b")
    service = harness.engine.checksums
    asked = await asyncio.gather(
        *(request(harness, paths, key="k") for _ in range(2 * MAX_RUNNING))
    )
    (task,) = (await service.list(harness.user)).tasks
    assert set(asked) == {task.id}
    for other in (paths[:1], [*paths, paths[0]]):
        with pytest.raises(
            errors.IllegalParameterError, match=rf"checksums {task.id}\): use a new"
        ):
            await request(harness, other, key="k")
    with pytest.raises(errors.IllegalParameterError, match="1 to 255 printable"):
        await request(harness, paths, key="")
    assert await service.request(BOB, of(paths), "k") != task.id
    held.may_go_on.set()
    await ended(harness, task.id)
    assert await request(harness, paths, key="k") == task.id


def second_server(harness: EngineHarness) -> Checksums:
    """Return what computes checksums at another server of the same records and objects."""
    first = harness.engine.checksums
    return Checksums(
        first._store, first._objects, first._access, first._hub, is_away=first._is_away
    )


async def until_held(*servers: Checksums, count: int) -> list[set[str]]:
    """Return the requests that each server computes, once they are so many together."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while sum(len(server._tasks) for server in servers) < count:
            await asyncio.sleep(0.01)
    return [set(server._tasks) for server in servers]


async def test_servers_share_requests(
    harness: EngineHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldStore(harness, monkeypatch)
    paths = await without_checksums(harness, tmp_path / "home", "a")
    first, second = harness.engine.checksums, second_server(harness)
    asked = [await first.request(User(f"user{n}"), of(paths)) for n in range(MAX_TASKS + 1)]
    (computed,) = await until_held(first, count=MAX_TASKS)
    assert computed == set(asked[:MAX_TASKS])
    await second.start()
    try:
        assert await until_held(first, second, count=MAX_TASKS + 1) == [computed, {asked[-1]}]
    finally:
        await second.stop()
    held.may_go_on.set()


async def test_many_requests_of_a_user_keep_no_other_waiting(
    harness: EngineHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldStore(harness, monkeypatch)
    paths = await without_checksums(harness, tmp_path / "home", "a", "b")
    service = harness.engine.checksums
    mine = [await request(harness, paths[:1]) for _ in range(MAX_RUNNING)]
    await held.until_begun()
    bobs = await service.request(BOB, of(paths[1:]))
    assert await until_held(service, count=2) == [{mine[0], bobs}]
    held.may_go_on.set()
    for task_id in mine:
        assert (await ended(harness, task_id)).files[0].state is DONE
    assert held.begun == paths


def test_users_have_turns() -> None:
    running = [
        RunningChecksums(id=f"{user}{n}", user=user)
        for user in ("ana", *(f"u{n}" for n in range(MAX_TASKS)))
        for n in range(2)
    ]
    others = [f"u{n}0" for n in range(MAX_TASKS)]
    assert choose(running, (), {}) == ["ana0", *others[:-1]]
    # What is computed goes on, and of the others who has waited longest is next.
    assert choose(running, {"u31"}, {"ana": 1, "u3": 2}) == ["u31", *others[:3], *others[4:]]


async def test_the_end_is_told_also_when_the_request_is_looked_at_just_then(
    harness: EngineHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = harness.engine.checksums
    end = service._store.end_checksums

    async def looked_at(task_id: str, state: TaskState) -> bool:
        is_ended = await end(task_id, state)
        await service._advance()
        await asyncio.sleep(0)  # a cancellation would hit here
        return is_ended

    monkeypatch.setattr(service._store, "end_checksums", looked_at)
    paths = await without_checksums(harness, tmp_path / "home", "a")
    async with harness.engine.hub.subscribe("ana") as events:
        await request(harness, paths)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            async for event in events:
                assert isinstance(event, ChecksumProgress)
                if event.state is TaskState.ENDED:
                    break


async def test_a_user_gives_checksums_to_their_own_objects_alone(tmp_path: Path) -> None:
    settings = {"allowed_paths": ["data/{user}"]}
    async with running_engine(tmp_path / "home", settings) as harness:
        with pytest.raises(errors.PathInaccessibleError, match="data/bob/x"):
            await request(harness, ["data/ana/x", "data/bob/x"])
        assert (await harness.engine.checksums.list(harness.user)).tasks == []
    with pytest.raises(errors.NoSuchChecksumsError):
        async with running_engine(tmp_path / "home", settings) as harness:
            await harness.engine.checksums.get(harness.user, "none")
