"""What the Mongo store knows of workers elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from cts_core.model.worker import Claim, ContainerId
from cts_core.records.mongo.audit import check_job
from cts_core.records.mongo.connection import Collections
from cts_core.records.mongo.containers import check_container
from cts_core.records.mongo.schema import IS_LIVE

_CLAIM = "_cts.claim"


async def add_tokens(
    db: Collections, job_id: str, numbers: Mapping[str, int], *, until: datetime
) -> None:
    """Let tokens stand for containers of a job; MongoDB removes those that are too old."""
    await check_job(db, job_id)
    tokens = [
        {"hash": token_hash, "id": job_id, "sub_id": number, "until": until}
        for token_hash, number in numbers.items()
    ]
    if tokens:
        await db.tokens.insert_many(tokens)


async def find_token(db: Collections, token_hash: str, now: datetime) -> ContainerId | None:
    """The container that a token stands for."""
    found = await db.tokens.find_one({"hash": token_hash, "until": {"$gt": now}})
    if found is None:
        return None
    # Looked at after the token: a job that has ended stays so.
    live = await db.jobs.find_one({"id": found["id"], **IS_LIVE}, {"_id": 1})
    return ContainerId(found["id"], found["sub_id"]) if live is not None else None


async def claim(db: Collections, job_id: str, number: int, new: Claim) -> bool:
    """Give a container to a worker, if nobody else has it. The filter says what ``Claim.may_follow`` does."""
    said = new.model_dump()
    same = {f"{_CLAIM}.{name}": value for name, value in said.items()}
    earlier = {f"{_CLAIM}.process": new.process, f"{_CLAIM}.run": {"$lt": new.run}}
    given = await db.subjobs.update_one(
        {"id": job_id, "sub_id": number, "$or": [{_CLAIM: {"$exists": False}}, same, earlier]},
        {"$set": {_CLAIM: said}},
    )
    if given.matched_count:
        return True
    await check_container(db, job_id, number)
    return False


async def claims(db: Collections, job_id: str) -> dict[int, Claim]:
    """For what the containers of a job were given."""
    claimed = {"id": job_id, _CLAIM: {"$exists": True}}
    found = db.subjobs.find(claimed, {"_id": 0, "sub_id": 1, _CLAIM: 1})
    return {
        int(container["sub_id"]): Claim.model_validate(container["_cts"]["claim"])
        async for container in found
    }
