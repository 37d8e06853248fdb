"""Responses about the objects of a user."""

from __future__ import annotations

from cts_core.model.base import Record
from cts_core.model.service import AllowedPath


class Roots(Record):
    """Response of ``/files/roots``: the folders, or buckets, in which the caller can look for objects."""

    roots: list[AllowedPath]


class FileSummary(Record):
    """Totals of the objects that match, of those that were looked at."""

    objects: int
    bytes: int
    missing: int
    """Those of them without a checksum."""
    scanned: int
    """Objects that were looked at."""
    complete: bool
    """Whether all were looked at; else ``next`` is where to go on, and the totals of all answers are added up."""
    next: str | None = None
