"""Reads what a newer CTS wrote: while a service is upgraded, servers of two versions share its database.

Fields that this version does not know are ignored, and every write leaves them as they are. A job whose input has such
a field, or whose state this version does not know, is left to the newer servers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TypeVar

from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument

from cts_core.errors import NewerRecordError
from cts_core.model.preview import ListedJob
from cts_core.model.record import ContainerRecord, JobRecord, JobSummary
from cts_core.records.errors import UNREADABLE, log_unreadable
from cts_core.records.mongo import documents
from cts_core.states import JobState

MAX_PARSED = 10_000
"""Live jobs that are kept as they were parsed."""
MAX_LISTED = 2_000
"""Jobs of listings that are kept so: the same ones are listed again and again, and those that have ended do not change."""

_UNREADABLE = (*UNREADABLE, BSONError)

_T = TypeVar("_T")


def summary(raw: RawBSONDocument) -> JobSummary:
    """Return a job without its files. Raises NewerRecordError when this version cannot read it."""
    return _read(raw, documents.to_summary)


def drivable(raw: RawBSONDocument) -> JobSummary:
    """Return the same of a job to act upon. Raises NewerRecordError, too, when its input has unknown fields."""
    return _read(raw, documents.to_drivable)


def record(raw: RawBSONDocument) -> JobRecord:
    """Return a whole job. Raises NewerRecordError when this version cannot read it."""
    return _read(raw, documents.to_record)


def container(raw: RawBSONDocument) -> ContainerRecord:
    """Return a container. Raises NewerRecordError when this version cannot read it."""
    return _read(raw, documents.to_container)


def state(raw: RawBSONDocument) -> JobState:
    """Return the state of a container. Raises NewerRecordError when this version cannot read it."""
    return _read(raw, documents.to_state)


def _read(raw: RawBSONDocument, parse: Callable[[RawBSONDocument], _T]) -> _T:
    try:
        return parse(raw)
    except _UNREADABLE as e:
        log_unreadable(raw["id"], e)
        raise NewerRecordError(
            f"The job {raw['id']} says what this version of CTS does not know: ask a server of a newer one, or, if there is "
            "none, an administrator to look at its record"
        ) from e


def summaries(raw_jobs: Iterable[RawBSONDocument]) -> list[JobSummary]:
    """Return those of the jobs that this version can read."""
    return readable(raw_jobs, documents.to_summary)


def listed(raw_jobs: Iterable[RawBSONDocument]) -> list[ListedJob]:
    """Return the same for a listing."""
    return readable(raw_jobs, lambda raw: parse_listed(raw.raw))


@functools.lru_cache(MAX_LISTED)
def parse_listed(raw: bytes) -> ListedJob:
    """Return a job of a listing. Raises one of UNREADABLE."""
    return documents.to_listed(raw)


def drivables(raw_jobs: Iterable[RawBSONDocument]) -> list[JobSummary]:
    """Return those of the jobs that this version can read, and whose input has no unknown fields."""
    return readable(raw_jobs, lambda raw: parse_drivable(raw.raw))


@functools.lru_cache(MAX_PARSED)
def parse_drivable(raw: bytes) -> JobSummary:
    """Return a live job, which its server reads in each cycle, and which has changed in few of them.

    Raises one of UNREADABLE.
    """
    return documents.to_drivable(RawBSONDocument(raw, documents.RAW_CODEC))


def readable(
    raw_jobs: Iterable[RawBSONDocument], parse: Callable[[RawBSONDocument], _T]
) -> list[_T]:
    """Parse those jobs that this version can read, and log the others once each."""
    parsed = []
    for raw in raw_jobs:
        try:
            parsed.append(parse(raw))
        except _UNREADABLE as e:
            log_unreadable(raw.get("id"), e)
    return parsed
