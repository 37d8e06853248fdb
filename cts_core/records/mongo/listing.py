"""Lists and counts jobs in MongoDB, by queries that walk an index in the order of the listing.

Also keeps each user's read marker: the time until which the user has seen what ended.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo import ASCENDING, DESCENDING

from cts_core.model.preview import JobPage
from cts_core.model.record import JobCount, JobPosition, JobQuery, JobSort
from cts_core.model.site import SiteName
from cts_core.records.mongo import documents, forward_compat
from cts_core.records.mongo.connection import Collections
from cts_core.records.mongo.schema import (
    BY_CREATION,
    BY_LABEL,
    BY_STATE,
    BY_UPDATE,
    CREATED,
    ENDED,
    IS_LIVE,
    LABELS,
    UPDATED,
    Keys,
    of_user,
    upsert,
)
from cts_core.states import JobState

Condition = dict[str, Any]

_SEARCHED = (
    "id",
    "image.name",
    "job_input.image",
    "job_input.cluster",
    "job_input.output_dir",
    LABELS,
    "error",
)


@dataclass(frozen=True)
class Listing:
    """A query as conditions of MongoDB."""

    column: str
    """The field that it is sorted by, before the id."""
    ascending: bool
    conditions: tuple[Condition, ...]
    index: Keys
    """The index that is walked, in its order or backwards."""

    @classmethod
    def of(cls, query: JobQuery) -> Listing:
        """Translate everything but the text and the position of a query."""
        column = CREATED if query.sort is JobSort.CREATED else UPDATED
        return cls(column, query.ascending, tuple(_filters(query)), _index(query))

    def and_(self, condition: Condition) -> Listing:
        """Return the same with one more condition."""
        return Listing(self.column, self.ascending, (*self.conditions, condition), self.index)

    def after(self, position: JobPosition) -> Listing:
        """Return only what comes after this position."""
        return self.and_(self._beyond(position, "$gt" if self.ascending else "$lt"))

    def at_least(self, position: JobPosition) -> Listing:
        """Return the same without what is older than this position."""
        here = {self.column: position.time, "id": position.job_id}
        return self.and_({"$or": [here, self._beyond(position, "$gt")]})

    def _beyond(self, position: JobPosition, than: str) -> Condition:
        time = position.time
        # The first condition says where in the index to begin, the others which jobs of that instant remain.
        return {
            self.column: {f"{than}e": time},
            "$or": [{self.column: {than: time}}, {"id": {than: position.job_id}}],
        }

    @property
    def condition(self) -> Condition:
        """The condition that a job has to meet."""
        return {"$and": list(self.conditions)} if self.conditions else {}

    @property
    def order(self) -> list[tuple[str, int]]:
        """The order of the jobs."""
        return self._order(ASCENDING if self.ascending else DESCENDING)

    @property
    def newest_first(self) -> list[tuple[str, int]]:
        """The order in which a search finds the oldest job that it considers."""
        return self._order(DESCENDING)

    def _order(self, direction: int) -> list[tuple[str, int]]:
        return [(self.column, direction), ("id", direction)]


def _index(query: JobQuery) -> Keys:
    if query.sort is JobSort.CREATED:
        return BY_CREATION if query.user is None else of_user(BY_CREATION)
    if query.labels:
        return BY_LABEL
    return BY_UPDATE if query.user is None else of_user(BY_UPDATE)


def _filters(query: JobQuery) -> Iterator[Condition]:
    if query.user is not None:
        yield {"user": query.user}
    if query.cluster is not None:
        yield {"job_input.cluster": query.cluster.value}
    if query.states:
        yield {"state": {"$in": [state.value for state in query.states]}}
    if query.ended is not None:
        yield {"state": {"$in": ENDED}} if query.ended else IS_LIVE
    if query.after is not None:
        yield {UPDATED: {"$gte": documents.round_up(query.after)}}
    if query.before is not None:
        yield {UPDATED: {"$lt": documents.round_up(query.before)}}
    for name in ("name", "tag", "digest"):
        if (value := getattr(query, f"image_{name}")) is not None:
            # The field of an image without a tag is absent, or null.
            yield {f"image.{name}": value or None}
    # One condition for each: the index finds the first, the others filter.
    for label in documents.label_pairs(query.labels):
        yield {LABELS: label}


def _has_text(text: str) -> Condition:
    # A pattern in BSON ends at its first zero byte.
    pattern = {"$regex": re.escape(text).replace("\0", r"\x00"), "$options": "i"}
    return {"$or": [{path: pattern} for path in _SEARCHED]}


async def page(db: Collections, query: JobQuery) -> JobPage:
    """Return a page of the jobs that match."""
    listing = Listing.of(query)
    oldest = None
    if query.text:
        oldest = await _oldest_searched(db, listing, query.searched)
        if oldest is not None:
            listing = listing.at_least(oldest)
        listing = listing.and_(_has_text(query.text))
    if query.position is not None:
        listing = listing.after(query.position)
    # One more than the page holds, to see whether there is another page.
    cursor = db.jobs.find(listing.condition, documents.SUMMARY, hint=list(listing.index))
    matches = await cursor.sort(listing.order).limit(query.limit + 1).to_list()
    shown = matches[: query.limit]
    return JobPage(
        jobs=await db.parse(forward_compat.listed, shown),
        next=_position(shown[-1], listing.column) if len(matches) > len(shown) else None,
        searched_until=oldest.time if oldest else None,
    )


async def _oldest_searched(db: Collections, listing: Listing, searched: int) -> JobPosition | None:
    """Return the position of the ``searched``-th latest job; None when there are no older ones."""
    fields = {"_id": 0, "id": 1, UPDATED: 1, "transition_times.time": 1}
    cursor = db.jobs.find(listing.condition, fields, hint=list(listing.index))
    jobs = await cursor.sort(listing.newest_first).skip(searched - 1).limit(2).to_list()
    return _position(jobs[0], listing.column) if len(jobs) > 1 else None


def _position(job: RawBSONDocument, column: str) -> JobPosition:
    document = documents.decode(job)
    time = document[UPDATED] if column == UPDATED else document["transition_times"][0]["time"]
    return JobPosition(time, document["id"])


async def counts(db: Collections, user: str | None) -> list[JobCount]:
    """Return how many jobs there are by site and state, of one user or of all, from the index alone."""
    sites = [site.value for site in SiteName]
    condition: Condition = {
        "state": {"$in": [state.value for state in JobState]},
        **({} if user is None else {"user": user}),
        "job_input.cluster": {"$in": sites},
    }
    group = {"_id": {"cluster": "$job_input.cluster", "state": "$state"}, "count": {"$sum": 1}}
    cursor = await db.jobs.aggregate(
        [{"$match": condition}, {"$group": group}], hint=dict(BY_STATE)
    )
    return [
        JobCount(SiteName(row["_id"]["cluster"]), JobState(row["_id"]["state"]), int(row["count"]))
        async for row in cursor
    ]


async def label_keys(db: Collections, user: str, latest: int) -> list[str]:
    """Return the keys of the labels of the user's ``latest`` jobs, sorted."""
    key = {"$arrayElemAt": [{"$split": [f"${LABELS}", "="]}, 0]}
    pipeline: list[dict[str, Any]] = [
        {"$match": {"user": user}},
        {"$sort": {UPDATED: DESCENDING, "id": DESCENDING}},
        {"$limit": latest},
        {"$unwind": f"${LABELS}"},
        {"$group": {"_id": key}},
    ]
    cursor = await db.jobs.aggregate(pipeline, hint=dict(of_user(BY_UPDATE)))
    return sorted([found["_id"] async for found in cursor])


async def set_last_look(db: Collections, user: str, time: datetime) -> None:
    """Move the user's read marker forward to this time; it never moves back."""
    await upsert(db.users, {"user": user}, {"$max": {"last_look": time}})


async def last_look(db: Collections, user: str) -> datetime | None:
    """Return the user's read marker."""
    document = await db.users.find_one({"user": user})
    return document["last_look"] if document else None
