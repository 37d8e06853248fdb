"""Cursors of job listings: opaque texts that clients return to get the next page. Pure functions."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime, timedelta

from cts_core.errors import IllegalParameterError
from cts_core.model.record import JobPosition, JobSort

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def write_cursor(position: JobPosition, sort: JobSort, *, ascending: bool) -> str:
    """Return the cursor of a position in a listing of this order."""
    time = (position.time - _EPOCH) // _MICROSECOND
    text = f"{_order(sort, ascending=ascending)} {time} {position.job_id}"
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def read_cursor(cursor: str, sort: JobSort, *, ascending: bool) -> JobPosition:
    """Return the position in a listing of this order. Raises IllegalParameterError for a cursor of another order."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        order, time, job_id = text.decode().split(" ")
        position = JobPosition(_EPOCH + int(time) * _MICROSECOND, job_id)
    except (binascii.Error, ValueError, OverflowError) as e:
        raise IllegalParameterError(
            "The cursor is not one of this service: take it from 'next' of the page before"
        ) from e
    if order != _order(sort, ascending=ascending):
        raise IllegalParameterError(
            "The cursor belongs to a listing in another order: ask with the sort and order of the page before"
        )
    return position


def _order(sort: JobSort, *, ascending: bool) -> str:
    return f"{sort.value}{'+' if ascending else '-'}"
