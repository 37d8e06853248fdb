"""Requires that a job or a container is stored: functions that raise NoSuchJobError or NoSuchContainerError otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bson.raw_bson import RawBSONDocument

from cts_core.records.errors import no_such_container, no_such_job
from cts_core.records.mongo.connection import Collections


def require_job(document: RawBSONDocument | None, job_id: str) -> RawBSONDocument:
    """Return the document that was read of this job. Raises NoSuchJobError if there was none."""
    if document is None:
        raise no_such_job(job_id)
    return document


async def check_job(db: Collections, job_id: str) -> None:
    """Raise NoSuchJobError unless the job is stored."""
    require_job(await db.jobs.find_one({"id": job_id}, {"_id": 1}), job_id)


async def update_job(
    db: Collections, job_id: str, update: Mapping[str, Any] | Sequence[Mapping[str, Any]]
) -> None:
    """Update a job, whatever its state. Raises NoSuchJobError."""
    result = await db.jobs.update_one({"id": job_id}, update)
    if not result.matched_count:
        raise no_such_job(job_id)


async def check_container(db: Collections, job_id: str, number: int) -> None:
    """Raise NoSuchJobError or NoSuchContainerError unless the container is stored."""
    if await db.subjobs.find_one({"id": job_id, "sub_id": number}, {"_id": 1}) is None:
        await check_job(db, job_id)
        raise no_such_container(job_id, number)
