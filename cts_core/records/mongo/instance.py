"""Reads the id of a MongoDB record store, and makes it once."""

from __future__ import annotations

import uuid

from cts_core.records.mongo.connection import Collections
from cts_core.records.mongo.schema import upsert

_WHICH = {"_id": "instance"}


async def read(db: Collections) -> str:
    """Return the id; the first server that asks for it makes it."""
    await upsert(db.store, _WHICH, {"$setOnInsert": {"id": uuid.uuid4().hex}})
    stored = await db.store.find_one(_WHICH)
    if stored is None:
        raise LookupError("the document with the id of these records was deleted a moment ago")
    return str(stored["id"])
