"""Reads and writes requests for checksums in MongoDB."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from cts_core.model.checksums import ChecksumSummary, ChecksumTask, FileResult, TaskState
from cts_core.records.errors import no_such_checksums
from cts_core.records.mongo.connection import Collections
from cts_core.records.mongo.schema import CHECKSUMS_OF_USER, RUNNING_CHECKSUMS
from cts_core.records.store import MAX_CHECKSUM_TASKS

_RUNNING = {"state": TaskState.RUNNING.value}
_SUMMARY = {"_id": 0, "id": 1, "state": 1, "created": 1}


async def add(db: Collections, task: ChecksumTask) -> None:
    """Store a request, and delete the user's oldest that are over."""
    over = {"user": task.user, "state": {"$ne": TaskState.RUNNING.value}}
    cursor = db.checksums.find(over, {"_id": 0, "id": 1}, hint=list(CHECKSUMS_OF_USER))
    old = [d["id"] async for d in cursor.sort(CHECKSUMS_OF_USER[1:]).skip(MAX_CHECKSUM_TASKS)]
    if old:
        await db.checksums.delete_many({"id": {"$in": old}})
    files = await db.parse(lambda: [file.to_json() for file in task.files])
    fields = {"id": task.id, "user": task.user, "state": task.state.value, "created": task.created}
    await db.checksums.insert_one({**fields, "files": files})


async def get(db: Collections, task_id: str) -> ChecksumTask:
    """Return a request with its objects. Raises NoSuchChecksumsError."""
    found = await db.checksums.find_one({"id": task_id}, {"_id": 0, "lease": 0})
    if found is None:
        raise no_such_checksums(task_id)
    return await db.parse(lambda: ChecksumTask.model_validate(found))


async def listing(db: Collections, user: str) -> list[ChecksumSummary]:
    """Return the user's requests, newest first."""
    cursor = db.checksums.find({"user": user}, _SUMMARY, hint=list(CHECKSUMS_OF_USER))
    return [
        ChecksumSummary.model_validate(found) async for found in cursor.sort(CHECKSUMS_OF_USER[1:])
    ]


async def running(db: Collections) -> list[str]:
    """Return the ids of all requests that run, oldest first."""
    cursor = db.checksums.find(_RUNNING, {"_id": 0, "id": 1}, hint=list(RUNNING_CHECKSUMS))
    return [found["id"] async for found in cursor.sort(RUNNING_CHECKSUMS)]


async def take(
    db: Collections, task_ids: Collection[str], owner: str, now: datetime, until: datetime
) -> set[str]:
    """Take or renew the leases that no other owner holds; return the running requests that ``owner`` holds then."""
    tasks = {"id": {"$in": list(task_ids)}, **_RUNNING}
    is_free = [{"lease": None}, {"lease.owner": owner}, {"lease.until": {"$lte": now}}]
    await db.checksums.update_many(
        {**tasks, "$or": is_free}, {"$set": {"lease": {"owner": owner, "until": until}}}
    )
    held = db.checksums.find({**tasks, "lease.owner": owner}, {"_id": 0, "id": 1})
    return {found["id"] async for found in held}


async def record(db: Collections, task_id: str, number: int, result: FileResult) -> None:
    """Store what became of one object. Raises NoSuchChecksumsError."""
    which = {"id": task_id, f"files.{number}": {"$exists": True}}
    changed = await db.checksums.update_one(which, {"$set": {f"files.{number}": result.to_json()}})
    if not changed.matched_count:
        raise no_such_checksums(task_id)


async def end(db: Collections, task_id: str, state: TaskState) -> bool:
    """Move a running request to this state. Raises NoSuchChecksumsError."""
    changed = await db.checksums.update_one(
        {"id": task_id, **_RUNNING}, {"$set": {"state": state.value}}
    )
    if changed.matched_count:
        return True
    if await db.checksums.find_one({"id": task_id}, {"_id": 1}) is None:
        raise no_such_checksums(task_id)
    return False
