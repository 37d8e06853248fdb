"""Reads what a newer CTS wrote: while a service is upgraded, servers of two versions share its database.

Fields that this version does not know are passed over, and every write leaves them as they are. A job that asks for
something by such a field, or is in a state of which we have not heard, is for the newer servers to drive.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

from bson.raw_bson import RawBSONDocument

from cts_core.errors import NewerRecordError
from cts_core.model.record import ContainerRecord, JobRecord, JobSummary
from cts_core.records.mongo import documents
from cts_core.states import JobState

log = logging.getLogger(__name__)

MAX_TOLD = 1024
"""Jobs that the log has told of, so that it does so once."""

_T = TypeVar("_T")


def summary(raw: RawBSONDocument) -> JobSummary:
    """A job without its files. Raises NewerRecordError when it is beyond this version."""
    return _read(raw, documents.to_summary)


def understood(raw: RawBSONDocument) -> JobSummary:
    """The same of a job to act upon. Raises NewerRecordError when it asks for what is beyond this version."""
    return _read(raw, documents.to_understood)


def record(raw: RawBSONDocument) -> JobRecord:
    """A whole job. Raises NewerRecordError when it is beyond this version."""
    return _read(raw, documents.to_record)


def container(raw: RawBSONDocument) -> ContainerRecord:
    """A container. Raises NewerRecordError when it is beyond this version."""
    return _read(raw, documents.to_container)


def state(raw: RawBSONDocument) -> JobState:
    """Where a container is. Raises NewerRecordError when it is beyond this version."""
    return _read(raw, documents.to_state)


def _read(raw: RawBSONDocument, parse: Callable[[RawBSONDocument], _T]) -> _T:
    try:
        return parse(raw)
    except ValueError as e:
        _tell(raw["id"], str(e))
        raise NewerRecordError(
            f"The job {raw['id']} says what this version of CTS does not know: ask a server of a newer one"
        ) from e


def summaries(found: Iterable[RawBSONDocument]) -> list[JobSummary]:
    """Those of the jobs that this version can read."""
    return known(found, documents.to_summary)


def drivable(found: Iterable[RawBSONDocument]) -> list[JobSummary]:
    """Those of the jobs of which this version understands all that is asked for."""
    return known(found, documents.to_understood)


def known(found: Iterable[RawBSONDocument], parse: Callable[[RawBSONDocument], _T]) -> list[_T]:
    """What this version makes of them; the log tells, once each, of those that it leaves to newer ones."""
    read = []
    for raw in found:
        try:
            read.append(parse(raw))
        except ValueError as e:
            _tell(raw["id"], str(e))
    return read


@functools.lru_cache(MAX_TOLD)
def _tell(job_id: str, why: str) -> None:
    log.warning("Job %s is left to servers of a newer version: %s", job_id, why)
