"""Reads and writes requests for checksums in MongoDB."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from pymongo.errors import DuplicateKeyError

from cts_core.model.checksums import (
    ChecksumSummary,
    ChecksumTask,
    FileResult,
    RunningChecksums,
    TaskState,
)
from cts_core.model.record import Idempotency
from cts_core.records.errors import no_such_checksums, too_many_checksums
from cts_core.records.mongo import documents
from cts_core.records.mongo.connection import Collections
from cts_core.records.mongo.schema import (
    CHECKSUM_FILES,
    CHECKSUM_KEY,
    CHECKSUM_SLOT,
    CHECKSUMS_BY_KEY,
    CHECKSUMS_OF_USER,
    RUNNING_CHECKSUMS,
    SLOTS_OF_USER,
)
from cts_core.records.store import MAX_CHECKSUM_TASKS, KeyHolder

_RUNNING = {"state": TaskState.RUNNING.value}
_WHOLE = {"_id": 0, "lease": 0, "idempotency": 0, CHECKSUM_SLOT: 0}
_SUMMARY = {"_id": 0, "id": 1, "state": 1, "created": 1}


async def add(
    db: Collections, task: ChecksumTask, max_running: int, idempotency: Idempotency | None
) -> KeyHolder | None:
    """Store a request, and delete the user's oldest that are over.

    Returns the request that already holds the idempotency key, if there is one, and stores nothing. Raises
    TooManyRequestsError.

    The objects are stored first, and the request last: objects of a request that is not stored are never read. A crash
    in between leaves them behind.
    """
    free = await _free_slots(db, task.user, max_running)
    # Not before the slots: the request with this key may have taken the last one meanwhile.
    holder = await _find_holder(db, task.user, idempotency)
    if holder is not None:
        return holder
    if not free:
        raise too_many_checksums(task.user, max_running)
    await _delete_oldest(db, task.user)
    files = await db.convert(
        len(task.files) * documents.BYTES_OF_FILE,
        lambda: [
            documents.encode({"id": task.id, "number": number, "result": file.to_json()})
            for number, file in enumerate(task.files)
        ],
    )
    await db.checksum_files.insert_many(files, ordered=False)
    request: dict[str, Any] = {
        "id": task.id,
        "user": task.user,
        "state": task.state.value,
        "created": task.created,
        "files": len(files),
    }
    if idempotency is not None:
        request["idempotency"] = {"key": idempotency.key, "body_hash": idempotency.body_hash}
    for slot in free:
        try:
            await db.checksums.insert_one({**request, CHECKSUM_SLOT: slot})
        except DuplicateKeyError:
            # Another request has taken the slot meanwhile, or the key.
            holder = await _find_holder(db, task.user, idempotency)
            if holder is not None:
                break
        else:
            return None
    await db.checksum_files.delete_many({"id": task.id})
    if holder is None:
        raise too_many_checksums(task.user, max_running)
    return holder


async def _find_holder(
    db: Collections, user: str, idempotency: Idempotency | None
) -> KeyHolder | None:
    if idempotency is None:
        return None
    which = {"user": user, CHECKSUM_KEY: idempotency.key}
    fields = {"_id": 0, "id": 1, "idempotency": 1}
    found = await db.checksums.find_one(which, fields, hint=list(CHECKSUMS_BY_KEY))
    return KeyHolder(found["id"], found["idempotency"]["body_hash"]) if found else None


async def _free_slots(db: Collections, user: str, count: int) -> list[int]:
    taken = {"user": user, CHECKSUM_SLOT: {"$exists": True}}
    cursor = db.checksums.find(taken, {"_id": 0, CHECKSUM_SLOT: 1}, hint=list(SLOTS_OF_USER))
    slots = {found[CHECKSUM_SLOT] async for found in cursor}
    return [slot for slot in range(count) if slot not in slots]


async def _delete_oldest(db: Collections, user: str) -> None:
    over = {"user": user, "state": {"$ne": TaskState.RUNNING.value}}
    cursor = db.checksums.find(over, {"_id": 0, "id": 1}, hint=list(CHECKSUMS_OF_USER))
    old = [d["id"] async for d in cursor.sort(CHECKSUMS_OF_USER[1:]).skip(MAX_CHECKSUM_TASKS)]
    if old:
        await db.checksums.delete_many({"id": {"$in": old}})
        await db.checksum_files.delete_many({"id": {"$in": old}})


async def get(db: Collections, task_id: str) -> ChecksumTask:
    """Return a request with its objects. Raises NoSuchChecksumsError."""
    found = await db.checksums.find_one({"id": task_id}, _WHOLE)
    if found is None:
        raise no_such_checksums(task_id)
    fields = {"_id": 0, "result": 1}
    cursor = db.checksum_files.find({"id": task_id}, fields, hint=list(CHECKSUM_FILES))
    files = await cursor.sort("number").to_list()
    if len(files) != found["files"]:
        raise no_such_checksums(task_id)  # it is being deleted
    return await db.parse(
        lambda files: ChecksumTask.model_validate(
            {**found, "files": [file["result"] for file in files]}
        ),
        files,
    )


async def listing(db: Collections, user: str) -> list[ChecksumSummary]:
    """Return the user's requests, newest first."""
    cursor = db.checksums.find({"user": user}, _SUMMARY, hint=list(CHECKSUMS_OF_USER))
    return [
        ChecksumSummary.model_validate(found) async for found in cursor.sort(CHECKSUMS_OF_USER[1:])
    ]


async def running(db: Collections, owner: str, now: datetime) -> list[RunningChecksums]:
    """Return the requests that run and that no other owner has a lease on, oldest first."""
    free = {**_RUNNING, **_is_free(owner, now)}
    fields = {"_id": 0, "id": 1, "user": 1}
    cursor = db.checksums.find(free, fields, hint=list(RUNNING_CHECKSUMS))
    return [RunningChecksums.model_validate(d) async for d in cursor.sort(RUNNING_CHECKSUMS)]


def _is_free(owner: str, now: datetime) -> dict[str, Any]:
    return {"$or": [{"lease": None}, {"lease.owner": owner}, {"lease.until": {"$lte": now}}]}


async def take(
    db: Collections, task_ids: Collection[str], owner: str, now: datetime, until: datetime
) -> set[str]:
    """Take or renew the leases that no other owner holds; return the running requests that ``owner`` holds then."""
    tasks = {"id": {"$in": list(task_ids)}, **_RUNNING}
    await db.checksums.update_many(
        {**tasks, **_is_free(owner, now)}, {"$set": {"lease": {"owner": owner, "until": until}}}
    )
    held = db.checksums.find({**tasks, "lease.owner": owner}, {"_id": 0, "id": 1})
    return {found["id"] async for found in held}


async def record(db: Collections, task_id: str, number: int, result: FileResult) -> None:
    """Store what became of one object. Raises NoSuchChecksumsError."""
    changed = await db.checksum_files.update_one(
        {"id": task_id, "number": number}, {"$set": {"result": result.to_json()}}
    )
    if not changed.matched_count:
        raise no_such_checksums(task_id)


async def end(db: Collections, task_id: str, state: TaskState) -> bool:
    """Move a running request to this state. Raises NoSuchChecksumsError."""
    changed = await db.checksums.update_one(
        {"id": task_id, **_RUNNING},
        {"$set": {"state": state.value}, "$unset": {CHECKSUM_SLOT: ""}},
    )
    if changed.matched_count:
        return True
    if await db.checksums.find_one({"id": task_id}, {"_id": 1}) is None:
        raise no_such_checksums(task_id)
    return False
