"""Reads and writes the tokens and the claims of remote workers in MongoDB."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from cts_core.model.worker import Claim, ContainerId
from cts_core.records.mongo.connection import Collections
from cts_core.records.mongo.require import check_container, check_job
from cts_core.records.mongo.schema import IS_LIVE

_CLAIM = "_cts.claim"


async def add_tokens(
    db: Collections, job_id: str, numbers: Mapping[str, int], *, until: datetime
) -> None:
    """Store tokens for containers of a job. MongoDB deletes expired ones."""
    await check_job(db, job_id)
    tokens = [
        {"hash": token_hash, "id": job_id, "sub_id": number, "until": until}
        for token_hash, number in numbers.items()
    ]
    if tokens:
        await db.tokens.insert_many(tokens)


async def find_token(db: Collections, token_hash: str, now: datetime) -> ContainerId | None:
    """Return the container that a token stands for; None unless the token is valid and its job live."""
    token = await db.tokens.find_one({"hash": token_hash, "until": {"$gt": now}})
    if token is None:
        return None
    # Read after the token: a job that has ended stays ended.
    live = await db.jobs.find_one({"id": token["id"], **IS_LIVE}, {"_id": 1})
    return ContainerId(token["id"], token["sub_id"]) if live is not None else None


async def claim(db: Collections, job_id: str, number: int, new: Claim) -> bool:
    """Give a container to a worker; return False if it is held by a claim that ``new`` may not follow.

    The filter expresses ``Claim.may_follow``.
    """
    fields = new.model_dump()
    same = {f"{_CLAIM}.{name}": value for name, value in fields.items()}
    earlier = {f"{_CLAIM}.process": new.process, f"{_CLAIM}.run": {"$lt": new.run}}
    result = await db.subjobs.update_one(
        {"id": job_id, "sub_id": number, "$or": [{_CLAIM: {"$exists": False}}, same, earlier]},
        {"$set": {_CLAIM: fields}},
    )
    if result.matched_count:
        return True
    await check_container(db, job_id, number)
    return False


async def find_claim(db: Collections, job_id: str, number: int) -> Claim | None:
    """Return the claim that holds a container; None if none does."""
    claimed = {"id": job_id, "sub_id": number, _CLAIM: {"$exists": True}}
    container = await db.subjobs.find_one(claimed, {"_id": 0, _CLAIM: 1})
    return Claim.model_validate(container["_cts"]["claim"]) if container else None


async def claims(db: Collections, job_id: str) -> dict[int, Claim]:
    """Return the claims on containers of a job by number; those without a claim are left out."""
    claimed = {"id": job_id, _CLAIM: {"$exists": True}}
    cursor = db.subjobs.find(claimed, {"_id": 0, "sub_id": 1, _CLAIM: 1})
    return {
        int(container["sub_id"]): Claim.model_validate(container["_cts"]["claim"])
        async for container in cursor
    }
